"""The parent and the children of a broker: who they are, who is there, and who is heard of (spec 04, 2.3 to 2.8).

Pure: messages and times in, calls of a `Port` out; no socket, no clock. Time is in seconds, any origin, given to
every method that needs it.

    transport -> neighbours.from_child(uuid, message, now) -> port.submit(peer, message) -> the broker's router
    transport -> neighbours.from_parent(message, now)      -> likewise
    router    -> Neighbour.deliver(message)                -> port.to_child(uuid, message) or port.to_parent(message)

How to drive it without a network, as a simulator does: make one `Neighbours` with its `Router` for each rank; write a
`Port` whose `to_child` and `to_parent` put (destination, message) into a queue of yours; hand what you take out of it
to `from_child` of the parent (with the sender's uuid) or to `from_parent` of the child. `submit` is
`route(router.receive(message, source))`, `route` is `endpoint.deliver(message)` for each delivery. Call `say_hello`
when a child is to join, `child_gone` and `parent_gone` when a connection breaks (after what was sent over it before),
`tick` every second or two. Encode messages on the way (`framing`), or copy them: a router changes them in place.
What a `Port` hears of a child's status goes into a `subtree.Subtree`; where its own status changes, `report_status`.

Rules:
- A peer is known by its uuid, which is the identity of its connection, and has said hello before anything else. Who
  is unknown is told to disconnect and otherwise ignored.
- A lost peer is lost for good: what it still sends is refused, and it comes back with another uuid or not at all.
- Losing a child fails what was asked of it, and tells services that clients behind it are gone; in that order, and
  before anybody hears of the new status.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from syslog import LOG_CRIT, LOG_DEBUG, LOG_ERR
from typing import Protocol

from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
    FLUX_MSGTYPE_CONTROL,
    FLUX_MSGTYPE_EVENT,
    FLUX_MSGTYPE_REQUEST,
    FLUX_MSGTYPE_RESPONSE,
    FLUX_ROLE_OWNER,
)
from flux.message import Message
from fluxlet.broker.notices import Notices
from fluxlet.broker.router import Delivery, Endpoint, Peer, Router
from fluxlet.overlay import greeting
from fluxlet.overlay.framing import DISCONNECT, HEARTBEAT, PACKED, STATUS, control
from fluxlet.overlay.greeting import GOODBYE, HELLO, VERSION, Hello
from fluxlet.overlay.subtree import ONLINE, STATUSES
from fluxlet.overlay.topology import Topology
from fluxlet.payload import UNREADABLE


class Port(Protocol):
    """What `Neighbours` wants done."""

    def to_parent(self, message: Message) -> None:
        """Sends a message to the parent."""

    def to_child(self, uuid: bytes, message: Message) -> None:
        """Sends a message to whoever has this identity; without effect if that is nobody."""

    def submit(self, source: Endpoint, message: Message) -> None:
        """A message has come from a neighbour, for the router."""

    def route(self, deliveries: list[Delivery]) -> None:
        """Makes deliveries."""

    def log(self, severity: int, text: str) -> None:
        """Logs a line."""

    def child_is(self, rank: int, status: str, error: str) -> None:
        """A child has another status; `error` says why it is not online."""

    def child_refused(self, rank: int, error: str) -> None:
        """A child was not let in, and why."""

    def child_is_torpid(self, rank: int, torpid: bool) -> None:
        """A child is not heard of any more, or again."""

    def parent_found(self) -> None:
        """The parent has let us in."""

    def parent_lost(self) -> None:
        """There is no parent any more, or it will not have us."""

    def said_goodbye(self) -> None:
        """The parent has taken leave of us."""


class Neighbour(Peer):
    """A broker next to this one, online."""

    def __init__(self, port: Port, rank: int, uuid: bytes, is_parent: bool, now: float) -> None:
        super().__init__(rank, uuid, is_parent)
        self.port = port
        self.is_parent = is_parent
        self.heard = now  # a child: when it was heard of last
        self.torpid = False
        # A child: what those behind it have asked, by their routes: services hear of their end.
        self.notices: dict[tuple[bytes, ...], Notices] = {}
        self.deliver = self._to_parent if is_parent else self._to_child  # type: ignore[method-assign]

    def _to_parent(self, message: Message) -> None:
        self.port.to_parent(message)

    def _to_child(self, message: Message) -> None:
        self.port.to_child(self.uuid, message)


class Neighbours:
    """The neighbours of one broker.

    Args:
        router: of the broker; knows its rank and uuid.
        topology: who is whose parent.
        hosts: the names of the hosts, by rank; empty: not known.
        port: gets things done.
    """

    def __init__(self, router: Router, topology: Topology, hosts: Sequence[str], port: Port) -> None:
        self.router = router
        self.topology = topology
        self.hosts = hosts
        self.port = port
        self.version = VERSION
        self.accepting = True
        """False: we are about to go, and let nobody in."""
        self.pack: Callable[[bytes | None], None] | None = None
        """Called with the uuid of a child, None for the parent, that takes messages in one part; None: we do not."""
        self.children: dict[bytes, Neighbour] = {}
        self._ranks: dict[int, Neighbour] = {}
        self._spent: dict[int, str] = {}  # the last uuid of a child that is gone
        self._wanted = False  # hello is said, and not answered
        self._status = self._told = ""  # of our subtree, and what the parent was told of it
        self._parting = False  # goodbye is said
        self._sent = self._sent_before = 0  # messages to the parent
        self._idle_since = 0.0
        self._sequence = 0

    def host(self, rank: int) -> str:
        """The name of a rank's host."""
        return self.hosts[rank] if 0 <= rank < len(self.hosts) else "unknown"

    # Children.

    def from_child(self, uuid: bytes, message: Message, now: float) -> None:
        """Takes a message that has come over the connection with this identity."""
        child = self.children.get(uuid)
        if child is None:
            if message._type == FLUX_MSGTYPE_REQUEST and message.topic_bytes == HELLO:
                self._let_in(uuid, message, now)
            else:
                self.port.to_child(uuid, control(DISCONNECT))
            return
        child.heard = now
        if child.torpid:
            self._responsive(child)
        kind = message._type
        if kind == FLUX_MSGTYPE_REQUEST:
            topic = message.topic_bytes or b""
            if topic == GOODBYE and not message.routes:
                self.port.to_child(uuid, greeting.answer(message))
                self._lose(child, "offline", "administrative shutdown")
                return
            if topic == HELLO and not message.routes:
                # It was let in before: said again, it changes nothing.
                self.port.log(LOG_ERR, f"ignoring another hello of {self.host(child.rank)} (rank {child.rank})")
                self.port.to_child(uuid, greeting.refusal(message, errno.EINVAL, "hello was said before"))
                return
            self._note(child, message, topic)
        elif kind == FLUX_MSGTYPE_CONTROL:
            self._child_control(child, message)
            return
        self.port.submit(child, message)

    def _let_in(self, uuid: bytes, message: Message, now: float) -> None:
        """Somebody says hello: who is a child of ours, and may be, is one from now on."""
        try:
            hello = greeting.read_hello(message)
            status = STATUSES[hello.status]
        except (*UNREADABLE, IndexError):
            self.port.to_child(uuid, greeting.refusal(message, errno.EPROTO, None))
            return
        if hello.uuid.encode("utf-8", "surrogateescape") != uuid or status not in ONLINE:
            self.port.to_child(uuid, greeting.refusal(message, errno.EPROTO, None))
            return
        if not message._rolemask & FLUX_ROLE_OWNER:
            self.port.to_child(uuid, greeting.refusal(message, errno.EPERM, None))
            return
        problem = self._problem(hello)
        if problem is not None:
            self.port.to_child(uuid, greeting.refusal(message, errno.EINVAL, problem))
            return
        if not self.accepting:
            self.port.to_child(uuid, control(DISCONNECT))
            return
        rank = hello.rank
        name = f"{hello.hostname or self.host(rank)} (rank {rank})"
        old = self._ranks.get(rank)
        if old is not None:
            self.port.log(LOG_ERR, f"{name} reconnected after crash, dropping old connection state")
            self._lose(old, "lost", "lost connection")
        severity = LOG_DEBUG if old is None else LOG_ERR
        child = Neighbour(self.port, rank, uuid, False, now)
        self.children[uuid] = self._ranks[rank] = child
        self.router.attach(child)
        self.port.to_child(uuid, greeting.welcome(message, self.router.uuid))
        self.port.log(severity, f"accepting connection from {name} status {status}")
        self.port.child_is(rank, status, "")

    def _problem(self, hello: Hello) -> str | None:
        """What is wrong with one who says hello, as he is told; the log and who asks for the reason hear of it, too."""
        rank, host = hello.rank, hello.hostname
        known = self.host(rank)
        if host and self.hosts and host != known:
            text = f"{known} is configured as rank {rank}: mismatched config?"
            self.port.log(LOG_ERR, f"rejecting connection from {host} (rank {rank}): {text}")
            return text
        if not 0 < rank < self.topology.size or self.topology.parent(rank) != self.router.rank:
            text = f"rank {rank} is not a child of rank {self.router.rank}: mismatched config?"
            self.port.log(LOG_ERR, f"rejecting connection from {host or known} (rank {rank}): {text}")
            return text
        if hello.version >> 8 != self.version >> 8:
            theirs, ours = greeting.version_text(hello.version), greeting.version_text(self.version)
            text = f"client ({theirs}) version mismatched with server ({ours})"
            self.port.log(LOG_ERR, f"rejecting connection from {host or known} (rank {rank}): {text}")
            self.port.child_refused(rank, text)
            return text
        if self._spent.get(rank) == hello.uuid:
            text = f"rank {rank} is lost: its uuid cannot be used again"
            self.port.log(LOG_ERR, f"rejecting connection from {host or known} (rank {rank}): {text}")
            return text
        return None

    def _child_control(self, child: Neighbour, message: Message) -> None:
        if message.aux1 == PACKED and self.pack is not None:
            self.port.to_child(child.uuid, control(PACKED))
            self.pack(child.uuid)
        if message.aux1 != STATUS or message.aux2 >= len(STATUSES):
            return
        status = STATUSES[message.aux2]
        if status in ("lost", "offline"):
            self._lose(child, status, "lost connection")
        else:
            self.port.child_is(child.rank, status, "")

    def _note(self, child: Neighbour, message: Message, topic: bytes) -> None:
        """Somebody behind a child asks for something: the service hears when he is gone."""
        routes = message.routes or ()
        notices = child.notices.get(routes)
        if message.flags & FLUX_MSGFLAG_NORESPONSE:
            if notices is not None and topic.endswith(b".disconnect"):
                for key in [key for key in notices.first if key[0] == topic and key[1] == message.aux1]:
                    del notices.first[key]
                if not notices.first:
                    del child.notices[routes]
            return
        if notices is None:
            notices = child.notices[routes] = Notices()
        elif (topic, message.aux1) in notices.known:
            return
        notices.keep(message, topic)

    def child_gone(self, uuid: bytes) -> None:
        """A child's connection is broken."""
        child = self.children.get(uuid)
        if child is not None:
            self._failed(child, "failed", "lost connection")

    def disconnect_child(self, rank: int) -> None:
        """A child is given up on request. Raises KeyError if it is not online."""
        child = self._ranks[rank]
        self.port.to_child(child.uuid, control(DISCONNECT))
        self._failed(child, "disconnected by request", "administrative disconnect")

    def _failed(self, child: Neighbour, how: str, error: str) -> None:
        below = self.topology.subtree_size(child.rank) - 1
        text = f"{self.host(child.rank)} (rank {child.rank}) {how}"
        if below:
            text += f" and severed contact with {below} other nodes"
        self.port.log(LOG_ERR, text)
        self._lose(child, "lost", error)

    def _lose(self, child: Neighbour, status: str, error: str) -> None:
        """A child is not there any more."""
        del self.children[child.uuid]
        del self._ranks[child.rank]
        self._spent[child.rank] = child.uuid.decode("utf-8", "surrogateescape")
        deliveries: list[Delivery] = []
        notices, child.notices = child.notices, {}
        for kept in notices.values():
            for notice in kept.take():
                deliveries += self.router.receive(notice, child)
        deliveries += self.router.detach(child)
        self.port.route(deliveries)
        if child.torpid:
            child.torpid = False
            self.port.child_is_torpid(child.rank, False)
        self.port.child_is(child.rank, status, error)

    def _responsive(self, child: Neighbour) -> None:
        child.torpid = False
        self.port.log(LOG_ERR, f"broker on {self.host(child.rank)} (rank {child.rank}) is responsive now")
        self.port.child_is_torpid(child.rank, False)

    # The parent.

    def say_hello(self, hostname: str, status: str, now: float) -> None:
        """Asks the parent to let us in; `status` is that of our subtree."""
        self._wanted = True
        self._status = self._told = status
        self._idle_since = now
        hello = Hello(self.router.rank, self.version, self.router.uuid.decode(), STATUSES.index(status), hostname)
        self.port.to_parent(greeting.hello(hello))

    def from_parent(self, message: Message, now: float) -> None:
        """Takes a message that the parent has sent."""
        kind = message._type
        if kind == FLUX_MSGTYPE_CONTROL:
            self._parent_control(message)
            return
        parent = self.router.parent
        if parent is None:
            if self._wanted and kind == FLUX_MSGTYPE_RESPONSE and message.topic_bytes == HELLO:
                self._wanted = False
                self._welcome(message, now)
            return
        if kind == FLUX_MSGTYPE_EVENT:
            self._check_sequence(message.aux1)
        elif kind == FLUX_MSGTYPE_RESPONSE and not message.routes and message.topic_bytes in (GOODBYE, HELLO):
            if self._parting and message.topic_bytes == GOODBYE:
                self.port.said_goodbye()
            return
        self.port.submit(parent, message)

    def _welcome(self, message: Message, now: float) -> None:
        rank = self.topology.parent(self.router.rank)
        if message.aux1:
            text = (message.raw or b"").rstrip(b"\0").decode("utf-8", "replace")
            self.port.log(LOG_ERR, f"overlay.hello: {text or os.strerror(message.aux1)}")
            self.port.parent_lost()
            return
        try:
            uuid = greeting.read_welcome(message).uuid
        except UNREADABLE as exc:
            self.port.log(LOG_ERR, f"overlay.hello: {exc}")
            self.port.parent_lost()
            return
        self.router.attach(Neighbour(self.port, rank, uuid.encode("utf-8", "surrogateescape"), True, now))
        self.port.log(LOG_DEBUG, f"hello parent {rank} {uuid}")
        if self.pack is not None:
            self.port.to_parent(control(PACKED))
        self.report_status(self._status)
        self.port.parent_found()

    def _parent_control(self, message: Message) -> None:
        rank = self.topology.parent(self.router.rank)
        if message.aux1 == DISCONNECT:
            self.port.log(LOG_CRIT, f"{self.host(rank)} (rank {rank}) sent disconnect control message")
            self.lose_parent()
        elif message.aux1 == PACKED and self.pack is not None:
            self.pack(None)
        else:
            self.port.log(LOG_ERR, "DROP upstream control topic - : unknown control type")

    def _check_sequence(self, number: int) -> None:
        """Events are numbered without gaps; what is missing is lost, and somebody should know."""
        expected = self._sequence + 1
        if self._sequence and number > expected:
            lost = f"lost event {expected}" if number == expected + 1 else f"lost events {expected}-{number - 1}"
            self.port.log(LOG_ERR, lost)
        elif self._sequence and number < expected:
            self.port.log(LOG_DEBUG, f"duplicate event {number}")
            return
        self._sequence = number

    def parent_gone(self) -> None:
        """The connection with the parent is broken."""
        if not self._parting and (self._wanted or self.router.parent is not None):
            rank = self.topology.parent(self.router.rank)
            self.port.log(LOG_CRIT, f"{self.host(rank)} (rank {rank}) lost connection")
            self.lose_parent()

    def lose_parent(self) -> None:
        """There is no parent any more: what was asked of it fails, and so does what is asked from now on."""
        parent, self._wanted = self.router.parent, False
        if parent is not None:
            self.port.route(self.router.detach(parent, "overlay disconnect"))
        self.port.parent_lost()

    def say_goodbye(self) -> bool:
        """Takes leave of the parent: nothing is sent to it after that. False if there is nobody to say it to."""
        if self.router.parent is None or self._parting:
            return False
        self.port.to_parent(greeting.goodbye())
        self._parting = True
        return True

    @property
    def parting(self) -> bool:
        """True once goodbye is said: nothing more may be sent to the parent."""
        return self._parting

    def report_status(self, status: str) -> None:
        """The status of our subtree has changed: the parent is told."""
        self._status = status
        if self.router.parent is not None and not self._parting and status != self._told:
            self._told = status
            self.port.to_parent(control(STATUS, STATUSES.index(status)))

    def sent_to_parent(self) -> None:
        """A message has gone to the parent: it hears of us."""
        self._sent += 1

    # Time.

    def tick(self, now: float, torpid_min: float, torpid_max: float) -> None:
        """To be called every second or so.

        Args:
            torpid_min: a child that has sent nothing for so long says that it is there; seconds.
            torpid_max: one that is not heard of for so long is torpid; 0: nobody ever is.
        """
        if self._sent != self._sent_before:
            self._sent_before, self._idle_since = self._sent, now
        elif self.router.parent is not None and not self._parting and now - self._idle_since >= torpid_min:
            self.port.to_parent(control(HEARTBEAT))
        for child in tuple(self.children.values()):
            silence = now - child.heard
            if torpid_max and silence >= torpid_max and not child.torpid:
                child.torpid = True
                name = f"broker on {self.host(child.rank)} (rank {child.rank})"
                self.port.log(LOG_ERR, f"{name} has been unresponsive for {silence:g}s")
                self.port.child_is_torpid(child.rank, True)
            elif child.torpid and not torpid_max:
                self._responsive(child)
