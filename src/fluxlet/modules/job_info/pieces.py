"""Pieces: a value of the KVS read blob by blob, so that a long log keeps nobody waiting (spec 05, 4.1).

A lookup answers a value whole: a gigabyte of output would be joined, encoded and decoded in one go. Here what is to be
told stands in a queue, blobs by their digests, and is loaded and told piece by piece: with pauses in which the broker
looks after everybody else, and no faster than the client reads (`fluxlet.pace`).
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from flux.constants import FLUX_KVS_TREEOBJ
from flux.core import kvs_rpc
from flux.core.future_state import RpcState
from fluxlet.modules.job_info.reading import Outcome, lookup_payload, outcome

if TYPE_CHECKING:
    from fluxlet.service import Service

#: Bytes that are told at once.
_PIECE = 16 << 10


def blobs_of(refs: Iterable[str]) -> list[Blob]:
    """Those that blobrefs stand for."""
    return [Blob(bytes.fromhex(ref.partition("-")[2])) for ref in refs]


class Taken:
    """Which blobs have been taken from a value that grows, in little room however many they are."""

    def __init__(self) -> None:
        self.count = 0
        self._mark = 0

    def add(self, blob: Blob) -> None:
        """One more."""
        self.count += 1
        self._mark = hash((self._mark, blob.digest))

    def begins(self, blobs: list[Blob]) -> bool:
        """True if there are some, and a value of these blobs begins with them."""
        other = Taken()
        for blob in blobs[: self.count]:
            other.add(blob)
        return self.count > 0 and (other.count, other._mark) == (self.count, self._mark)


class Blob(NamedTuple):
    """A blob that is to be told; `data`: what it holds, if that is known."""

    digest: bytes
    data: bytes | None = None


class _Rest(NamedTuple):
    """Bytes, and where what has not been told of them begins."""

    data: bytes
    start: int


class Pieces:
    """One reading of a value, or of several things one after the other.

    Args:
        service: who reads.
        may_tell: tells whether more may be told now; else it has `go_on` called later.
        told: called with each piece, or an error, which is the last thing told, or a sentinel; with None after all of
            a copy.

    Attributes:
        taken: which blobs have been told, or begun to be.
    """

    def __init__(
        self, service: Service, may_tell: Callable[[Pieces], bool], told: Callable[[Outcome | None], None]
    ) -> None:
        self._service = service
        self._may_tell = may_tell
        self._told = told
        self.taken = Taken()
        self._queue: deque[Blob | Outcome | _Rest | None] = deque()
        self._busy = False
        self._waiting = False  # for a blob
        self._over = False

    def copy(self, key: str, known: Callable[[list[Blob]], int]) -> None:
        """Reads a key of the primary namespace, once.

        Args:
            known: given its blobs, says how many of them need not be read.
        """

        def found(state: RpcState) -> None:
            if state.errnum:
                self.add(outcome(state))
                return
            try:
                treeobj = kvs_rpc.tree_object(state)
            except OSError as exc:
                self.add(Outcome(b"", exc.errno or errno.EPROTO, exc.strerror))
                return
            if treeobj["type"] == "valref":
                blobs = blobs_of(treeobj["data"])
                self.add(*blobs[known(blobs) :], None)
            else:
                # A short value, or none at all: the lookup has the words for that.
                self._service.ask(b"kvs.lookup", lookup_payload(key), whole)

        def whole(state: RpcState) -> None:
            found = outcome(state)
            self.add(found, *(() if found.errnum else (None,)))

        self._service.ask(b"kvs.lookup", lookup_payload(key, FLUX_KVS_TREEOBJ), found)

    def add(self, *items: Blob | Outcome | None) -> None:
        """More is to be told; None for the end of a copy."""
        if not self._over:
            self._queue.extend(items)
            self.go_on()

    def stop(self) -> None:
        """Nothing is told any more."""
        self._over = True
        self._queue.clear()

    def go_on(self) -> None:
        """Tells what may be told now."""
        if self._busy:
            return
        self._busy = True
        queue = self._queue
        while queue and not self._waiting and self._may_tell(self):
            item = queue.popleft()
            if isinstance(item, Blob):
                self.taken.add(item)
                if item.data is not None:
                    queue.appendleft(_Rest(item.data, 0))
                    continue
                self._waiting = True
                self._service.ask(b"content.load", item.digest, self._loaded)  # answered at once if it is in memory
            elif isinstance(item, _Rest):
                end = item.start + _PIECE
                if end < len(item.data):
                    queue.appendleft(_Rest(item.data, end))
                self._told(Outcome(item.data[item.start : end]))
            else:
                self._told(item)
        self._busy = False

    def _loaded(self, state: RpcState) -> None:
        self._waiting = False
        if self._over:
            return
        if state.errnum:
            self._queue.appendleft(Outcome(b"", state.errnum, state.errtext))
        else:
            self._queue.appendleft(_Rest(state.value.raw or b"", 0))
        self.go_on()
