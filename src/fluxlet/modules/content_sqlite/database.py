"""Database: the file `content.sqlite`, as flux-core 0.88 writes and reads it (spec 05, 3.2). Knows no messages.

Rules:

- Digests are stored with the type TEXT, though they are bytes: a parameter must be cast, or it never compares equal.
- A blob of 256 bytes or more is an LZ4 block, `size` its length before; a shorter one is as it is, `size` -1; an empty
  one is NULL. Either form is read, whatever its length.
- All that changes the file is one transaction each, so that what fails has changed nothing; but `sweep`, which is
  called until there is nothing left to do.
- Every error is an OSError with a text that names the file.
- What is loaded is compared with its digest: an answer is right, or an error.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from fluxlet.modules.content.digest import Hash

if TYPE_CHECKING:
    import sqlite3
    from types import TracebackType

    from fluxlet.modules.content_sqlite.early import Early
    from fluxlet.modules.content_sqlite.settings import Settings

#: Blobs of at least so many bytes are compressed.
_COMPRESS = 256
#: Blobs that are loaded with one query, where many are.
_TOGETHER = 32

_OBJECTS = "objects(  hash BLOB PRIMARY KEY,  size INT,  object BLOB,  epoch INT DEFAULT 0)"
_CHECKPOINTS = "checkpt_v2(  id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,  value TEXT)"

_STORE = (
    "INSERT INTO objects (hash, size, object, epoch) VALUES (CAST(? AS TEXT), ?, ?, ?) "
    "ON CONFLICT (hash) DO UPDATE SET epoch = excluded.epoch"
)
_LOAD = "SELECT size, object FROM objects WHERE hash = CAST(? AS TEXT)"
_LOAD_ALL = "SELECT hash, size, object FROM objects WHERE hash IN ({})"
_MARK = "UPDATE objects SET epoch = max(epoch, ?) WHERE hash = CAST(? AS TEXT)"

#: Of SQLite's primary result codes (spec 05, 3.2); the others are EINVAL.
_ERRNO = {
    10: errno.EIO,  # IOERR
    7: errno.ENOMEM,  # NOMEM
    4: errno.EPERM,  # ABORT
    3: errno.EPERM,  # PERM
    8: errno.EPERM,  # READONLY
    18: errno.EFBIG,  # TOOBIG
    13: errno.ENOSPC,  # FULL
}
_BUSY = (5, 6)


class _Errors:
    """A context in which SQLite's errors become OSErrors. No generator: each blob that is loaded passes through it."""

    def __init__(self, path: str, error: type[Exception]) -> None:
        self._path = path
        self._error = error

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(exc, self._error):
            code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
            text = f"{self._path}: {exc}"
            if code in _BUSY:
                text += ": is another instance using it?"
            raise OSError(_ERRNO.get(code, errno.EINVAL), text) from None
        if isinstance(exc, OverflowError):
            raise OSError(errno.EFBIG, f"{self._path}: the blob is too big for SQLite") from None


