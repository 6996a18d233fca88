"""The module `kvs` on the ranks above 0: it follows rank 0 (spec 05, section 7).

Rules:

- A namespace is known once its root was asked for upstream; from then on its events are heard. Roots only go forward.
- A commit is relayed to rank 0 under a name. The event that says what has become of it answers it, with its own root,
  when that root is in force here.
- One that was not used for an hour is forgotten, but for the primary one.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from flux.brokermod import event_handler, request_handler
from flux.constants import (
    FLUX_MSGTYPE_EVENT,
    FLUX_NODEID_UPSTREAM,
    FLUX_ROLE_OWNER,
    FLUX_RPC_NORESPONSE,
)
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.modules.kvs.module import Kvs
from fluxlet.modules.kvs.requests import ErrorEvent, GetrootResponse, RemovedEvent, SetrootEvent
from fluxlet.modules.kvs.space import PRIMARY, Commit, Space
from fluxlet.payload import UNREADABLE, decode

if TYPE_CHECKING:
    from flux.core.future_state import RpcState

_encode = msgspec.json.Encoder().encode
_getroot = msgspec.json.Decoder(GetrootResponse).decode
#: Seconds for which a namespace that nobody uses is remembered.
_FORGET = 3600.0


class Follower(Kvs):
    """See the module."""

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        super().__init__(handle, broker, *args)
        self._learning: dict[str, list[Callable[[OSError | None], None]]] = {}
        self._commits: dict[str, tuple[Space, Commit]] = {}
        events = handle.msg_watcher_create(self._callback(self._event), FLUX_MSGTYPE_EVENT, "kvs.namespace-*")
        events.start()
        self._watchers.append(events)

    def stop_service(self) -> None:
        """Nobody is left waiting."""
        for _, commit in self._commits.values():
            self._fail(commit, errno.ENOSYS)
        self._commits.clear()
        learning, self._learning = self._learning, {}
        for waiting in learning.values():
            for then in waiting:
                then(OSError(errno.ENOSYS, None))
        super().stop_service()

    # Namespaces.

    def learn(self, name: str, then: Callable[[OSError | None], None]) -> None:
        """As of Kvs."""
        waiting = self._learning.get(name)
        if waiting is not None:
            waiting.append(then)
            return
        self._learning[name] = [then]
        self.handle.event_subscribe(f"kvs.namespace-{name}-")
        raw = _encode({"namespace": name, "flags": 0}) + b"\0"
        self.ask(b"kvs.getroot", raw, partial(self._told, name), nodeid=FLUX_NODEID_UPSTREAM)

    def _told(self, name: str, state: RpcState) -> None:
        """What is upstream has answered for a namespace."""
        error: OSError | None = None
        if state.errnum:
            error = OSError(state.errnum, state.errtext)
        else:
            try:
                root = _getroot((state.value.raw or b"")[:-1])
            except UNREADABLE as exc:
                error = OSError(errno.EPROTO, f"kvs.getroot: {exc}")
            else:
                space = Space(name, root.owner, root.rootref.encode(), root.rootseq, root.flags)
                space.used = self.broker.now
                self.spaces[name] = space
        if error is not None:
            self.handle.event_unsubscribe(f"kvs.namespace-{name}-")
        for then in self._learning.pop(name, ()):
            then(error)

    def _forget(self, space: Space) -> None:
        del self.spaces[space.name]
        self.handle.event_unsubscribe(f"kvs.namespace-{space.name}-")

    @event_handler("heartbeat.pulse", prefix=False)
    def pulse(self, msg: Message) -> None:
        """The time to forget what nobody uses."""
        old = self.broker.now - _FORGET
        busy = {space for space, _ in self._commits.values()}
        for space in list(self.spaces.values()):
            if space.used < old and space.name != PRIMARY and not space.waiting and space not in busy:
                self._forget(space)

    @request_handler("namespace-create")
    def namespace_create(self, msg: Message) -> None:
        """For rank 0, which answers."""
        self._forward(b"kvs.namespace-create", msg)

    @request_handler("namespace-remove")
    def namespace_remove(self, msg: Message) -> None:
        """For rank 0, which answers."""
        self._forward(b"kvs.namespace-remove", msg)

    def _forward(self, topic: bytes, msg: Message) -> None:
        def answered(state: RpcState) -> None:
            if state.errnum:
                self.handle.respond_error(msg, state.errnum, state.errtext)
            else:
                self.answer(msg, state.value.raw)

        self.ask(topic, msg.raw, answered, nodeid=0)

    # Events.

    def _event(self, msg: Message) -> None:
        """An event of a namespace. Anybody could publish one: only those of the instance count."""
        if not msg.rolemask & FLUX_ROLE_OWNER:
            return
        kind = msg.topic.rpartition("-")[2]
        try:
            if kind == "setroot":
                event = decode(msg, SetrootEvent)
                space = self.spaces.get(event.namespace)
                if space is None:
                    return
                if space.held is not None:
                    space.held.append(event)
                else:
                    self.release(space, event)
            elif kind == "error":
                failed = decode(msg, ErrorEvent)
                for name in failed.names:
                    self._ended(name, failed.errnum)
            elif kind == "removed":
                self._removed(decode(msg, RemovedEvent).namespace)
        except OSError as exc:
            self.broker.log.write(3, f"{msg.topic}: {exc.strerror}", self.name)

    def release(self, space: Space, event: Any) -> None:
        """A commit has been made."""
        if event.rootseq > space.seq:
            space.seq = event.rootseq
            space.root = event.rootref.encode()
            self.installed(space)
        raw = b'{"rootref":"%b","rootseq":%d}\0' % (event.rootref.encode(), event.rootseq)
        for name in event.names:
            found = self._commits.pop(name, None)
            if found is not None and found[1].request is not None:
                self.answer(found[1].request, raw)

    def _removed(self, name: str) -> None:
        space = self.spaces.get(name)
        if space is None:
            return
        self._forget(space)
        self.dropped(space)
        for commit in [commit for used, commit in self._commits.values() if used is space]:
            self._ended(commit.name, errno.EOPNOTSUPP)

    def _ended(self, name: str, errnum: int) -> None:
        found = self._commits.pop(name, None)
        if found is not None:
            self._fail(found[1], errnum)

    def _fail(self, commit: Commit, errnum: int) -> None:
        if commit.request is not None:
            self.handle.respond_error(commit.request, errnum, None)

    # Commits.

    def submit(self, space: Space, commit: Commit) -> None:
        """As of Kvs: rank 0 makes it."""
        self._commits[commit.name] = space, commit
        self.opcount.add(len(commit.operations))
        relay = {"ops": commit.operations, "name": commit.name, "namespace": space.name, "flags": commit.flags}
        self.handle.rpc("kvs.relaycommit", relay, 0, FLUX_RPC_NORESPONSE)
