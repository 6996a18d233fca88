"""Directories: those that are in memory, by blobref (spec 05, 7.4). Pure.

What was used last stays, up to a number of bytes. The directories that a commit has replaced are the first to go:
whoever holds on to an old root may have to wait for them to be loaded again.
"""

from __future__ import annotations

from collections import OrderedDict

from fluxlet.modules.kvs.directory import Directory

#: Bytes of all of them.
BOUND = 48 << 20


class Directories:
    """See the module."""

    def __init__(self, bound: int = BOUND) -> None:
        self._bound = bound
        self._known: OrderedDict[bytes, Directory] = OrderedDict()
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
        while self.weight > self._bound and len(self._known) > 1:
            _, last = self._known.popitem(last=False)
            self.weight -= last.weight

    def replaced(self, ref: bytes) -> None:
        """A directory has been replaced by a newer one."""
        if ref in self._known:
            self._known.move_to_end(ref, last=False)

    def clear(self) -> None:
        """Forgets all."""
        self._known.clear()
        self.weight = 0
