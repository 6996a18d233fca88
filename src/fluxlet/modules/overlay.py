"""The module `overlay`: the tree of brokers as this one sees it (spec 03, 13.7; spec 04, 2.9).

It serves what is known; it moves no messages. Whoever connects the brokers of a tree tells it: `grow` what the tree
is, `child_is` how a child does; and is told by `status_changed` what the parent has to hear. An instance of one broker
has nobody to connect, and nothing here ever changes.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable
from syslog import LOG_CRIT, LOG_ERR
from time import monotonic
from typing import TYPE_CHECKING, Any

import msgspec

from flux.brokermod import request_handler
from flux.constants import FLUX_MSGFLAG_NORESPONSE, FLUX_MSGFLAG_STREAMING, FLUX_MSGTYPE_CONTROL
from flux.core.handle import Flux
from flux.message import Message
from flux.util.durations import parse_fsd
from fluxlet.broker.attributes import DEFAULTS
from fluxlet.broker.broker import Broker
from fluxlet.broker.router import Peer
from fluxlet.broker.trace import Trace
from fluxlet.broker.trace import TraceRequest as ModuleTraceRequest
from fluxlet.config_table import read_table
from fluxlet.overlay.subtree import Child, Subtree
from fluxlet.overlay.topology import Custom, Topology
from fluxlet.payload import cut, decode, read_object
from fluxlet.service import Service, check_no_payload, may_end, require_streaming

if TYPE_CHECKING:
    from fluxlet.broker.overlay_port import OverlayPort

_TABLE: dict[str, type] = {
    "topo": str,
    "torpid_min": str,
    "torpid_max": str,
    "tcp_user_timeout": str,
    "connect_timeout": str,
    "interface-hint": str,
    "zmqdebug": int,
    "zmq_io_threads": int,
    "child_rcvhwm": int,
}
_DURATIONS = ("torpid_min", "torpid_max", "tcp_user_timeout", "connect_timeout")
#: Those that take effect in a running broker.
_LIVE = ("torpid_min", "torpid_max")


class RankRequest(msgspec.Struct):
    """Payload of overlay.topology and overlay.disconnect-subtree."""

    rank: int


class ReasonRequest(msgspec.Struct):
    """Payload of overlay.disconnect-parent."""

    reason: str


class TraceRequest(msgspec.Struct):
    """Payload of overlay.trace.

    Args:
        typemask: FLUX_MSGTYPE_* bits.
        topic_glob: a shell pattern.
        nodeid: of a peer; -1: all.
        full: with payloads.
    """

    typemask: int
    topic_glob: str
    nodeid: int
    full: bool = False


class OverlayTrace(Trace):
    """One client's trace of what neighbours send and get.

    Args:
        request: the streaming request that it answers.
        wanted: its payload.
    """

    def __init__(self, request: Message, wanted: TraceRequest) -> None:
        names = [] if wanted.nodeid == -1 else [str(wanted.nodeid)]
        super().__init__(request, ModuleTraceRequest(names, wanted.typemask, wanted.topic_glob, wanted.full))

    def shown(self, prefix: str, rank: int, message: Message) -> dict[str, Any] | None:
        """What to tell of a message from or to a rank, -1: all children; None if it is not wanted."""
        if not self.concerns(str(rank)):
            return None
        entry = self.entry(prefix, "", message)
        if entry is not None:
            del entry["name"]
            entry["rank"] = rank
            if entry["payload"] is None:
                del entry["payload"]
            if message._type == FLUX_MSGTYPE_CONTROL:
                names = ("heartbeat", "status", "disconnect")
                name = names[message.aux1] if message.aux1 < len(names) else "unknown"
                entry["topic"] = f"{name} {message.aux2}"
        return entry


class Overlay(Service):
    """Tells how the tree below this rank does. Raises OSError(EINVAL) for a table `[tbon]` that will not do."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        super().__init__(handle, broker)
        self.port: OverlayPort | None = None
        """Where the other brokers are reached; None: there are none, or somebody else connects them."""
        self.subtree = Subtree(Custom(broker.rank + 1, "custom", ()), broker.rank, monotonic())
        self.status_changed: Callable[[str], None] = lambda status: None
        """Called with this rank's status when that has changed."""
        self._health: list[Message] = []
        self._monitors: list[Message] = []
        self._traces: list[OverlayTrace] = []
        visible = broker.attributes.visible
        for name, value in self._table(broker.config).items():
            # What the command line says goes over it.
            if visible.get(f"tbon.{name}") == DEFAULTS.get(f"tbon.{name}"):
                broker.attributes.set_internal(f"tbon.{name}", str(value))

    def stop_service(self) -> None:
        """Nobody will hear of changes any more."""
        self.abandon((*self._health, *self._monitors, *(trace.request for trace in self._traces)))
        self._health, self._monitors, self._traces = [], [], []

    # For whoever connects the brokers.

    def grow(self, topology: Topology) -> None:
        """The shape of the instance; children are not there yet."""
        self.subtree = Subtree(topology, self.broker.rank, monotonic())

    def child_is(self, rank: int, status: str, error: str = "") -> None:
        """A direct child's status has changed. Raises KeyError for another rank.

        Args:
            rank: of the child.
            status: as in `fluxlet.overlay.subtree.STATUSES`.
            error: why it is not online.
        """
        child = self.subtree.children[rank]
        if child.status == status:
            return
        changed = self.subtree.update(rank, status, monotonic(), error)
        if not child.online:
            child.torpid = False
        if changed:
            self._tell_health()
            self.status_changed(self.subtree.status)
        self._tell_monitors(child)
        self._tell_health()

    def child_is_torpid(self, rank: int, torpid: bool) -> None:
        """A direct child is heard of no more, or again. Raises KeyError for another rank."""
        child = self.subtree.children[rank]
        if child.torpid != torpid:
            child.torpid = torpid
            self._tell_monitors(child)

    def child_refused(self, rank: int, error: str) -> None:
        """A direct child was not let in: who asks how it does hears why."""
        child = self.subtree.children[rank]
        if not child.online:
            child.error = error

    def _tell_health(self) -> None:
        for request in tuple(self._health):
            self.handle.respond(request, self.subtree.health(monotonic()))

    def _tell_monitors(self, child: Child) -> None:
        for request in tuple(self._monitors):
            self._tell_of(request, child)

    def _tell_of(self, request: Message, child: Child) -> None:
        self.handle.respond(request, {"rank": child.rank, "status": child.status, "torpid": child.torpid})

    # What can be asked.

    @request_handler("health", allow_guest=True)
    def health(self, msg: Message) -> None:
        """Answers `Subtree.health`; in a stream again after every change of this rank's status or of a child's."""
        check_no_payload(msg)
        self.handle.respond(msg, self.subtree.health(monotonic()))
        if msg.flags & FLUX_MSGFLAG_STREAMING and not msg.flags & FLUX_MSGFLAG_NORESPONSE:
            self._health.append(msg)

    @request_handler("topology", allow_guest=True)
    def topology(self, msg: Message) -> None:
        """Payload: `RankRequest`, this rank or a direct child; answers its tree, `{"rank", "size", "children"}`."""
        try:
            rank = decode(msg, RankRequest).rank
        except OSError:
            raise OSError(errno.EPROTO, None) from None
        if rank != self.subtree.rank and rank not in self.subtree.children:
            raise OSError(errno.ENOENT, "requested rank is not this broker or its direct child")
        self.handle.respond(msg, self.subtree.topology.describe(rank))

    @request_handler("monitor")
    def monitor(self, msg: Message) -> None:
        """A stream of `{"rank", "status", "torpid"}`: the children that are not offline, then every change of one."""
        require_streaming(msg)
        check_no_payload(msg)
        self._monitors.append(msg)
        for child in self.subtree.children.values():
            if child.status != "offline" or child.torpid:
                self._tell_of(msg, child)

    @request_handler("stats-get", allow_guest=True)
    def stats_get(self, msg: Message) -> None:
        """Answers how many peers there are, and how many requests wait for their answers."""
        router = self.broker.router
        children = self.subtree.children.values()
        stats = {
            "child-count": len(children),
            "child-connected": sum(child.online for child in children),
            "parent-count": int(router.parent is not None),
            "parent-rpc": _pending(router.parent),
            "child-rpc": sum(_pending(child) for child in router.children.values()),
            # Of the reference's queues between threads: ours has one.
            "interthread": {"sendq": 0, "recvq": 0},
        }
        self.handle.respond(msg, stats)

    @property
    def tracing(self) -> bool:
        """Whether anybody wants to see messages."""
        return bool(self._traces)

    def show(self, prefix: str, peer: Peer | None, message: Message) -> None:
        """Shows a message that a peer has sent or gets (`rx`, `tx`) to those who want to see it."""
        rank = -1 if peer is None else peer.rank
        for trace in tuple(self._traces):
            entry = trace.shown(prefix, rank, message)
            if entry is not None:
                self.handle.respond(trace.request, entry)

    @request_handler("trace")
    def trace(self, msg: Message) -> None:
        """Payload: `TraceRequest`; a stream of the messages of peers. A rank without any has nothing to show."""
        require_streaming(msg)
        self._traces.append(OverlayTrace(msg, decode(msg, TraceRequest)))

    @request_handler("disconnect", allow_guest=True)
    def disconnect(self, msg: Message) -> None:
        """A client has gone: its streams end."""
        for streams in (self._health, self._monitors):
            streams[:] = [request for request in streams if not may_end(request, msg)]
        self._traces = [trace for trace in self._traces if not may_end(trace.request, msg)]

    # What can be ordered.

    @request_handler("disconnect-subtree")
    def disconnect_subtree(self, msg: Message) -> None:
        """Payload: `RankRequest`: a direct child is given up, and all that is below it."""
        rank = decode(msg, RankRequest).rank
        child = self.subtree.children.get(rank)
        if child is None:
            raise OSError(errno.ENOENT, "requested rank is not this broker's direct child")
        if not child.online:
            raise OSError(errno.EINVAL, f"rank {rank} is already {child.status}")
        if self.port is not None:
            self.port.disconnect_child(rank)
        else:
            self._cut(rank, child.size)
        self.answer(msg)

    def _cut(self, rank: int, size: int) -> None:
        """Gives up a child that somebody else has connected."""
        text = f"{self._host(rank)} (rank {rank}) disconnected by request"
        if size > 1:
            text += f" and severed contact with {size - 1} other nodes"
        self.broker.log.write(LOG_ERR, text)
        self.child_is(rank, "lost", "administrative disconnect")
        peer = self.broker.router.children.get(rank)
        if peer is not None:
            self.broker.route(self.broker.router.detach(peer))

    @request_handler("disconnect-parent")
    def disconnect_parent(self, msg: Message) -> None:
        """Payload: `ReasonRequest`, NORESPONSE: the parent is given up; the instance ends for this rank."""
        if not msg.flags & FLUX_MSGFLAG_NORESPONSE:
            raise OSError(errno.EPROTO, "overlay.disconnect-parent has no response: send it with FLUX_RPC_NORESPONSE")
        reason = cut(decode(msg, ReasonRequest).reason)
        self.broker.log.write(LOG_CRIT, f"disconnecting: {reason}")
        parent = self.broker.router.parent
        if self.port is not None:
            self.port.lose_parent()
        elif parent is not None:
            self.broker.route(self.broker.router.detach(parent, "overlay disconnect"))
            if self.broker.state is not None:
                self.broker.state.post("parent-fail")

    def _host(self, rank: int) -> str:
        from flux.hostlist import Hostlist  # for what is rare

        hosts = Hostlist(self.broker.attributes.visible.get("hostlist", ""))
        return hosts[rank] if rank < len(hosts) else "unknown"

    # Configuration.

    @request_handler("config-reload")
    def config_reload(self, msg: Message) -> None:
        """Payload: the configuration. Of its table `[tbon]` torpid_min and torpid_max take effect at once."""
        table = self._table(read_object(msg))
        for name in _LIVE:
            if name in table:
                self.broker.attributes.set_internal(f"tbon.{name}", table[name])
        self.handle.respond(msg)

    def _table(self, config: dict[str, Any]) -> dict[str, Any]:
        """The known keys of the table `[tbon]`. Raises OSError(EINVAL)."""
        if "tbon" not in config:
            return {}
        try:
            table = read_table(config["tbon"], _TABLE)
            attributes = self.broker.attributes.visible
            seconds = {
                name: _duration(name, table[name] if name in table else attributes[f"tbon.{name}"])
                for name in _DURATIONS
                if name in table or f"tbon.{name}" in attributes
            }
            shortest, longest = seconds.get("torpid_min", 5.0), seconds.get("torpid_max", 30.0)
            if not shortest or (longest and shortest >= longest):
                raise ValueError("torpid_min must be greater than zero and less than torpid_max")
        except ValueError as exc:
            raise OSError(errno.EINVAL, f"Error reading [tbon] table: {exc}") from None
        return table


def _pending(peer: Any) -> int:
    """How many requests that were sent to a peer wait for their answer."""
    return sum(len(requests) for requests in (peer.pending or {}).values()) if peer is not None else 0


def _duration(name: str, text: str) -> float:
    try:
        seconds = parse_fsd(text)
    except ValueError:
        raise ValueError(f"{name}: '{text}' is no duration") from None
    if not math.isfinite(seconds):
        raise ValueError(f"{name}: '{text}' has no end")
    return seconds
