"""Directories: those that are in memory, by blobref (spec 05, 7.4). Pure.

What was used last stays, up to a number of bytes. Of the directories that a commit has replaced only the latest stay:
whoever holds on to an old root may have to wait for them to be loaded again.
"""

from __future__ import annotations

from collections import OrderedDict

from fluxlet.modules.kvs.directory import Directory

#: Bytes of all of them.
BOUND = 48 << 20
#: So many of those used last stay, whatever their size: a large one, and those that lead to it.
_LEAST = 4
#: Directories that have been replaced, and may be asked for by those who are just being told so.
_REPLACED = 64


class Directories:
    """See the module."""

    def __init__(self, bound: int = BOUND) -> None:
        self._bound = bound
        self._known: OrderedDict[bytes, Directory] = OrderedDict()
        self._replaced: dict[bytes, None] = {}  # oldest first
        self.weight = 0
        self.faults = 0

    def __len__(self) -> int:
        return len(self._known)

    def weights(self) -> list[int]:
        """Bytes of each."""
        return [directory.weight for directory in self._known.values()]

    def get(self, ref: bytes) -> Directory | None:
        """A directory; None if it is to be loaded."""
        directory = self._known.get(ref)
        if directory is None:
            self.faults += 1
        else:
            self._known.move_to_end(ref)
        return directory

    def add(self, ref: bytes, directory: Directory) -> None:
        """Keeps a directory, which does not change any more."""
        old = self._known.pop(ref, None)
        if old is not None:
            self.weight -= old.weight
        self._known[ref] = directory
        self.weight += directory.weight
        self._replaced.pop(ref, None)
        while self.weight > self._bound and len(self._known) > _LEAST:
            _, last = self._known.popitem(last=False)
            self.weight -= last.weight

    def replaced(self, ref: bytes) -> None:
        """A directory has been replaced by a newer one."""
        replaced = self._replaced
        replaced[ref] = None
        if len(replaced) > _REPLACED:
            oldest = next(iter(replaced))
            del replaced[oldest]
            directory = self._known.pop(oldest, None)
            if directory is not None:
                self.weight -= directory.weight

    def clear(self) -> None:
        """Forgets all."""
        self._known.clear()
        self._replaced.clear()
        self.weight = 0
