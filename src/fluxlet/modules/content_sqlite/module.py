"""The module `content-sqlite`: serves `content-backing` from an SQLite database (spec 05, section 3).

Arguments: `journal_mode=`, `synchronous=`, `max-checkpoints=`, `truncate`; they win over the table `[content-sqlite]`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from syslog import LOG_ERR
from time import perf_counter
from typing import Any

import msgspec

from flux.brokermod import request_handler
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.modules.content import batch
from fluxlet.modules.content.backing import BackingStore
from fluxlet.modules.content.many import digests_of, first_of
from fluxlet.modules.content_sqlite.database import Database
from fluxlet.modules.content_sqlite.early import Early
from fluxlet.modules.content_sqlite.settings import Settings
from fluxlet.modules.figures import Figures
from fluxlet.payload import decode

_encode = msgspec.json.Encoder().encode
_FILE = "content.sqlite"
#: Hashes in a mark request; blobs that one sweep may delete, and row ids that it may look at.
_MOST_MARKS = 16384
_MOST_DELETED = 8192
_WIDEST = 524288


class GcInfoRequest(msgspec.Struct):
    """Payload of content-backing.gc-info."""

    epoch: int
    get_count: bool = False


class MarkRequest(msgspec.Struct):
    """Payload of content-backing.mark."""

    epoch: int
    hashes: list[str]


class SweepRequest(msgspec.Struct):
    """Payload of content-backing.sweep."""

    epoch: int
    cursor: int
    high_water: int
    delete_cap: int
    window: int


class ContentSqlite(BackingStore):
    """See the module. Raises OSError for settings that will not do, and a file that cannot be used."""

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        attributes = broker.attributes.visible
        self._temporary = attributes.get("statedir-cleanup", "1") == "1"
        self.settings = Settings(broker.config, args, self._temporary)
        super().__init__(handle, broker, *args)
        directory = attributes.get("statedir")
        #: None: the broker was put together without a place for files, and has only memory.
        self.path = None if directory is None else os.path.join(directory, _FILE)
        self.load_time = Figures()
        self.store_time = Figures()
        self._early: Early | None = None
        self._opened: Database | None = None
        explicit = self.settings.explicit or not self._temporary
        if self.path is None or not (explicit or os.path.exists(self.path)):
            self._early = Early(self.settings.max_checkpoints)
        else:
            self._opened = Database(self.path, self.hash, self.settings)

    def stop_service(self) -> None:
        """The file is closed."""
        try:
            self._close()
        except OSError as exc:
            self.broker.log.write(LOG_ERR, f"closing the database: {exc.strerror}", self.name)

    def _close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    @property
    def _store(self) -> Database | Early:
        """Where blobs and checkpoints are."""
        early = self._early
        if early is not None and (self.path is None or not early.full):
            return early
        return self._database

    @property
    def _database(self) -> Database:
        """The file; from the first time that it is needed."""
        if self._opened is None:
            if self.path is None:
                raise OSError(errno.EOPNOTSUPP, "there is no statedir for a database")
            opened = Database(self.path, self.hash, self.settings)
            try:
                if self._early is not None:
                    opened.take_over(self._early)
            except BaseException:
                opened.close()
                raise
            self._opened, self._early = opened, None
        return self._opened

    @contextmanager
    def _timed(self, figures: Figures) -> Iterator[None]:
        started = perf_counter()
        yield
        figures.add((perf_counter() - started) * 1e3)

    # Blobs.

    @request_handler("content-backing.load", prefix=False)
    def load(self, msg: Message) -> None:
        """Payload: the digest. Answers the blob. EPROTO, ENOENT."""
        with self._timed(self.load_time):
            data = self._store.load(self.digest_of(msg))
        if data is None:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        self.answer(msg, data or None)

    @request_handler("content-backing.load-many", prefix=False)
    def load_many(self, msg: Message) -> None:
        """Payload: digests. Answers blobs: see `fluxlet.modules.content.many`. EPROTO, ENOENT."""
        with self._timed(self.load_time):
            raw = first_of(self._store.load_all(digests_of(msg.raw, self.hash)))
        self.answer(msg, raw)

    @request_handler("content-backing.store", prefix=False)
    def store(self, msg: Message) -> None:
        """Payload: the blob. Answers its digest."""
        data = msg.raw or b""
        digest = self.hash.digest(data)
        with self._timed(self.store_time):
            self._store.store([(digest, data)])
        self.answer(msg, digest)

    @request_handler("content-backing.store-many", prefix=False)
    def store_many(self, msg: Message) -> None:
        """Payload: see `fluxlet.modules.content.batch`. All of them are stored, or none."""
        blobs = batch.decode(msg.raw, self.hash.size)
        with self._timed(self.store_time):
            self._store.store(blobs)
        self.answer(msg)

    @request_handler("content-backing.validate", prefix=False)
    def validate(self, msg: Message) -> None:
        """Payload: the digest. ENOENT if there is no such blob; EIO if it is damaged."""
        if self._store.load(self.digest_of(msg)) is None:
            raise OSError(errno.ENOENT, None)
        self.answer(msg)

    # Checkpoints.

    @request_handler("content-backing.checkpoint-get", prefix=False)
    def checkpoint_get(self, msg: Message) -> None:
        """Answers `{"value": [CHECKPOINT, ...]}`, newest first. ENOENT if there is none."""
        texts = [text for _, text in self._store.checkpoints()]
        if not texts:
            raise OSError(errno.ENOENT, None)
        self.answer(msg, b'{"value":[%b]}\0' % b",".join(texts))

    @request_handler("content-backing.checkpoint-put", prefix=False)
    def checkpoint_put(self, msg: Message) -> None:
        """Payload `{"value": OBJECT}`; answers when it lasts."""
        self._store.put_checkpoint(_encode(self.checkpoint_of(msg)).decode())
        self.answer(msg)

    # Garbage (spec 05, 11.6).

    @request_handler("content-backing.gc-info", prefix=False)
    def gc_info(self, msg: Message) -> None:
        """Payload: `GcInfoRequest`; answers `current_epoch`, `high_water` and, if they are wanted, `candidates`."""
        request = decode(msg, GcInfoRequest)
        database = self._database
        answer = {"current_epoch": database.epoch, "high_water": database.high_water()}
        if request.get_count:
            answer["candidates"] = database.candidates(request.epoch)
        self.handle.respond(msg, answer)

    @request_handler("content-backing.mark", prefix=False)
    def mark(self, msg: Message) -> None:
        """Payload: `MarkRequest`: these blobs are wanted. Answers `{"marked": i}`."""
        request = decode(msg, MarkRequest)
        if len(request.hashes) > _MOST_MARKS:
            text = f"mark request of {len(request.hashes)} hashes exceeds limit of {_MOST_MARKS}"
            raise OSError(errno.EINVAL, text)
        try:
            digests = [self.hash.parse(blobref) for blobref in request.hashes]
        except ValueError as exc:
            raise OSError(errno.EPROTO, str(exc)) from None
        self.handle.respond(msg, {"marked": self._database.mark(digests, request.epoch)})

    @request_handler("content-backing.sweep", prefix=False)
    def sweep(self, msg: Message) -> None:
        """Payload: `SweepRequest`: deletes what is older than `epoch`. Answers `{"deleted": I, "cursor": I}`."""
        request = decode(msg, SweepRequest)
        if request.delete_cap <= 0 or request.window <= 0 or request.cursor < 0 or request.high_water < 0:
            raise OSError(errno.EINVAL, "the limits of a sweep must be greater than zero")
        deleted, cursor = self._database.sweep(
            request.epoch,
            request.cursor,
            request.high_water,
            min(request.delete_cap, _MOST_DELETED),
            min(request.window, _WIDEST),
        )
        self.handle.respond(msg, {"deleted": deleted, "cursor": cursor})

    # Figures.

    @request_handler("stats-get", allow_guest=True)
    def stats_get(self, msg: Message) -> None:
        """Answers as spec 05, 3.1."""
        store = self._store
        size, free = store.sizes()
        stats: dict[str, Any] = {
            "object_count": store.count(),
            "current_epoch": store.epoch,
            "dbfile_size": size,
            "dbfile_free": free,
            "load_time": self.load_time.as_dict(),
            "store_time": self.store_time.as_dict(),
            "config": {"journal_mode": self.settings.journal_mode, "synchronous": self.settings.synchronous},
            "checkpoints": [{"id": id, "value": msgspec.json.decode(text)} for id, text in store.checkpoints()],
        }
        self.handle.respond(msg, stats)

    @request_handler("stats-clear")
    def stats_clear(self, msg: Message) -> None:
        """Forgets the times."""
        self.load_time, self.store_time = Figures(), Figures()
        self.answer(msg)
