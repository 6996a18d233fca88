"""The module `groups`: named sets of ranks (spec 03, 13.5; spec 04, 4.1).

Every broker knows the members in its own subtree, rank 0 all of them. A change is applied where it happens at
once; on its way up, each rank collects what comes within 20 ms and sends it as one message.

A child that goes, in whatever way, takes all ranks of its subtree out of all groups; one that is not heard of is a
member of `broker.torpid`. The module `overlay` tells (`overlay.monitor`).
"""

from __future__ import annotations

import errno
from typing import Any

import msgspec

from flux.brokermod import request_handler
from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
    FLUX_MSGFLAG_STREAMING,
    FLUX_NODEID_UPSTREAM,
    FLUX_ROLE_LOCAL,
    FLUX_ROLE_OWNER,
    FLUX_RPC_NORESPONSE,
    FLUX_RPC_STREAMING,
)
from flux.core.handle import Flux
from flux.idset import IDset
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.modules.overlay import Overlay
from fluxlet.overlay.subtree import ONLINE
from fluxlet.payload import cut, decode
from fluxlet.service import Service, may_end, sender

_BATCH_TIME = 0.02


class NameRequest(msgspec.Struct):
    """Payload of groups.get, groups.join and groups.leave."""

    name: str


class Change(msgspec.Struct):
    """Ranks that join (`set`) or leave a group."""

    ranks: str
    set: bool


class UpdateRequest(msgspec.Struct):
    """Payload of groups.update: changes by group, in order."""

    update: dict[str, list[Change]]


def _name(msg: Message) -> str:
    try:
        return cut(decode(msg, NameRequest).name)
    except OSError:
        raise OSError(errno.EPROTO, None) from None


def _require_local(msg: Message) -> None:
    if not msg.rolemask & FLUX_ROLE_LOCAL:
        raise OSError(errno.EPROTO, f"{msg.topic} is restricted to the local broker")


