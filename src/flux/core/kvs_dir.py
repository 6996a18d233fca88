"""DirState and DirCursor: a listing of a KVS directory, and a place in it (flux_kvsdir_t, flux_kvsitr_t).

A listing is what the directory held when it was looked up; it never changes.
"""

from __future__ import annotations

from flux.core.flux_t import FluxT
from flux.core.treeobj import TreeObject


class DirState:
    """The entries of a directory.

    Args:
        ctx: the handle it came over.
        key: where the directory is.
        entries: its tree objects, by name.
        rootref: the root that it was looked up in; None: the current one of a namespace.
    """

    def __init__(self, ctx: FluxT, key: str, entries: dict[str, TreeObject], rootref: str | None = None) -> None:
        self.ctx = ctx
        self.key = key
        self.entries = entries
        self.rootref = rootref

    def key_at(self, name: str) -> str:
        """The key of an entry: ``KEY.NAME``."""
        return join_key(self.key, name)

    def exists(self, name: str) -> bool:
        """True if there is an entry of this name."""
        return name in self.entries

    def is_dir(self, name: str) -> bool:
        """True if the entry is a directory."""
        return name in self.entries and self.entries[name]["type"] in ("dir", "dirref")

    def is_symlink(self, name: str) -> bool:
        """True if the entry is a link."""
        return name in self.entries and self.entries[name]["type"] == "symlink"

    def names(self) -> list[str]:
        """The names, in the order of their bytes."""
        return sorted(self.entries)  # code points are in the order of their UTF-8


class DirCursor:
    """Goes through the names of a listing."""

    def __init__(self, listing: DirState) -> None:
        self._names = listing.names()
        self._at = 0

    def next(self) -> str | None:
        """The next name, None behind the last."""
        if self._at >= len(self._names):
            return None
        self._at += 1
        return self._names[self._at - 1]

    def rewind(self) -> None:
        """Begins anew."""
        self._at = 0


def join_key(path: str, name: str) -> str:
    """``PATH.NAME``; the path ``.``, or none, is the root."""
    path = path.rstrip(".")
    return f"{path}.{name}" if path else name
