"""The module `kvs` as it is on every rank: lookups, roots, and who may see them (spec 05, 6.2 and 8).

What differs between rank 0 and the others is in `leader` and `follower`.
"""

from __future__ import annotations

import errno
from binascii import b2a_base64, hexlify
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from flux.brokermod import event_handler, request_handler
from flux.constants import FLUX_KVS_SYNC, FLUX_MSGFLAG_NORESPONSE, FLUX_ROLE_OWNER
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.broker.long_response import LongResponse
from fluxlet.modules.content.digest import Hash
from fluxlet.modules.figures import Figures
from fluxlet.modules.kvs import treeobj
from fluxlet.modules.kvs.directories import Directories
from fluxlet.modules.kvs.loader import Loader
from fluxlet.modules.kvs.lookup import Found, Value, walk
from fluxlet.modules.kvs.requests import (
    CommitRequest,
    GetrootRequest,
    LookupRequest,
    WaitVersionRequest,
    check_guest,
)
from fluxlet.modules.kvs.space import PRIMARY, Commit, Space
from fluxlet.modules.kvs.walker import Ended, Run
from fluxlet.payload import decode
from fluxlet.service import Service, authorized, may_end

_encode = msgspec.json.Encoder().encode
#: Bytes of a value that are encoded in one go, unless a blob has more.
_PIECE = 1 << 20
#: A value has at most so many bytes.
_MAX_VALUE = (1 << 31) - 1


