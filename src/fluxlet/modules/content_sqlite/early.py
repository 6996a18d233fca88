"""Early: what an instance has stored that keeps nothing, as long as that is next to nothing.

Many instances run one short program and are gone: they need no file, and not the milliseconds that it takes to load
SQLite and to make one. It has the methods of `Database` that are needed for that; for all else, and when it has grown,
a `Database` takes over.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

#: Bytes of blobs, and number of them, that are next to nothing.
MOST_BYTES = 1 << 20
MOST_BLOBS = 2000


class Early:
    """See the module.

    Args:
        max_checkpoints: how many are kept.
    """

    def __init__(self, max_checkpoints: int) -> None:
        self._blobs: dict[bytes, bytes] = {}
        self._epochs: dict[bytes, int] = {}
        self._checkpoints: list[tuple[int, bytes]] = []
        self._max_checkpoints = max_checkpoints
        self._size = 0
        self.epoch = 0

    @property
    def full(self) -> bool:
        """True when it is time for a file."""
        return self._size > MOST_BYTES or len(self._blobs) > MOST_BLOBS

    def store(self, blobs: Iterable[tuple[bytes, bytes]]) -> None:
        """As of Database."""
        for digest, data in blobs:
            if digest not in self._blobs:
                self._blobs[digest] = data
                self._size += len(data)
            self._epochs[digest] = self.epoch

    def load(self, digest: bytes) -> bytes | None:
        """As of Database."""
        return self._blobs.get(digest)

    def load_all(self, digests: Iterable[bytes]) -> Iterator[bytes | None]:
        """As of Database."""
        return map(self._blobs.get, digests)

    def put_checkpoint(self, text: str) -> None:
        """As of Database."""
        self.epoch += 1
        self._checkpoints.insert(0, (self.epoch, text.encode()))
        del self._checkpoints[self._max_checkpoints :]

    def checkpoints(self) -> list[tuple[int, bytes]]:
        """As of Database."""
        return self._checkpoints

    def by_epoch(self) -> Iterator[tuple[int, list[tuple[bytes, bytes]]]]:
        """The blobs, with the epoch of which they are, as (digest, blob)."""
        epochs: dict[int, list[tuple[bytes, bytes]]] = {}
        for digest, data in self._blobs.items():
            epochs.setdefault(self._epochs[digest], []).append((digest, data))
        yield from sorted(epochs.items())

    def count(self) -> int:
        """As of Database."""
        return len(self._blobs)

    def sizes(self) -> tuple[int, int]:
        """As of Database: there is no file."""
        return 0, 0
