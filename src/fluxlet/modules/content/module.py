"""The module `content`: stores and loads blobs (spec 05, section 2; RFC 10).

On rank 0 a blob is stored when it is in the cache, and the backing store gets it soon after. The other ranks ask their
parent, once for a blob however many ask them.

Arguments: `purge-target-size=`, `purge-old-entry=`, `flush-batch-limit=`, `blob-size-limit=` (spec 05, 2.3).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import partial
from syslog import LOG_ERR, LOG_WARNING

import msgspec

from flux.brokermod import event_handler, request_handler
from flux.constants import FLUX_MSGFLAG_NORESPONSE, FLUX_MSGFLAG_USER1, FLUX_NODEID_ANY, FLUX_NODEID_UPSTREAM
from flux.core.future_state import RpcState
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.modules.content import batch
from fluxlet.modules.content.cache import Cache
from fluxlet.modules.content.digest import Hash
from fluxlet.modules.content.ending import nothing_stays
from fluxlet.modules.content.many import load_many
from fluxlet.modules.content.mapped import MappedFiles
from fluxlet.modules.content.writers import WriteBack, WriteThrough
from fluxlet.payload import decode, read_object
from fluxlet.service import Service

#: Arguments of the module, and what they are without.
_DEFAULTS = {
    "purge-target-size": 16 << 20,
    "purge-old-entry": 10,
    "flush-batch-limit": 256,
    "blob-size-limit": 1 << 30,
}
#: Seconds after which the cache is looked at even without a heartbeat.
_PURGE_PERIOD = 10.0


class RegisterRequest(msgspec.Struct, rename="kebab"):
    """Payload of content.register-backing."""

    name: str
    store_many: bool = False


class MmapAddRequest(msgspec.Struct):
    """Payload of content.mmap-add."""

    path: str
    chunksize: int
    tag: str


class MmapRemoveRequest(msgspec.Struct):
    """Payload of content.mmap-remove."""

    tag: str


def _settings(args: tuple[str, ...]) -> dict[str, int]:
    settings = dict(_DEFAULTS)
    for arg in args:
        key, _, value = arg.partition("=")
        if key not in settings:
            raise OSError(errno.EINVAL, f"{arg}: unknown argument")
        if not (value.isascii() and value.isdigit()):
            raise OSError(errno.EINVAL, f"{arg}: the value must be a number")
        settings[key] = int(value)
    if not settings["flush-batch-limit"]:
        raise OSError(errno.EINVAL, "flush-batch-limit must be greater than zero")
    return settings


class Content(Service):
    """See the module. Raises OSError(EINVAL) for arguments or a value of `content.hash` that will not do."""

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        settings = _settings(args)
        self.hash = Hash(broker.attributes.visible.get("content.hash", "sha1"))
        broker.attributes.set_internal("content.hash", self.hash.name)
        self.cache = Cache(settings["purge-target-size"], settings["purge-old-entry"])
        self.limit = settings["blob-size-limit"]
        self.backing_name: str | None = None  # of the first backing store: there is to be no other
        self._loading: dict[bytes, list[Message]] = {}
        super().__init__(handle, broker, *args)
        self._leader = broker.rank == 0
        self._back = WriteBack(self, self.cache, settings["flush-batch-limit"])
        self._through = WriteThrough(self, self.cache)
        self._writer = self._back if self._leader else self._through
        self._mapped = MappedFiles(self.hash)
        self._adding: dict[Iterator[None], Message] = {}  # files that are being read
        self._purge_timer = broker.reactor.timer(_PURGE_PERIOD, _PURGE_PERIOD, self._purge)
        self._purge_timer.start()

    def stop_service(self) -> None:
        """Nobody is left waiting."""
        self._purge_timer.stop()
        self._back.stop()
        self._through.stop()
        for requests in self._loading.values():
            self.abandon(requests)
        self.abandon(self._adding.values())
        self._adding.clear()
        self._mapped.close()
        if self._leader and self.cache.dirty and not nothing_stays(self.broker):
            self.broker.log.write(LOG_ERR, f"{len(self.cache.dirty)} blobs were not stored", self.name)

    # Blobs.

    @request_handler("store")
    def store(self, msg: Message) -> None:
        """Payload: the blob as it is, none for the empty one. Answers its digest. EFBIG if it is too big."""
        data = msg.raw or b""
        if len(data) > self.limit:
            raise OSError(errno.EFBIG, f"a blob of {len(data)} bytes is larger than {self.limit}")
        digest = self.hash.digest(data)
        new = self.cache.store([(digest, data)], self.broker.now)
        if digest in self._loading:
            self._arrived(digest, data)
        if self._leader:
            if new:
                self._back.add(new)
                if self._back.hold(msg, new, digest):
                    return
            self.answer(msg, digest)
        else:
            self._through.store(digest, data, msg)

    @request_handler("store-many")
    def store_many(self, msg: Message) -> None:
        """Payload: see `fluxlet.modules.content.batch`, without digests. Answers when all are here, as `store` does.

        Ours; rank 0 only. EFBIG if one is too big: then none is stored.
        """
        if not self._leader:
            raise OSError(errno.EINVAL, "blobs can be stored together only on rank 0")
        blobs = batch.decode_blobs(msg.raw)
        for data in blobs:
            if len(data) > self.limit:
                raise OSError(errno.EFBIG, f"a blob of {len(data)} bytes is larger than {self.limit}")
        digest = self.hash.digest
        new = self._take([(digest(data), data) for data in blobs])
        if new and self._back.hold(msg, new, None):
            return
        self.answer(msg)

    def _take(self, blobs: list[tuple[bytes, bytes]]) -> list[bytes]:
        """Stores blobs with their digests; returns those that are dirty now, and were not."""
        new = self.cache.store(blobs, self.broker.now)
        if new:
            self._back.add(new)
        if self._loading:
            for digest, data in blobs:
                self._arrived(digest, data)
        return new

    def take(self, blobs: list[tuple[bytes, bytes]], size: int) -> bool:
        """`store-many` without a message, for a module of this process that has made the digests.

        Args:
            blobs: with their digests.
            size: bytes of all of them.

        False: nothing is stored, and it takes a request to have that done, or to learn why not.
        """
        if not self._leader or size > self.limit or not self._back.has_room(size):
            return False
        self._take(blobs)
        return True

    @request_handler("load")
    def load(self, msg: Message) -> None:
        """Payload: the digest. Answers the blob as it is, no payload if it is empty; flag USER1 if a file's piece.

        EPROTO for what is no digest; ENOENT if there is none, with a text if somebody was asked for it.
        """
        digest = msg.raw
        if digest is None or len(digest) != self.hash.size:
            raise OSError(errno.EPROTO, None)
        entry = self.cache.find(digest, self.broker.now)
        if entry is not None:
            self._respond(msg, entry.data, entry.ephemeral)
            return
        waiting = self._loading.get(digest)
        if waiting is not None:
            waiting.append(msg)
            return
        if self._leader:
            data = self._mapped.load(digest)
            if data is not None:
                self._respond(msg, data, True)
                return
            if not self._back.backing:
                raise OSError(errno.ENOENT, None)
        self._loading[digest] = [msg]
        if self._leader:
            self.ask(b"content-backing.load", digest, partial(self._loaded, digest))
        else:
            self.ask(b"content.load", digest, partial(self._loaded, digest), nodeid=FLUX_NODEID_UPSTREAM)

    @request_handler("load-many")
    def load_many(self, msg: Message) -> None:
        """Payload: digests. Answers blobs: see `fluxlet.modules.content.many`. Ours; rank 0 only."""
        if not self._leader:
            raise OSError(errno.ENOSYS, "blobs can be loaded together only on rank 0")
        load_many(self, self.hash, self.blob, msg)

    def blob(self, digest: bytes) -> bytes | None:
        """`load` without a message, for a module of this process: a blob that is in memory, None if none is."""
        entry = self.cache.find(digest, self.broker.now)
        return None if entry is None or entry.ephemeral else entry.data

    def _loaded(self, digest: bytes, state: RpcState) -> None:
        """Somebody has answered for a blob that was missing here."""
        if not state.errnum:
            response: Message = state.value
            data = response.raw or b""
            ephemeral = bool(response.flags & FLUX_MSGFLAG_USER1)
            self.cache.insert(digest, data, self.broker.now, ephemeral)
            self._arrived(digest, data, ephemeral)
            # Who reads what is larger than memory should hold must not fill it until the next heartbeat.
            self.cache.purge(self.broker.now, 2)
            return
        for request in self._loading.pop(digest, ()):
            self.handle.respond_error(request, state.errnum, state.error_text())

    def _arrived(self, digest: bytes, data: bytes, ephemeral: bool = False) -> None:
        for request in self._loading.pop(digest, ()):
            self._respond(request, data, ephemeral)

    def _respond(self, request: Message, data: bytes, ephemeral: bool) -> None:
        if ephemeral:
            if not request.flags & FLUX_MSGFLAG_NORESPONSE:
                response = request.response(data or None)
                response.flags |= FLUX_MSGFLAG_USER1
                self.module.post(response)
        else:
            self.answer(request, data or None)

    # The cache as a whole.

    @request_handler("flush")
    def flush(self, msg: Message) -> None:
        """Answers when all that is dirty now is stored. ENOSYS on rank 0 if nobody is there to store it."""
        if self._leader and not self._back.backing:
            raise OSError(errno.ENOSYS, None)

        def flushed(errnum: int, text: str | None) -> None:
            if errnum:
                self.handle.respond_error(msg, errnum, text)
            else:
                self.answer(msg)

        self._writer.wait(flushed)

    @request_handler("dropcache")
    def dropcache(self, msg: Message) -> None:
        """Drops every clean blob."""
        self.cache.drop()
        self.answer(msg)

    @request_handler("stats-get")
    def stats_get(self, msg: Message) -> None:
        """Answers as spec 05, 2.2."""
        cache = self.cache
        valid = len(cache.clean) + len(cache.dirty)
        mapped = None
        if self._leader:
            tags = {tag: [file.path for file in files] for tag, files in self._mapped.tags.items()}
            mapped = {"tags": tags, "blobs": len(self._mapped)}
        stats = {
            "count": valid + len(self._loading),
            "valid": valid,
            "dirty": len(cache.dirty),
            "size": cache.size,
            "flush-batch-count": self._back.flying,
            "mmap": mapped,
        }
        self.handle.respond(msg, stats)

    @event_handler("heartbeat.pulse", prefix=False)
    def pulse(self, msg: Message) -> None:
        """The time to drop what is too much, and to try again what has failed."""
        self._purge()

    def _purge(self) -> None:
        self.cache.purge(self.broker.now)
        if self._back.error is not None:
            self._back.retry()

    # Checkpoints.

    @request_handler("checkpoint-get")
    def checkpoint_get(self, msg: Message) -> None:
        """Answers `{"value": [CHECKPOINT, ...]}`, newest first. ENOENT: there is none; ENOSYS: nobody could know."""
        if self._leader and not self._back.backing:
            raise OSError(errno.ENOSYS, "checkpoint get unavailable, no backing store")
        self._relay("checkpoint-get", msg)

    @request_handler("checkpoint-put")
    def checkpoint_put(self, msg: Message) -> None:
        """Payload `{"value": OBJECT}`. Stores what is dirty, then the checkpoint, and answers when it lasts."""
        request = read_object(msg)
        if "value" not in request:
            raise OSError(errno.EPROTO, "the payload has no value")
        if self._leader and not self._back.backing:
            raise OSError(errno.ENOSYS, "checkpoint put unavailable, no backing store")
        if not isinstance(request["value"], dict | list):
            raise OSError(errno.EINVAL, "failed to encode checkpoint value")

        def flushed(errnum: int, text: str | None) -> None:
            if errnum:
                self.handle.respond_error(msg, errnum, "error flushing content" + (f": {text}" if text else ""))
            else:
                self._relay("checkpoint-put", msg)

        self._writer.wait(flushed)

    def _relay(self, method: str, msg: Message) -> None:
        """Has the backing store answer, or the parent."""
        service, nodeid = ("content-backing", FLUX_NODEID_ANY) if self._leader else ("content", FLUX_NODEID_UPSTREAM)

        def answered(state: RpcState) -> None:
            if state.errnum:
                self.handle.respond_error(msg, state.errnum, state.error_text())
            else:
                self.answer(msg, state.value.raw)

        self.ask(f"{service}.{method}".encode(), msg.raw, answered, nodeid=nodeid)

    # The backing store.

    @request_handler("register-backing")
    def register_backing(self, msg: Message) -> None:
        """Payload `{"name": s}`: the module that serves `content-backing` from now on.

        With `"store-many": true` it takes blobs in batches (see `fluxlet.modules.content.batch`).
        """
        request = decode(msg, RegisterRequest)
        if not self._leader:
            raise OSError(errno.EINVAL, "content backing store can only be registered on rank 0")
        if self._back.backing:
            raise OSError(errno.EBUSY, "content backing store is already active")
        known = self.backing_name or self.broker.attributes.visible.get("content.backing-module")
        if known is not None and known != request.name:
            raise OSError(errno.EINVAL, "content backing store cannot be changed on the fly")
        self.backing_name = request.name
        self.broker.attributes.set_internal("content.backing-module", request.name)
        self.answer(msg)
        self._back.open(request.store_many)

    @request_handler("unregister-backing")
    def unregister_backing(self, msg: Message) -> None:
        """The backing store goes; what is dirty stays in memory."""
        if not self._back.backing:
            raise OSError(errno.EINVAL, "content backing store is not active")
        self._back.close()
        if self.cache.dirty and not nothing_stays(self.broker):
            text = f"{len(self.cache.dirty)} blobs are not stored, as the backing store goes"
            self.broker.log.write(LOG_WARNING, text, self.name)
        self.answer(msg)

    # Files.

    @request_handler("mmap-add")
    def mmap_add(self, msg: Message) -> None:
        """Payload `{"path": s, "chunksize": i, "tag": s}`: from now on the pieces of a file can be loaded."""
        request = decode(msg, MmapAddRequest)
        if not self._leader:
            raise OSError(errno.EINVAL, "content may only be mmapped on rank 0")
        if not request.path.startswith("/"):
            raise OSError(errno.EINVAL, "path must be fully qualified")
        if request.chunksize < 0:
            raise OSError(errno.EINVAL, "the size of a chunk is negative")
        steps = self._mapped.add(request.path, request.chunksize, request.tag)
        self._adding[steps] = msg
        self._add_file(steps)

    def _add_file(self, steps: Iterator[None]) -> None:
        if steps not in self._adding:
            return  # the module has ended
        try:
            for _ in steps:
                # Others have their turn in between.
                self.broker.reactor.timer(0.0, 0.0, partial(self._add_file, steps)).start()
                return
        except OSError as exc:
            self.handle.respond_error(self._adding.pop(steps), exc.errno or errno.EIO, exc.strerror)
            return
        self.answer(self._adding.pop(steps))

    @request_handler("mmap-remove")
    def mmap_remove(self, msg: Message) -> None:
        """Payload `{"tag": s}`: forgets the files that were added with this tag."""
        request = decode(msg, MmapRemoveRequest)
        if not self._leader:
            raise OSError(errno.EINVAL, "content can only be mmapped on rank 0")
        self._mapped.remove(request.tag)
        self.answer(msg)
