"""The world of the simulator: virtual time, the network, and the brokers that live and die in it.

Everything a run does follows from its seed. Nothing here waits: time is a number that jumps to the next thing that is
to happen, a message's arrival or a timer's end.

What runs in it is the real thing: the brokers' routers, neighbours, subtrees and modules (`fluxlet.broker.broker`,
`fluxlet.overlay`, `fluxlet.modules`). What stands in are the sockets below `fluxlet.overlay.neighbours` (class `Link`)
and below `fluxlet.broker.clients` (`services.SimClient`), and the clock.

The network keeps what connections promise: what arrives, arrives in order; a connection breaks for good, and each side
hears of that in its own time. Messages are encoded and decoded on their way.
"""

from __future__ import annotations

import gc
import hashlib
import heapq
import random
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NoReturn
from unittest import mock

from flux.message import Message
from flux.reactor import Reactor, tls
from fluxlet.broker.attributes import Attributes
from fluxlet.broker.broker import Broker
from fluxlet.broker.router import Delivery, Endpoint
from fluxlet.modules.barrier import BarrierService
from fluxlet.modules.event import Event
from fluxlet.modules.groups import Groups
from fluxlet.modules.overlay import Overlay
from fluxlet.overlay.framing import from_parts, to_parts
from fluxlet.overlay.neighbours import Neighbours
from fluxlet.overlay.topology import Topology

if TYPE_CHECKING:
    from sim.services import SimService

#: Where the clock of the real world is looked at by what runs here.
_CLOCKS = (
    "flux.reactor.timers.monotonic",
    "flux.reactor.loop.monotonic",
    "fluxlet.broker.broker.monotonic",
    "fluxlet.broker.host.monotonic",
    "fluxlet.broker.module_reactor.monotonic",
    "fluxlet.modules.overlay.monotonic",
)
_TICK = 2.0
_TORPID = (5.0, 30.0)


class Broken(AssertionError):
    """A rule that must hold does not."""


