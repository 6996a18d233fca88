"""What the KVS holds of jobs, read in bulk: a restart may have a hundred thousand of them to read (spec 06, 11.2).

    the directory `job` -> content.load-many -> directories, a level at a time -> logs, jobspecs, Rs of many jobs

Rules:

- The tree is read as it is stored (RFC 11), as one that is dumped: a lookup for each value takes several times as long.
  What it refers to does not change meanwhile.
- Jobs come in the order of their ids, a hundred or so at a time: no more than those are in memory.
- What is missing of a job is None. Of what is no directory of a job nothing is told but to the log.
"""

from __future__ import annotations

import errno
from binascii import a2b_base64
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec

from flux.core.fluid import parse
from flux.core.future_state import FutureState, RpcState
from flux.future import Future
from fluxlet.modules.content.batch import decode_blobs
from fluxlet.modules.content.digest import Hash
from fluxlet.payload import UNREADABLE
from fluxlet.service import Service

#: Directories that are read with one request, and those of the third level whose jobs are listed before they are read.
_DIRECTORIES = 256
_LISTED = 64
#: So many jobspecs, of up to so many bytes, are remembered: jobs have them in common.
_SHARED = 1024
_SMALL = 4096

T = TypeVar("T")


class Stored(NamedTuple):
    """A job."""

    id: int
    log: bytes | None
    jobspec: bytes | None
    R: bytes | None


class _Entry(msgspec.Struct):
    """An entry of a directory: a tree object."""

    type: str
    data: Any


class _Directory(msgspec.Struct):
    data: dict[str, _Entry]


#: What a value is made of: its bytes, or the digests of the blobs that they are in.
_Value = bytes | list[bytes]

_decode = msgspec.json.Decoder(_Directory).decode


def _pieces(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _entries(path: str, blob: bytes) -> dict[str, _Entry]:
    """Those of a directory, by name. Raises OSError(ENOTRECOVERABLE)."""
    try:
        return _decode(blob).data
    except UNREADABLE as exc:
        raise OSError(errno.ENOTRECOVERABLE, f"{path} is no directory: {exc}") from None


class Reader:
    """See the module.

    Args:
        service: asks the content store.
        hash: of the instance.
        complain: called with a text for the log.
        at_once: how many jobs come together.
    """

    def __init__(self, service: Service, hash: Hash, complain: Callable[[str], None], at_once: int) -> None:
        self._service = service
        self._hash = hash
        self._complain = complain
        self._at_once = at_once
        self._shared: dict[bytes, bytes] = {}

    async def jobs(self, dirref: str) -> AsyncIterator[list[Stored]]:
        """All jobs of the directory `job`, which has this blobref. Raises OSError."""
        for first in await self._below([("job", self._hash.parse(dirref))]):
            for some in _pieces(await self._below([first]), _LISTED):
                for jobs in _pieces(await self._below(await self._below(some)), self._at_once):
                    yield await self._read(jobs)

    # Blobs.

    async def _ask(self, topic: bytes, digests: bytes) -> bytes:
        answer = FutureState()
        answer.ctx = self._service.handle.core

        def answered(state: RpcState) -> None:
            raw = None if state.errnum else state.value.raw
            answer.fulfil(raw or b"", state.errnum, state.errtext)

        self._service.ask(topic, digests, answered)
        await Future(answer)
        return bytes(answer.value)

    async def _load(self, digests: Iterable[bytes]) -> dict[bytes, bytes]:
        """Blobs by their digests; without those that there are not. Raises OSError."""
        left = list(dict.fromkeys(digests))
        found: dict[bytes, bytes] = {}
        try:
            while left:
                blobs = decode_blobs(await self._ask(b"content.load-many", b"".join(left)))
                if not blobs:
                    raise OSError(errno.EPROTO, "content.load-many has answered with nothing")
                found.update(zip(left, blobs, strict=False))
                left = left[len(blobs) :]
        except OSError:
            # One of them is not there, or this backing store does not know how to.
            for digest in left:
                try:
                    found[digest] = await self._ask(b"content.load", digest)
                except OSError as exc:
                    if exc.errno != errno.ENOENT:
                        raise
        return found

    # Directories.

    async def _below(self, places: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """(key, digest) of the directories in those of `places`, in order."""
        found = []
        for some in _pieces(places, _DIRECTORIES):
            blobs = await self._load(digest for _, digest in some)
            for path, digest in some:
                if digest not in blobs:
                    self._complain(f"{path} is missing")
                    continue
                for name, entry in sorted(_entries(path, blobs[digest]).items()):
                    if entry.type == "dirref":
                        found.append((f"{path}.{name}", self._hash.parse(entry.data[0])))
                    else:
                        self._complain(f"{path}.{name} is no directory")
        return found

    # Jobs.

    def _value(self, entry: _Entry | None) -> _Value | None:
        if entry is None:
            return None
        if entry.type == "val":
            return a2b_base64(entry.data)
        return [self._hash.parse(ref) for ref in entry.data] if entry.type == "valref" else None

    async def _read(self, places: Sequence[tuple[str, bytes]]) -> list[Stored]:
        directories = await self._load(digest for _, digest in places)
        values: list[tuple[int, list[_Value | None]]] = []
        for path, digest in places:
            try:
                jobid = parse(path)
            except ValueError:
                self._complain(f"{path} is not the directory of a job")
                continue
            entries = _entries(path, directories[digest]) if digest in directories else {}
            values.append((jobid, [self._value(entries.get(name)) for name in ("eventlog", "jobspec", "R")]))
        wanted = (digest for _, each in values for value in each if isinstance(value, list) for digest in value)
        blobs = await self._load(digest for digest in wanted if digest not in self._shared)
        blobs |= self._shared
        stored = [Stored(jobid, *[_joined(value, blobs) for value in each]) for jobid, each in values]
        self._remember([each[1] for _, each in values], blobs)
        return stored

    def _remember(self, jobspecs: list[_Value | None], blobs: dict[bytes, bytes]) -> None:
        if len(self._shared) > _SHARED:
            self._shared.clear()
        for value in jobspecs:
            if isinstance(value, list) and len(value) == 1:
                blob = blobs.get(value[0])
                if blob is not None and len(blob) <= _SMALL:
                    self._shared[value[0]] = blob


def _joined(value: _Value | None, blobs: dict[bytes, bytes]) -> bytes | None:
    """The bytes of a value; None if some are missing."""
    if not isinstance(value, list):
        return value
    if len(value) == 1:
        return blobs.get(value[0])
    pieces = [blobs.get(digest) for digest in value]
    return None if None in pieces else b"".join(piece for piece in pieces if piece is not None)
