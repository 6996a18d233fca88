"""Cache: blobs by their digests, in memory (spec 05, 2.3). Pure: no messages, no clock.

Rules:

- A blob is dirty until somebody else has it too; a dirty one never goes.
- Dirty blobs are in the order in which they have become so, and numbered: who waits for all that is dirty at some
  moment waits for the numbers up to that of the last.
- Clean blobs are in order of use. Those that were not used for a while go first, while there are too many; where that
  is not enough, because more comes than memory should hold, so do those that were.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

#: So many times what is aimed at may be in memory, whatever its age.
_BOUND = 2
#: A blob takes some memory besides its bytes.
_OVERHEAD = 250


class Entry:
    """A blob that is here.

    Attributes:
        data: its bytes.
        used: when it was used last, in seconds.
        number: among those that have become dirty; 0: it is clean.
        ephemeral: it is a piece of a file, which the backing store does not have.
    """

    __slots__ = ("data", "ephemeral", "number", "used")

    def __init__(self, data: bytes, used: float, number: int = 0, ephemeral: bool = False) -> None:
        self.data = data
        self.used = used
        self.number = number
        self.ephemeral = ephemeral


class Cache:
    """See the module.

    Args:
        target: bytes of clean blobs that are aimed at.
        age: seconds for which a blob is not to be dropped after its last use.
    """

    def __init__(self, target: int, age: float) -> None:
        self.target = target
        self.age = age
        self.clean: OrderedDict[bytes, Entry] = OrderedDict()  # least recently used first
        self.dirty: OrderedDict[bytes, Entry] = OrderedDict()  # lowest number first
        self.number = 0
        self.size = 0  # bytes of all blobs
        self.dirty_size = 0

    def find(self, digest: bytes, now: float) -> Entry | None:
        """A blob, if it is here; this is a use of it."""
        clean = self.clean
        entry = clean.get(digest)
        if entry is None:
            entry = self.dirty.get(digest)
            if entry is None:
                return None
        else:
            clean.move_to_end(digest)
        entry.used = now
        return entry

    def store(self, blobs: Iterable[tuple[bytes, bytes]], now: float) -> list[bytes]:
        """Takes in blobs, with their digests, as dirty ones. Returns which were not, so that they have to be sent on.

        One that is here and clean is sent on again: the backing store takes note that it is wanted (spec 05, 11.6).
        """
        clean, dirty = self.clean, self.dirty
        new = []
        for digest, data in blobs:
            entry = dirty.get(digest)
            if entry is not None:
                entry.used = now
                continue
            self.number = number = self.number + 1
            entry = clean.pop(digest, None)
            if entry is None:
                dirty[digest] = Entry(data, now, number)
                self.size += len(data)
            else:
                entry.used = now
                entry.number = number
                entry.ephemeral = False
                dirty[digest] = entry
            self.dirty_size += len(data)
            new.append(digest)
        return new

    def insert(self, digest: bytes, data: bytes, now: float, ephemeral: bool = False) -> None:
        """Takes in a blob that was loaded: a clean one, if it is not here."""
        if digest not in self.clean and digest not in self.dirty:
            self.clean[digest] = Entry(data, now, 0, ephemeral)
            self.size += len(data)

    def stored(self, digests: Iterable[bytes]) -> None:
        """Somebody else has the blobs now: they are clean."""
        clean, take = self.clean, self.dirty.pop
        for digest in digests:
            entry = take(digest, None)
            if entry is not None:
                entry.number = 0
                self.dirty_size -= len(entry.data)
                clean[digest] = entry

    def refused(self, digest: bytes) -> None:
        """Nobody else takes the dirty blob, and its owner was told: it is forgotten."""
        entry = self.dirty.pop(digest, None)
        if entry is not None:
            self.dirty_size -= len(entry.data)
            self.size -= len(entry.data)

    @property
    def lowest(self) -> int:
        """The lowest number of a dirty blob; one that none has yet if all are clean."""
        for entry in self.dirty.values():
            return entry.number
        return self.number + 1

    def purge(self, now: float, most: int | None = None) -> None:
        """Drops clean blobs as far as there are too many; at most `most` of them."""
        clean = self.clean
        left = len(clean) if most is None else most
        while clean and left:
            entry = next(iter(clean.values()))
            too_much = self.size > self.target and entry.used <= now - self.age
            if not too_much and self.size - self.dirty_size + _OVERHEAD * len(clean) <= _BOUND * self.target:
                return
            clean.popitem(last=False)
            self.size -= len(entry.data)
            left -= 1

    def drop(self) -> None:
        """Drops every clean blob."""
        self.clean.clear()
        self.size = self.dirty_size