class Kvs(Service):
    """See the module.

    Attributes:
        spaces: the namespaces that are known here.
        prefix: what blobrefs begin with.
    """

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        self.hash = Hash(broker.attributes.visible.get("content.hash", "sha1"))
        self.prefix = self.hash.name.encode() + b"-"
        self.spaces: dict[str, Space] = {}
        self.directories = Directories()
        self.loader = Loader(self, self.hash, self.directories)
        self.opcount = Figures()
        self._names = 0
        self._paused: list[Callable[[], None]] = []
        super().__init__(handle, broker, *args)
        self._pause_timer = self.module.reactor.timer(0.0, 0.0, self._unpause)

    def blobref(self, blob: bytes) -> bytes:
        """The blobref of a blob."""
        return self.prefix + hexlify(self.hash.digest(blob))

    def stop_service(self) -> None:
        """Nobody is left waiting (spec 05, 6.2)."""
        for space in self.spaces.values():
            for request in space.take_waiting():
                self.handle.respond_error(request, errno.ENOSYS, None)
        self._pause_timer.stop()
        self._paused.clear()

    # Long work gives way.

    def pause(self, then: Callable[[], None]) -> None:
        """Calls `then` in the next pass of the loop."""
        self._paused.append(then)
        self._pause_timer.start()

    def _unpause(self) -> None:
        paused, self._paused = self._paused, []
        for then in paused:
            then()

    # Namespaces.

    def space(self, name: str, request: Message, again: Callable[[Message], None]) -> Space | None:
        """A namespace that the sender of `request` may use. Raises OSError(EOPNOTSUPP), OSError(EPERM).

        None: it is not known yet whether there is one, or what is in it; `again` is called with the request when it is.
        """
        space = self.spaces.get(name)
        if space is None:
            self.learn(name, partial(self._learned, request, again))
            return None
        if not (request.rolemask & FLUX_ROLE_OWNER or authorized(request, space.owner)):
            raise OSError(errno.EPERM, None)
        space.used = self.broker.now
        if space.ahead is not None and not space.ahead():
            space.behind.append(partial(self._learned, request, again, None))
            return None
        return space

    def learn(self, name: str, then: Callable[[OSError | None], None]) -> None:
        """Finds out about a namespace that is not known here. On rank 0 all are."""
        raise OSError(errno.EOPNOTSUPP, None)

    def _learned(self, request: Message, again: Callable[[Message], None], error: OSError | None) -> None:
        try:
            if error is not None:
                raise error
            again(request)
        except OSError as exc:
            self.handle.respond_error(request, exc.errno or errno.EIO, exc.strerror)

    def installed(self, space: Space) -> None:
        """A namespace has a new root."""
        if space.waiting:
            raw = _encode({"rootseq": space.seq, "rootref": space.root.decode()}) + b"\0"
            for request in space.arrived():
                self.answer(request, raw)

    def dropped(self, space: Space) -> None:
        """A namespace is gone."""
        space.removed = True
        for request in space.take_waiting():
            self.handle.respond_error(request, errno.EOPNOTSUPP, None)

    @request_handler("getroot", allow_guest=True)
    def getroot(self, msg: Message) -> None:
        """Payload: `GetrootRequest`; answers `GetrootResponse`."""
        space = self.space(decode(msg, GetrootRequest).namespace, msg, self.getroot)
        if space is not None:
            root = {"owner": space.owner, "rootseq": space.seq, "rootref": space.root.decode(), "flags": space.flags}
            self.answer(msg, _encode({**root, "namespace": space.name}) + b"\0")

    @request_handler("wait-version", allow_guest=True)
    def wait_version(self, msg: Message) -> None:
        """Payload: `WaitVersionRequest`; answers the current root once it has got there."""
        request = decode(msg, WaitVersionRequest)
        space = self.space(request.namespace, msg, self.wait_version)
        if space is not None:
            space.wait(request.rootseq, msg)
            self.installed(space)

    @request_handler("namespace-list")
    def namespace_list(self, msg: Message) -> None:
        """Answers those that are known on this rank."""
        spaces = [{"namespace": s.name, "owner": s.owner, "flags": s.flags} for s in self.spaces.values()]
        self.handle.respond(msg, {"namespaces": spaces})

    @request_handler("disconnect", allow_guest=True)
    def disconnect(self, msg: Message) -> None:
        """A client has gone: it waits no longer. What it has committed stays."""
        for space in self.spaces.values():
            if space.waiting:
                space.forget_waiting(lambda request: may_end(request, msg))

    @request_handler("setroot-pause", allow_guest=True)
    def setroot_pause(self, msg: Message) -> None:
        """Payload: `GetrootRequest`: new roots of a namespace are not seen on this rank. For tests."""
        space = self.space(decode(msg, GetrootRequest).namespace, msg, self.setroot_pause)
        if space is not None:
            if space.held is None:
                space.held = []
            self.answer(msg)

    @request_handler("setroot-unpause", allow_guest=True)
    def setroot_unpause(self, msg: Message) -> None:
        """Payload: `GetrootRequest`: undoes setroot-pause."""
        space = self.space(decode(msg, GetrootRequest).namespace, msg, self.setroot_unpause)
        if space is not None:
            held, space.held = space.held or [], None
            for event in held:
                self.release(space, event)
            self.answer(msg)

    def release(self, space: Space, event: Any) -> None:
        """What was kept back in `space.held` is to be taken now."""

    # Lookups.

    @request_handler("lookup", allow_guest=True)
    def lookup(self, msg: Message) -> None:
        """Payload: `LookupRequest`; answers `{"val": TREEOBJ}` (spec 05, 6.3)."""
        request = decode(msg, LookupRequest)
        if request.rootdir is None:
            if request.namespace is None:
                raise OSError(errno.EPROTO, "a lookup names a namespace or a rootdir")
            space = self.space(request.namespace, msg, self.lookup)
            if space is None:
                return
            root = space.root
        else:
            root = _rootdir(request.rootdir)
        steps = walk(root, request.key, request.flags, self.directories)
        try:
            need = next(steps)
        except StopIteration as stop:
            self._found(msg, b"", stop.value, None)
            return
        self._run(steps, need, msg, root, partial(self._found, msg, b""))

    @request_handler("lookup-plus", allow_guest=True)
    def lookup_plus(self, msg: Message) -> None:
        """As `lookup`; answers `rootseq` and `rootref` too, and `errno` in place of `val` for what is not there."""
        request = decode(msg, LookupRequest)
        if request.rootdir is None:
            if request.namespace is None:
                raise OSError(errno.EPROTO, "a lookup names a namespace or a rootdir")
            space = self.space(request.namespace, msg, self.lookup_plus)
            if space is None:
                return
            root, seq = space.root, space.seq
        else:
            root, seq = _rootdir(request.rootdir), request.rootseq
        more = b',"rootseq":%d,"rootref":"%b"' % (seq, root)
        steps = walk(root, request.key, request.flags, self.directories)
        try:
            need = next(steps)
        except StopIteration as stop:
            self._found(msg, more, stop.value, None)
        except OSError as exc:
            self._found(msg, more, b"", exc)
        else:
            self._run(steps, need, msg, root, partial(self._found, msg, more))

    def _run(self, steps: Any, need: Any, msg: Message, root: bytes, ended: Ended) -> None:
        """Goes on with a walk that needs something."""

        def finished(value: Any, error: OSError | None) -> None:
            if error is not None and error.errno == errno.ENOTRECOVERABLE and self._is_no_directory(root, need):
                error = OSError(errno.EINVAL, error.strerror)
            ended(value, error)

        Run(steps, self.loader, self.pause, partial(self._enter, msg), finished).go(need)

    @staticmethod
    def _is_no_directory(root: bytes, need: Any) -> bool:
        """Whether what could not be decoded was the root itself: then the request is wrong, not the tree."""
        return bool(need == root)

    def _enter(self, msg: Message, name: str, then: Ended) -> None:
        """A walk follows a link into a namespace."""

        def entered(request: Message) -> None:
            try:
                space = self.space(name, request, entered)
            except OSError as exc:
                then(None, exc)
                return
            if space is not None:
                then(space.root, None)

        entered(msg)

    def _found(self, msg: Message, more: bytes, found: Found, error: OSError | None) -> None:
        """Answers a lookup."""
        if error is not None:
            if more and error.errno == errno.ENOENT:
                self.answer(msg, b'{"errno":%d%b}\0' % (errno.ENOENT, more))
            else:
                self.handle.respond_error(msg, error.errno or errno.EIO, error.strerror)
        elif isinstance(found, Value):
            self._collect(msg, more, found.refs)
        else:
            self.answer(msg, b'{"val":%b%b}\0' % (found, more))

    def _collect(self, msg: Message, more: bytes, refs: list[bytes]) -> None:
        """Answers a lookup with what is in blobs."""
        blobs: list[bytes] = [b""] * len(refs)
        left = len(refs)

        def loaded(index: int, blob: bytes, error: OSError | None) -> None:
            nonlocal left
            if left < 0:
                return  # it has failed
            if error is not None:
                left = -1
                self.handle.respond_error(msg, error.errno or errno.EIO, error.strerror)
                return
            blobs[index] = blob
            left -= 1
            if not left:
                self._answer_value(msg, more, blobs)

        for index, ref in enumerate(refs):
            self.loader.load(ref, partial(loaded, index))

    def _answer_value(self, msg: Message, more: bytes, blobs: list[bytes]) -> None:
        """Answers a lookup with a value; a long one is encoded piece by piece."""
        size = sum(map(len, blobs))
        if size > _MAX_VALUE:
            self.handle.respond_error(msg, errno.EOVERFLOW, None)
            return
        end = b'","type":"val","ver":1}%b}\0' % more
        if size <= _PIECE:
            data = b2a_base64(b"".join(blobs) if len(blobs) > 1 else blobs[0], newline=False)
            self.answer(msg, b'{"val":{"data":"%b%b' % (data, end))
            return
        pieces: list[bytes | memoryview] = [b'{"val":{"data":"']
        blobs.reverse()
        rest = b""

        def encode_some() -> None:
            nonlocal rest
            taken = [rest]
            left = _PIECE
            while blobs and left > 0:
                taken.append(blobs.pop())
                left -= len(taken[-1])
            data = b"".join(taken)
            whole = len(data) - len(data) % 3 if blobs else len(data)
            rest = data[whole:]
            pieces.append(b2a_base64(memoryview(data)[:whole], newline=False))
            if blobs:
                self.pause(encode_some)
            elif not msg.flags & FLUX_MSGFLAG_NORESPONSE:
                pieces.append(end)
                self.module.post(LongResponse(msg, pieces))

        encode_some()

    # Commits.

    @request_handler("commit", allow_guest=True)
    def commit(self, msg: Message) -> None:
        """Payload: `CommitRequest`; answers the root that it has led to (spec 05, 6.4 and 7.2)."""
        request = decode(msg, CommitRequest)
        operations = request.ops if type(request.ops) is list else []
        if not msg.rolemask & FLUX_ROLE_OWNER:
            check_guest(operations)
        space = self.space(request.namespace, msg, self.commit)
        if space is None:
            return
        if request.flags & FLUX_KVS_SYNC and space.name != PRIMARY:
            raise OSError(errno.EINVAL, "only commits to the primary namespace can be synchronous")
        self._names += 1
        name = f"transaction_req.{self.broker.rank}.{self._names}"
        self.submit(space, Commit(name, request.flags, operations, msg))

    def submit(self, space: Space, commit: Commit) -> None:
        """A commit is to be made."""
        raise NotImplementedError

    # Figures.

    @request_handler("stats-get", allow_guest=True)
    def stats_get(self, msg: Message) -> None:
        """Answers as spec 05, 6.6."""
        namespaces = {
            space.name: {
                "#versionwaiters": space.waiting,
                "#no-op stores": space.empty_commits,
                "#transactions": len(space.queue) + space.busy,
                "#readytransactions": len(space.queue),
                "store revision": space.seq,
            }
            for space in self.spaces.values()
        }
        stats = {
            "cache": self._cache_figures(),
            "namespace": namespaces,
            "transaction-opcount": {"commit": self.opcount.as_dict()},
            "pending_requests": sum(space.waiting for space in self.spaces.values()),
        }
        self.handle.respond(msg, stats)

    def _cache_figures(self) -> dict[str, Any]:
        sizes = Figures()
        for weight in self.directories.weights():
            sizes.add(weight >> 10)
        return {
            "obj size total (MiB)": self.directories.weight / (1 << 20),
            "obj size (KiB)": sizes.as_dict(),
            "#obj dirty": 0,
            "#obj incomplete": 0,
            "#faults": self.directories.faults,
        }

    @request_handler("stats-clear")
    def stats_clear(self, msg: Message) -> None:
        """Forgets the figures."""
        self._clear_stats()
        self.answer(msg)

    @event_handler("stats-clear")
    def stats_clear_event(self, msg: Message) -> None:
        """The same on all ranks."""
        self._clear_stats()

    def _clear_stats(self) -> None:
        self.opcount = Figures()
        self.directories.faults = 0
        for space in self.spaces.values():
            space.empty_commits = 0


def _rootdir(value: Any) -> bytes:
    """The blobref of a request's rootdir. Raises OSError(EINVAL)."""
    text = treeobj.encode(value)
    if not text.endswith(treeobj.DIRREF_TAIL):
        raise OSError(errno.EINVAL, "the rootdir must be a dirref")
    return treeobj.dirref_of(text)


def load(handle: Flux, broker: Broker, *args: str) -> Kvs:
    """The module for the rank that the broker has."""
    if broker.rank:
        from fluxlet.modules.kvs.follower import Follower

        return Follower(handle, broker, *args)
    from fluxlet.modules.kvs.leader import Leader

    return Leader(handle, broker, *args)