class Groups(Service):
    """The groups of one broker."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        super().__init__(handle, broker)
        self.groups: dict[str, IDset] = {}
        self.joined: dict[str, bytes] = {}
        """The groups this rank is in, and which client it was that joined."""
        self.watchers: list[tuple[Message, str]] = []
        self._batch: dict[str, list[tuple[IDset, bool]]] = {}
        self._timer = broker.reactor.timer(_BATCH_TIME, 0.0, self._send_batch)
        if broker.rank == 0:
            self.groups = {"broker.online": IDset(), "broker.torpid": IDset()}
        self._monitor = broker.reactor.timer(0.0, 0.0, self._watch_children)
        self._monitor.start()
        if broker.state is None:
            # No life cycle that would do it.
            self._join("broker.online", b"")

    def stop_service(self) -> None:
        """What is collected goes on its way."""
        self._monitor.stop()
        if self._timer.active:
            self._timer.stop()
            self._send_batch()
        self.abandon(request for request, _ in self.watchers)

    @request_handler("join")
    def join(self, msg: Message) -> None:
        """Payload `{"name": s}`: this rank becomes a member, until its client leaves or goes."""
        _require_local(msg)
        name = _name(msg)
        if name in self.joined:
            raise OSError(errno.EEXIST, f"rank {self.broker.rank} is already a member of {name}")
        self.handle.respond(msg)
        self._join(name, sender(msg))

    def _join(self, name: str, client: bytes) -> None:
        self.joined[name] = client
        self._change(name, IDset(self.broker.rank), True)

    @request_handler("leave")
    def leave(self, msg: Message) -> None:
        """Payload `{"name": s}`: this rank is no member any more, whoever joined."""
        _require_local(msg)
        name = _name(msg)
        if name not in self.joined:
            raise OSError(errno.ENOENT, f"rank {self.broker.rank} is not a member of {name}")
        self.handle.respond(msg)
        self._leave(name)

    def _leave(self, name: str) -> None:
        del self.joined[name]
        self._change(name, IDset(self.broker.rank), False)

    @request_handler("disconnect", allow_guest=True)
    def disconnect(self, msg: Message) -> None:
        """A client has gone: the groups it joined are left, and it watches no more."""
        self.watchers = [(request, name) for request, name in self.watchers if not may_end(request, msg)]
        if msg.rolemask & FLUX_ROLE_OWNER:
            client = sender(msg)
            for name in [name for name, joiner in self.joined.items() if joiner == client]:
                self._leave(name)

    @request_handler("get", allow_guest=True)
    def get(self, msg: Message) -> None:
        """Payload `{"name": s}`; answers `{"members": idset}`, in a stream again after every change."""
        if self.broker.rank:
            raise OSError(errno.EPROTO, "this RPC is only available on rank 0")
        name = _name(msg)
        members = self.groups.setdefault(name, IDset())
        self.handle.respond(msg, {"members": str(members)})
        if msg.flags & FLUX_MSGFLAG_STREAMING and not msg.flags & FLUX_MSGFLAG_NORESPONSE:
            self.watchers.append((msg, name))

    @request_handler("update")
    def update(self, msg: Message) -> None:
        """Payload: `UpdateRequest`: what has changed below this rank."""
        try:
            changes = [
                (cut(name), IDset(change.ranks), change.set)
                for name, group in decode(msg, UpdateRequest).update.items()
                for change in group
            ]
        except ValueError as exc:
            raise OSError(errno.EPROTO, f"bad ranks in groups.update: {exc}") from None
        for name, ranks, joining in changes:
            self._change(name, ranks, joining)
        self.answer(msg)

    @request_handler("stats-get", allow_guest=True)
    def stats_get(self, msg: Message) -> None:
        """Answers `{"subtree": {name: idset}}`."""
        self.handle.respond(msg, {"subtree": {name: str(ranks) for name, ranks in self.groups.items()}})

    # Children: once all built-in modules are there.

    def _watch_children(self) -> None:
        if "overlay" in self.broker.modules:
            stream = self.handle.rpc("overlay.monitor", flags=FLUX_RPC_STREAMING)
            stream.then(self._on_child)

    def _on_child(self, future: Any) -> None:
        try:
            child = future.get()
        except OSError:
            return  # the module has ended, as all do
        future.reset()
        rank, name = child["rank"], "broker.torpid"
        if child["status"] in ONLINE:
            torpid = self.groups.get(name, IDset()).test(rank)
            if torpid != child["torpid"]:
                self._change(name, IDset(rank), child["torpid"])
            return
        below = self._below(rank)
        for group, members in self.groups.items():
            leaving = members.intersect(below)
            if leaving:
                self._change(group, leaving, False)

    def _below(self, rank: int) -> IDset:
        """A child's rank, and those of its subtree."""
        overlay = self.broker.modules["overlay"].instance  # type: ignore[attr-defined]  # in this process
        assert isinstance(overlay, Overlay)
        return IDset(list(overlay.subtree.topology.below(rank)))

    def _change(self, name: str, ranks: IDset, joining: bool) -> None:
        """Ranks of this subtree have joined or left a group."""
        members = self.groups.setdefault(name, IDset())
        if joining:
            members.add(ranks)
        else:
            members.subtract(ranks)
        for request, watched in tuple(self.watchers):
            if watched == name:
                self.handle.respond(request, {"members": str(members)})
        if self.broker.rank:
            self._collect(name, ranks, joining)

    def _collect(self, name: str, ranks: IDset, joining: bool) -> None:
        changes = self._batch.setdefault(name, [])
        if changes and changes[-1][1] == joining:
            changes[-1][0].add(ranks)
        else:
            changes.append((ranks.copy(), joining))
        if not self._timer.active:
            self._timer.start()

    def _send_batch(self) -> None:
        update = {
            name: [{"ranks": str(ranks), "set": joining} for ranks, joining in changes]
            for name, changes in self._batch.items()
        }
        self._batch = {}
        self.handle.rpc("groups.update", {"update": update}, FLUX_NODEID_UPSTREAM, FLUX_RPC_NORESPONSE)
