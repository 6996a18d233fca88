"""Loader: blobs from the content store for those who wait for them; each is asked for once."""

from __future__ import annotations

import errno
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from fluxlet.modules.content.digest import Hash
from fluxlet.modules.kvs.directories import Directories
from fluxlet.modules.kvs.directory import Directory, decode
from fluxlet.modules.kvs.near import near_content

if TYPE_CHECKING:
    from flux.core.future_state import RpcState
    from fluxlet.service import Service

#: Called with a blob, or with why there is none.
Loaded = Callable[[bytes, OSError | None], None]


class Loader:
    """See the module.

    Args:
        service: that asks.
        hash: of the instance.
        directories: where decoded directories go.
    """

    def __init__(self, service: Service, hash: Hash, directories: Directories) -> None:
        self._service = service
        self._hash = hash
        self._directories = directories
        self._waiting: dict[bytes, list[Loaded]] = {}

    def load(self, ref: bytes, then: Loaded) -> None:
        """Calls `then` with the blob of a blobref."""
        waiting = self._waiting.get(ref)
        if waiting is not None:
            waiting.append(then)
            return
        try:
            digest = self._hash.parse(ref.decode())
        except ValueError as exc:
            then(b"", OSError(errno.EINVAL, str(exc)))
            return
        near = near_content(self._service.broker)
        blob = None if near is None else near.blob(digest)
        if blob is not None:
            then(blob, None)
            return
        self._waiting[ref] = [then]
        self._service.ask(b"content.load", digest, partial(self._answered, ref))

    def _answered(self, ref: bytes, state: RpcState) -> None:
        error = OSError(state.errnum, state.errtext) if state.errnum else None
        blob = b"" if error is not None else state.value.raw or b""
        for then in self._waiting.pop(ref):
            then(blob, error)

    def directory(self, ref: bytes, then: Callable[[Directory | None, OSError | None], None]) -> None:
        """Calls `then` with the directory of a blobref, which is kept in memory."""

        def loaded(blob: bytes, error: OSError | None) -> None:
            if error is not None:
                then(None, error)
                return
            directory = self._directories.get(ref)
            if directory is None:
                try:
                    directory = decode(blob)
                except OSError as exc:
                    then(None, exc)
                    return
                self._directories.add(ref, directory)
            then(directory, None)

        self.load(ref, loaded)
