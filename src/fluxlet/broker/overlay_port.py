"""Where a broker meets the other brokers: sockets, neighbours, router, the module `overlay`, and its life.

    Transport -> OverlayPort -> Neighbours -> OverlayPort.submit -> the broker's router
    the broker's router -> Neighbour.deliver -> OverlayPort.to_parent, to_child -> Transport

It decides nothing: what a message of a neighbour means is for `fluxlet.overlay.neighbours` to say, what follows for
this broker's life is for `fluxlet.broker.membership`.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from flux.message import Message
from flux.util.durations import parse_fsd
from fluxlet.broker.router import Delivery, Endpoint
from fluxlet.overlay.neighbours import Neighbours

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker
    from fluxlet.broker.membership import Membership
    from fluxlet.modules.overlay import Overlay
    from fluxlet.overlay.bootstrap.boot import Boot
    from fluxlet.overlay.zmq import Transport

#: Seconds between looks at who is heard of.
_TICK = 1.0
#: Seconds that a parent which was there may be unreachable.
_PATIENCE = 5.0
#: Ticks after which strangers may be mentioned in the log again.
_FORGET = 60


class OverlayPort:
    """The overlay's end in one broker.

    Args:
        broker: its modules are loaded.
        service: its module `overlay`.
        transport: its sockets.
        boot: what was found out about the instance.
        membership: hears what becomes of parent and children.
    """

    def __init__(
        self,
        broker: Broker,
        service: Overlay,
        transport: Transport,
        boot: Boot,
        membership: Membership,
    ) -> None:
        self.broker = broker
        self.service = service
        self.transport = transport
        self.membership = membership
        self.neighbours = Neighbours(broker.router, boot.topology, boot.hosts, self)
        self.neighbours.pack = transport.pack
        self.submit: Callable[[Endpoint, Message], None] = broker.submit
        self.route: Callable[[list[Delivery]], None] = broker.route
        self._ticks = 0
        self._patient = boot.patient
        self._unreachable = broker.reactor.timer(_PATIENCE, 0.0, self._give_parent_up)
        service.port = self
        service.status_changed = self.neighbours.report_status
        transport.watch(broker.reactor, self, self.log)
        self._timer = broker.reactor.timer(_TICK, _TICK, self._tick)
        self._timer.start()

    def close(self) -> None:
        """Ends all connections."""
        self._timer.stop()
        self._unreachable.stop()
        self.transport.close()

    # Of the transport.

    def from_child(self, uuid: bytes, message: Message) -> None:
        """A message has come from below."""
        if self.service.tracing:
            self.service.show("rx", self.neighbours.children.get(uuid), message)
        self.neighbours.from_child(uuid, message, self.broker.now)

    def from_parent(self, message: Message) -> None:
        """A message has come from above."""
        if self.service.tracing:
            self.service.show("rx", self.broker.router.parent, message)
        self.neighbours.from_parent(message, self.broker.now)

    def child_gone(self, uuid: bytes) -> None:
        """A connection from below has ended."""
        self.neighbours.child_gone(uuid)

    def parent_gone(self) -> None:
        """The connection with the parent has ended."""
        if self.neighbours.parting:
            self.membership.said_goodbye()
        else:
            self.neighbours.parent_gone()

    def parent_unreachable(self) -> None:
        """An attempt to connect to the parent has failed. It will be made again, but not for ever."""
        if not self._patient and not self._unreachable.active and self.broker.router.parent is None:
            self._unreachable.reset(_PATIENCE, 0.0)

    def _give_parent_up(self) -> None:
        if self.broker.router.parent is None:
            self.neighbours.parent_gone()

    # Of the neighbours.

    def to_parent(self, message: Message) -> None:
        """Sends a message up."""
        if self.neighbours.parting:
            return
        if self.service.tracing:
            self.service.show("tx", self.broker.router.parent, message)
        self.neighbours.sent_to_parent()
        self.transport.to_parent(message)

    def to_child(self, uuid: bytes, message: Message) -> None:
        """Sends a message down."""
        if self.service.tracing:
            self.service.show("tx", self.neighbours.children.get(uuid), message)
        self.transport.to_child(uuid, message)

    def log(self, severity: int, text: str) -> None:
        """Logs in the name of the overlay."""
        self.broker.log.write(severity, text, "overlay")

    def child_is(self, rank: int, status: str, error: str) -> None:
        """A child has another status."""
        self.service.child_is(rank, status, error)
        self.membership.children_changed()

    def child_refused(self, rank: int, error: str) -> None:
        """A child was not let in."""
        self.service.child_refused(rank, error)

    def child_is_torpid(self, rank: int, torpid: bool) -> None:
        """A child is not heard of, or again."""
        self.service.child_is_torpid(rank, torpid)

    def parent_found(self) -> None:
        """The parent has let us in."""
        self.membership.parent_found()

    def parent_lost(self) -> None:
        """There is no parent any more."""
        self.membership.parent_lost()

    def said_goodbye(self) -> None:
        """The parent has answered our goodbye."""
        self.membership.said_goodbye()

    # Orders.

    def say_hello(self) -> None:
        """Asks the parent to let us in."""
        hostname = self.broker.attributes.visible.get("hostname", "")
        self.neighbours.say_hello(hostname, self.service.subtree.status, self.broker.now)

    def say_goodbye(self) -> bool:
        """Takes leave of the parent; False if there is none."""
        return self.neighbours.say_goodbye()

    def disconnect_child(self, rank: int) -> None:
        """Gives up a child on request. Raises KeyError if it is not online."""
        self.neighbours.disconnect_child(rank)

    def lose_parent(self) -> None:
        """Gives up the parent."""
        self.neighbours.lose_parent()

    def _tick(self) -> None:
        self._ticks += 1
        if self._ticks % _FORGET == 0:
            self.transport.forget_reports()
        visible = self.broker.attributes.visible
        torpid_min, torpid_max = parse_fsd(visible["tbon.torpid_min"]), parse_fsd(visible["tbon.torpid_max"])
        self.neighbours.tick(monotonic(), torpid_min, torpid_max)