class Database:
    """An open database.

    Args:
        path: of the file, which is made if it is not there.
        hash: of the instance.
        settings: how to keep it.

    Raises OSError if it cannot be opened, or is damaged.
    """

    def __init__(self, path: str, hash: Hash, settings: Settings) -> None:
        import sqlite3

        import lz4.block

        self.path = path
        self._hash = hash
        self._settings = settings
        self._errors = _Errors(path, sqlite3.Error)
        self._compress: Callable[..., bytes] = lz4.block.compress
        self._decompress: Callable[..., bytes] = lz4.block.decompress
        self._bad_block: type[Exception] = lz4.block.LZ4BlockError
        if settings.truncate:
            for suffix in ("", "-wal", "-journal", "-shm"):
                with suppress(FileNotFoundError):
                    os.unlink(path + suffix)
        # Without these, whoever had it last has closed it, and it is whole.
        doubtful = any(os.path.exists(path + suffix) for suffix in ("-wal", "-journal"))
        doubtful |= settings.journal_mode == "OFF" and os.path.exists(path)
        with self._errors:
            # A broker may be put together by one thread and run by another; it is never in two at once.
            self.connection: sqlite3.Connection = sqlite3.connect(
                path, timeout=0.0, isolation_level=None, check_same_thread=False
            )
        try:
            with self._errors:
                self._prepare(doubtful)
        except BaseException:
            self.connection.close()
            raise

    def _prepare(self, doubtful: bool) -> None:
        execute = self.connection.execute
        self.connection.text_factory = bytes
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute(f"PRAGMA journal_mode = {self._settings.journal_mode}")
        execute(f"PRAGMA synchronous = {self._settings.synchronous}")
        if doubtful:
            for (finding,) in execute("PRAGMA quick_check(1)").fetchall():
                if finding != b"ok":
                    raise OSError(errno.EINVAL, f"{self.path} is damaged: {finding.decode('utf-8', 'replace')}")
        with self._transaction():
            tables = {name for (name,) in execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if b"objects" not in tables:
                execute(f"CREATE TABLE {_OBJECTS}")
            elif not any(column[1] == b"epoch" for column in execute("PRAGMA table_info(objects)")):
                execute("ALTER TABLE objects ADD COLUMN epoch INT DEFAULT 0")
            if b"checkpt_v2" not in tables:
                execute(f"CREATE TABLE {_CHECKPOINTS}")
            if b"checkpt" in tables:
                execute("INSERT INTO checkpt_v2 (value) SELECT value FROM checkpt WHERE key = 'kvs-primary'")
                execute("DROP TABLE checkpt")
        #: Id of the newest checkpoint; what is stored now is as old as that.
        self.epoch: int = execute("SELECT coalesce(max(id), 0) FROM checkpt_v2").fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """All of it, or nothing."""
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            yield
            execute("COMMIT")
        except BaseException:
            # Some errors have ended it already.
            if self.connection.in_transaction:
                execute("ROLLBACK")
            raise

    def close(self) -> None:
        """Closes the file, which is all there is then. Raises OSError."""
        with self._errors:
            self.connection.close()

    # Blobs.

    def _row(self, digest: bytes, data: bytes) -> tuple[bytes, int, bytes | None, int]:
        if len(data) < _COMPRESS:
            return digest, -1, data or None, self.epoch
        return digest, len(data), self._compress(data, store_size=False), self.epoch

    def store(self, blobs: Iterable[tuple[bytes, bytes]]) -> None:
        """Stores blobs with their digests; of those that are there, it is noted that they are wanted."""
        with self._errors:
            rows = [self._row(digest, data) for digest, data in blobs]
            with self._transaction():
                self.connection.executemany(_STORE, rows)

    def load(self, digest: bytes) -> bytes | None:
        """A blob, None if there is none. Raises OSError(EIO) for one that is damaged."""
        with self._errors:
            row = self.connection.execute(_LOAD, (digest,)).fetchone()
        return None if row is None else self._blob(digest, *row)

    def load_all(self, digests: Sequence[bytes]) -> Iterator[bytes | None]:
        """Generates the results of `load`, in half the time."""
        for start in range(0, len(digests), _TOGETHER):
            some = digests[start : start + _TOGETHER]
            with self._errors:
                query = _LOAD_ALL.format(",".join(["CAST(? AS TEXT)"] * len(some)))
                rows = {row[0]: row[1:] for row in self.connection.execute(query, some)}
            for digest in some:
                row = rows.get(digest)
                yield None if row is None else self._blob(digest, *row)

    def _blob(self, digest: bytes, size: int, data: bytes | None) -> bytes:
        """The blob of a row. Raises OSError(EIO) for one that is damaged."""
        data = data or b""
        try:
            if size >= 0 and data:
                data = self._decompress(data, uncompressed_size=size)
        except (self._bad_block, ValueError, OverflowError, MemoryError) as exc:
            raise OSError(errno.EIO, f"{self.path}: {self._hash.blobref(digest)} is damaged: {exc}") from None
        if self._hash.digest(data) != digest:
            raise OSError(errno.EIO, f"{self.path}: {self._hash.blobref(digest)} is damaged")
        return bytes(data)

    def take_over(self, early: Early) -> None:
        """Stores all that is in memory so far."""
        with self._errors, self._transaction():
            for epoch, blobs in early.by_epoch():
                self.epoch = epoch
                self.connection.executemany(_STORE, [self._row(digest, data) for digest, data in blobs])
            rows = [(id, text.decode()) for id, text in reversed(early.checkpoints())]
            self.connection.executemany("INSERT INTO checkpt_v2 (id, value) VALUES (?, ?)", rows)
        self.epoch = early.epoch

    # Checkpoints.

    def put_checkpoint(self, text: str) -> None:
        """Adds a checkpoint, JSON text, and drops the oldest beyond the number that is kept."""
        with self._errors, self._transaction():
            row = self.connection.execute("INSERT INTO checkpt_v2 (value) VALUES (?)", (text,)).lastrowid
            self.connection.execute(
                "DELETE FROM checkpt_v2 WHERE id NOT IN (SELECT id FROM checkpt_v2 ORDER BY id DESC LIMIT ?)",
                (self._settings.max_checkpoints,),
            )
        self.epoch = row or 0

    def checkpoints(self) -> list[tuple[int, bytes]]:
        """(id, JSON text) of all, newest first."""
        with self._errors:
            return self.connection.execute("SELECT id, value FROM checkpt_v2 ORDER BY id DESC").fetchall()

    # Garbage (spec 05, 11.6).

    def high_water(self) -> int:
        """Row id of the newest blob; 0 without any."""
        return self._number("SELECT coalesce(max(rowid), 0) FROM objects")

    def candidates(self, epoch: int) -> int:
        """How many blobs are older than `epoch`."""
        return self._number("SELECT count(*) FROM objects WHERE epoch < ?", epoch)

    def mark(self, digests: Sequence[bytes], epoch: int) -> int:
        """Notes that blobs are wanted. Returns how many of them there are."""
        with self._errors, self._transaction():
            return self.connection.executemany(_MARK, [(epoch, digest) for digest in digests]).rowcount

    def sweep(self, epoch: int, cursor: int, high_water: int, most: int, window: int) -> tuple[int, int]:
        """Deletes blobs that are older than `epoch`.

        Args:
            cursor: row id of the last blob that was looked at.
            high_water: row id of the last one to look at.
            most: how many to delete.
            window: how many row ids to look at.

        Returns how many were deleted, and the next cursor: `high_water` when all is done.
        """
        end = min(cursor + window, high_water)
        with self._errors, self._transaction():
            found = self.connection.execute(
                "SELECT rowid FROM objects WHERE rowid > ? AND rowid <= ? AND epoch < ? ORDER BY rowid LIMIT ?",
                (cursor, end, epoch, most),
            ).fetchall()
            self.connection.executemany("DELETE FROM objects WHERE rowid = ?", found)
        # With as many as there may be, there may be more.
        return len(found), found[-1][0] if len(found) == most else end

    # Figures.

    def count(self) -> int:
        """The number of blobs."""
        return self._number("SELECT count(*) FROM objects")

    def sizes(self) -> tuple[int, int]:
        """Bytes of the file, and those of them that are free for what is stored next."""
        page = self._number("PRAGMA page_size")
        return page * self._number("PRAGMA page_count"), page * self._number("PRAGMA freelist_count")

    def _number(self, query: str, *args: Any) -> int:
        with self._errors:
            number: int = self.connection.execute(query, args).fetchone()[0]
            return number
