"""The module `content-files`: serves `content-backing` from a directory, a file for each blob (spec 05, 3.3).

For who wants to see what there is: `-Scontent.backing-module=content-files`. In `<statedir>/content.files/` each file
is named by its blobref and holds the blob; `kvs-primary` is the latest checkpoint, the only one that is kept.

Rules:

- A file is written under another name and renamed: one that is there is whole.
- Nothing is ever deleted: there is no garbage collection.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from flux.brokermod import request_handler
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.modules.content import batch
from fluxlet.modules.content.backing import BackingStore
from fluxlet.modules.content.many import digests_of, first_of

_encode = msgspec.json.Encoder().encode
_DIRECTORY = "content.files"
_CHECKPOINT = "kvs-primary"


class ContentFiles(BackingStore):
    """See the module. Raises OSError if the directory cannot be made; EINVAL for arguments, but `truncate`."""

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        for arg in args:
            if arg != "truncate":
                raise OSError(errno.EINVAL, f"{arg}: unknown argument")
        directory = broker.attributes.visible.get("statedir")
        if directory is None:
            raise OSError(errno.EINVAL, "there is no statedir for files")
        self.path = os.path.join(directory, _DIRECTORY)
        with _named(self.path):
            os.makedirs(self.path, 0o700, exist_ok=True)
            if args:
                for name in os.listdir(self.path):
                    os.unlink(os.path.join(self.path, name))
        super().__init__(handle, broker, *args)

    def _write(self, name: str, data: bytes) -> None:
        path = os.path.join(self.path, name)
        with _named(path):
            try:
                with open(f"{path}.new", "wb") as file:
                    file.write(data)
                os.rename(f"{path}.new", path)
            except OSError:
                with suppress(FileNotFoundError):
                    os.unlink(f"{path}.new")
                raise

    def _store(self, digest: bytes, data: bytes) -> None:
        name = self.hash.blobref(digest)
        if not os.path.exists(os.path.join(self.path, name)):
            self._write(name, data)

    def _load(self, digest: bytes) -> bytes:
        name = self.hash.blobref(digest)
        path = os.path.join(self.path, name)
        try:
            with _named(path), open(path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT)) from None
        if self.hash.digest(data) != digest:
            raise OSError(errno.EIO, f"{path} is damaged")
        return data

    @request_handler("content-backing.load", prefix=False)
    def load(self, msg: Message) -> None:
        """Payload: the digest. Answers the blob. EPROTO, ENOENT."""
        self.answer(msg, self._load(self.digest_of(msg)) or None)

    @request_handler("content-backing.load-many", prefix=False)
    def load_many(self, msg: Message) -> None:
        """Payload: digests. Answers blobs: see `fluxlet.modules.content.many`. EPROTO, ENOENT."""
        self.answer(msg, first_of(map(self._load, digests_of(msg.raw, self.hash))))

    @request_handler("content-backing.store", prefix=False)
    def store(self, msg: Message) -> None:
        """Payload: the blob. Answers its digest."""
        data = msg.raw or b""
        digest = self.hash.digest(data)
        self._store(digest, data)
        self.answer(msg, digest)

    @request_handler("content-backing.store-many", prefix=False)
    def store_many(self, msg: Message) -> None:
        """Payload: see `fluxlet.modules.content.batch`."""
        for digest, data in batch.decode(msg.raw, self.hash.size):
            self._store(digest, data)
        self.answer(msg)

    @request_handler("content-backing.validate", prefix=False)
    def validate(self, msg: Message) -> None:
        """Payload: the digest. ENOENT if there is no such blob; EIO if it is damaged."""
        self._load(self.digest_of(msg))
        self.answer(msg)

    @request_handler("content-backing.checkpoint-get", prefix=False)
    def checkpoint_get(self, msg: Message) -> None:
        """Answers `{"value": [CHECKPOINT]}`. ENOENT if there is none."""
        try:
            with open(os.path.join(self.path, _CHECKPOINT), "rb") as file:
                text = file.read()
        except FileNotFoundError:
            raise OSError(errno.ENOENT, None) from None
        self.answer(msg, b'{"value":[%b]}\0' % text.strip())

    @request_handler("content-backing.checkpoint-put", prefix=False)
    def checkpoint_put(self, msg: Message) -> None:
        """Payload `{"value": OBJECT}`."""
        self._write(_CHECKPOINT, _encode(self.checkpoint_of(msg)))
        self.answer(msg)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Errors say which file they are about."""
    try:
        yield
    except OSError as exc:
        number = exc.errno or errno.EIO
        raise OSError(number, f"{path}: {os.strerror(number)}") from None