class World:
    """One run.

    Args:
        seed: of all that is chance.
        size: number of ranks.
        topo: a `tbon.topo` value; custom: a tree in which a parent's rank may be higher than its children's.
        keep: how many lines of the trace are kept.
    """

    def __init__(self, seed: int, size: int, topo: str, keep: int = 5000) -> None:
        self.random = random.Random(seed)
        self.now = 1.0
        self.topology = Topology.parse(topo, size, self._parents(size) if topo == "custom" else ())
        self.size = size
        self.reactor = Reactor()
        self.nodes: list[Node | None] = [None] * size
        """The living broker of each rank."""
        self.trace: deque[str] = deque(maxlen=keep)
        self.digest = hashlib.sha256()
        self.steps = 0
        self.faults = 0
        """What has broken so far: connections, brokers."""
        self.broken: Broken | None = None
        """The first rule that was found broken."""
        self.slow = 0.001
        """The mean time that a message takes, in seconds."""
        self.on_join: Callable[[Node], None] = lambda node: None
        """Called when a broker has become a part of the instance."""
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0

    def _parents(self, size: int) -> list[int]:
        """The parents of a tree that nobody has planned; it is not nearly a chain if there are many.

        What all ranks tell all those above them are as many messages as all their levels together: with thousands in
        a chain, millions.
        """
        recent = max(6, size // 8)
        order = [0, *self.random.sample(range(1, size), size - 1)]
        parents = [-1] * size
        for place, rank in enumerate(order[1:], 1):
            parents[rank] = order[self.random.randrange(max(0, place - recent), place)]
        return parents

    def fail(self, text: str) -> NoReturn:
        """A rule is broken. Raises the first such Broken.

        Clients are called from within the modules that answer them, which would take what is raised for a failure of
        their own, and the broker that for its: it is kept, and raised again, so that it is what the run ends with.
        """
        if self.broken is None:
            self.broken = Broken(text)
        raise self.broken

    # Time.

    def say(self, text: str) -> None:
        """A line of the trace."""
        line = f"{self.now:.6f} {text}"
        self.trace.append(line)
        self.digest.update(line.encode())

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Has `what` done at a time."""
        self._order += 1
        heapq.heappush(self._heap, (when, self._order, what))

    def soon(self, mean: float, what: Callable[[], None]) -> None:
        """Has `what` done after a while, `mean` seconds on average."""
        self.at(self.now + self.random.expovariate(1 / mean), what)

    def run(self, seconds: float) -> None:
        """Lets the world go on for so long. Raises Broken."""
        end = self.now + seconds
        heap, timers = self._heap, self.reactor.timers
        while True:
            deadline = timers.next_deadline()
            due = heap[0][0] if heap else end + 1
            if deadline is not None and deadline <= due:
                if deadline > end:
                    break
                self.now = max(self.now, deadline)
                timer = timers.pop_due(self.now, timers.last_sequence)
                if timer is not None:
                    timer.callback()
            else:
                if due > end:
                    break
                self.now = due
                heapq.heappop(heap)[2]()
            self.settle()
        self.now = end

    def settle(self) -> None:
        """What has happened has its consequences, as at the end of a pass of the loop."""
        self.steps += 1
        ready = self.reactor.ready
        while ready:
            # As `Reactor` does it; of all the brokers on it, only those that have something to do.
            event = ready.popleft()
            event.ready, event.dispatching = False, True
            more = event.dispatch()
            event.dispatching = False
            if more and not event.ready:
                event.ready = True
                if event.active:
                    ready.append(event)
        if tls.exception is not None:
            exc, tls.exception = tls.exception, None
            raise exc
        if self.broken is not None:
            raise self.broken

    # Brokers.

    def living(self) -> list[Node]:
        """The brokers that are part of the instance."""
        return [node for node in self.nodes if node is not None and node.online]

    def boot(self, rank: int) -> None:
        """Starts the broker of a rank; it joins as soon as its parent is there."""
        if self.nodes[rank] is not None:
            return
        node = self.nodes[rank] = Node(self, rank)
        if rank == 0:
            node.joined()
        else:
            self._connect(node)

    def _connect(self, node: Node) -> None:
        if not node.alive:
            return
        parent = self.nodes[self.topology.parent(node.rank)]
        if parent is None or not parent.online:
            self.soon(0.05, lambda: self._connect(node))
            return
        node.link = Link(self, node, parent)
        parent.links[node.broker.uuid] = node.link
        node.neighbours.say_hello("", node.overlay.subtree.status, self.now)

    def kill(self, rank: int) -> None:
        """A broker is gone without a word."""
        node = self.nodes[rank]
        if node is not None:
            self.say(f"kill {rank}")
            node.die()

    @contextmanager
    def time(self) -> Iterator[World]:
        """While this lasts, this world's time is the time, and its chance the chance."""

        def clock() -> float:
            return self.now

        def make_uuid() -> uuid.UUID:
            return uuid.UUID(int=self.random.getrandbits(128))

        with ExitStack() as stack:
            for place in _CLOCKS:
                stack.enter_context(mock.patch(place, clock))
            stack.enter_context(mock.patch.object(uuid, "uuid4", make_uuid))
            stack.callback(self.reactor.close)
            # Looking for garbage among the objects of thousands of brokers takes longer than the run.
            stack.callback(gc.enable)
            gc.disable()
            yield self


class Link:
    """The connection of a child with its parent."""

    def __init__(self, world: World, child: Node, parent: Node) -> None:
        self.world = world
        self.child = child
        self.parent = parent
        self.open = True
        self.held = 0.0
        """Nothing arrives before this time: a network that is parted."""
        self._arrivals = [0.0, 0.0]  # the last one upwards, and downwards

    def _carry(self, upwards: bool, message: Message) -> None:
        world = self.world
        sender = self.child if upwards else self.parent
        if not self.open or not sender.alive:
            return
        parts = to_parts(message)
        direction = 0 if upwards else 1
        when = max(world.now + world.random.expovariate(1 / world.slow), self._arrivals[direction], self.held)
        self._arrivals[direction] = when
        world.at(when, lambda: self._arrive(upwards, parts))

    def up(self, message: Message) -> None:
        """Sends to the parent."""
        self._carry(True, message)

    def down(self, message: Message) -> None:
        """Sends to the child."""
        self._carry(False, message)

    def _arrive(self, upwards: bool, parts: list[bytes]) -> None:
        receiver = self.parent if upwards else self.child
        if not self.open or not receiver.alive:
            return
        message = from_parts(parts)
        world = self.world
        if upwards:
            world.say(f"{self.child.rank}>{receiver.rank} {message.type_str} {message.topic_bytes!r}")
            receiver.neighbours.from_child(self.child.broker.uuid, message, world.now)
        else:
            world.say(f"{self.parent.rank}>{receiver.rank} {message.type_str} {message.topic_bytes!r}")
            receiver.neighbours.from_parent(message, world.now)

    def hold(self, seconds: float) -> None:
        """Nothing passes for so long; then all of it."""
        self.held = max(self.held, self.world.now + seconds)

    def cut(self, lose: bool) -> None:
        """The connection breaks: at once, or behind what is on its way."""
        if not self.open:
            return
        self.world.faults += 1
        self.world.say(f"cut {self.child.rank}-{self.parent.rank}{' with loss' if lose else ''}")
        last = self.world.now if lose else max(self.world.now, *self._arrivals)
        self.world.at(last, self._close)

    def _close(self) -> None:
        if not self.open:
            return
        self.open = False
        world = self.world
        world.soon(0.01, self._tell_parent)
        world.soon(0.01, self._tell_child)

    def _tell_parent(self) -> None:
        if self.parent.alive:
            self.parent.neighbours.child_gone(self.child.broker.uuid)
            self.parent.links.pop(self.child.broker.uuid, None)

    def _tell_child(self) -> None:
        if self.child.alive:
            self.child.parent_gone()


class Node:
    """One broker, from its start to its death: a port of its neighbours (`fluxlet.overlay.neighbours.Port`)."""

    def __init__(self, world: World, rank: int) -> None:
        self.world = world
        self.rank = rank
        self.alive = True
        self.died_at = -1.0
        self.online = False
        self.link: Link | None = None
        self.links: dict[bytes, Link] = {}
        attributes = Attributes({})
        for name, value in {"rank": rank, "size": world.size, "hostname": f"n{rank}"}.items():
            attributes.set_internal(name, str(value))
        attributes.set_internal("broker.uuid", str(uuid.uuid4()))
        topology = world.topology
        self.broker = Broker(attributes, None, None, lambda target: topology.towards(rank, target), world.reactor)
        self.broker.log.write = self._log  # type: ignore[method-assign]
        self.broker.on_failure = lambda module: self.fail(f"module {module.name} has failed")
        self.neighbours = Neighbours(self.broker.router, topology, (), self)
        module = self.broker.load("overlay", Overlay)
        assert isinstance(module.instance, Overlay)
        self.overlay = module.instance
        self.overlay.grow(topology)
        self.overlay.status_changed = self.neighbours.report_status
        self.service: SimService | None = None
        world.say(f"start {rank} {self.broker.uuid[:8].decode()}")
        self._tick()

    def fail(self, text: str) -> NoReturn:
        """A rule is broken here. Raises Broken."""
        self.world.fail(f"rank {self.rank}: {text}")

    def _tick(self) -> None:
        if self.alive:
            self.neighbours.tick(self.world.now, *_TORPID)
            self.world.at(self.world.now + _TICK, self._tick)

    def _log(self, severity: int, text: str, appname: str = "broker") -> None:
        if self.alive:
            self.world.say(f"{self.rank} log {severity} {text}")

    def joined(self) -> None:
        """We are part of the instance: services start, clients may come."""
        from sim.services import SimService

        self.online = True
        broker = self.broker
        broker.load("event", Event, internal=True)
        broker.load("groups", Groups)
        broker.load("barrier", BarrierService)
        service = broker.load("sim", SimService).instance
        assert isinstance(service, SimService)
        self.service = service
        service.world = self.world
        self.world.say(f"joined {self.rank}")
        self.world.on_join(self)

    def die(self) -> None:
        """The process is no more."""
        world = self.world
        if not self.alive:
            return
        self.alive = self.online = False
        self.died_at = world.now
        world.faults += 1
        world.nodes[self.rank] = None
        lose = world.random.random() < 0.5
        for link in [self.link, *self.links.values()]:
            if link is not None:
                link.cut(lose)

    def parent_gone(self) -> None:
        """The connection with the parent has ended: as `fluxlet.broker.overlay_port` takes it."""
        if self.neighbours.parting:
            self.said_goodbye()
        else:
            self.neighbours.parent_gone()

    # As a port.

    def to_parent(self, message: Message) -> None:
        """Sends a message up."""
        if self.link is not None and not self.neighbours.parting:
            self.neighbours.sent_to_parent()
            self.link.up(message)

    def to_child(self, uuid: bytes, message: Message) -> None:
        """Sends a message down."""
        link = self.links.get(uuid)
        if link is not None:
            link.down(message)

    def submit(self, source: Endpoint, message: Message) -> None:
        """A message for the router."""
        self.broker.submit(source, message)

    def route(self, deliveries: list[Delivery]) -> None:
        """Makes deliveries."""
        self.broker.route(deliveries)

    def log(self, severity: int, text: str) -> None:
        """Logs a line."""
        self._log(severity, text, "overlay")

    def child_is(self, rank: int, status: str, error: str) -> None:
        """A child has another status."""
        self.overlay.child_is(rank, status, error)

    def child_refused(self, rank: int, error: str) -> None:
        """A child was not let in."""
        self.overlay.child_refused(rank, error)

    def child_is_torpid(self, rank: int, torpid: bool) -> None:
        """A child is not heard of, or again."""
        self.overlay.child_is_torpid(rank, torpid)

    def parent_found(self) -> None:
        """The parent has let us in."""
        if not self.online:
            self.joined()

    def parent_lost(self) -> None:
        """A broker without a parent ends, soon; what was asked of it is answered meanwhile."""
        if self.alive:
            self.world.say(f"orphan {self.rank}")
            self.world.soon(0.02, self.die)

    def said_goodbye(self) -> None:
        """We go in good order."""
        if self.alive:
            self.die()


def replay_command(seed: int, size: int | None) -> str:
    """What shows one run again."""
    more = "" if size is None else f" --size={size}"
    return f"python tests/sim/run.py --seed={seed}{more} --trace"
