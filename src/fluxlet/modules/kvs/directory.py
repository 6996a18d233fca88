"""Directory: the entries of a directory, decoded once and encoded again where they have changed. Pure.

Rules:

- An entry is the canonical text of a tree object (`treeobj`). What is stored is that of all, in order of names.
- Entries are in leaves, few in each; a leaf remembers its text. So that one change of a directory of 100,000 costs
  one leaf, and the copying of its text.
- A directory with an owner is a transaction's, which changes it; others never change. A changed one shares the leaves
  that have not changed with the one it was made of.
"""

from __future__ import annotations

import errno
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache

import msgspec

from fluxlet.modules.kvs.treeobj import (
    DIR_HEAD,
    DIR_TAIL,
    MAX_INLINE_TEXT,
    VAL_TAIL,
    encode,
    is_canonical,
    quote,
)
from fluxlet.payload import UNREADABLE

#: Entries in a leaf before it is split.
LEAF = 128

#: Memory of an entry besides its text, roughly.
_ENTRY = 160


class _Blob(msgspec.Struct):
    """A directory as it is stored."""

    data: dict[str, msgspec.Raw]
    type: str
    ver: int


#: Names are mostly short, and few: what jobs and their directories have in them has the same names in each.
_SHORT = 64
_quote_short = lru_cache(1 << 12)(quote)

_decode = msgspec.json.Decoder(_Blob).decode


class Leaf:
    """Some entries of a directory that follow each other.

    Attributes:
        entries: by name, each as it is in the text: the quoted name, a colon, the tree object.
        text: all of them, if it is known.
    """

    __slots__ = ("entries", "owner", "text")

    def __init__(self, entries: dict[str, bytes], owner: object) -> None:
        self.entries = entries
        self.owner = owner
        self.text: bytes | None = None

    def encode(self) -> bytes:
        """The text of the entries, with commas between them."""
        entries = self.entries
        return b",".join([entries[name] for name in sorted(entries)])


class Directory:
    """A directory.

    Args:
        owner: the mark of the transaction that may change it; None: nobody.
        leaves: its entries; the names in one are before those in the next.
        firsts: for each leaf, a name that none in it is before, and all in the ones before are; "" for the first.

    Attributes:
        children: directories in it that its transaction has changed, and not encoded yet.
        irregular: some entries are not as a transaction leaves them: inline directories, values that are too long.
        weight: its memory in bytes, roughly, once it is encoded or decoded.
    """

    __slots__ = ("children", "firsts", "irregular", "leaves", "owner", "weight")

    def __init__(self, owner: object, leaves: list[Leaf] | None = None, firsts: list[str] | None = None) -> None:
        self.owner = owner
        self.leaves = [Leaf({}, owner)] if leaves is None else leaves
        self.firsts = [""] if firsts is None else firsts
        self.children: dict[str, Directory] = {}
        self.irregular = False
        self.weight = 0

    def __len__(self) -> int:
        return sum(len(leaf.entries) for leaf in self.leaves)

    def items(self) -> Iterator[tuple[str, bytes]]:
        """Names and entries; in no order within a leaf."""
        for leaf in self.leaves:
            for name, entry in leaf.entries.items():
                yield name, entry[len(quote(name)) + 1 :]

    def get(self, name: str) -> bytes | None:
        """An entry, None if there is none of the name."""
        leaves = self.leaves
        leaf = leaves[0] if len(leaves) == 1 else leaves[bisect_right(self.firsts, name) - 1]
        entry = leaf.entries.get(name)
        if entry is None:
            return None
        return entry[len(_quote_short(name) if len(name) <= _SHORT else quote(name)) + 1 :]

    # Changing it.

    def copy(self, owner: object) -> Directory:
        """One with the same entries, for a transaction."""
        copied = Directory(owner, self.leaves.copy(), self.firsts.copy())
        copied.irregular = self.irregular
        return copied

    def _leaf(self, name: str) -> tuple[int, Leaf]:
        """The leaf for a name, as one of our own."""
        index = bisect_right(self.firsts, name) - 1 if len(self.leaves) > 1 else 0
        leaf = self.leaves[index]
        if leaf.owner is not self.owner:
            leaf = self.leaves[index] = Leaf(leaf.entries.copy(), self.owner)
        else:
            leaf.text = None
        return index, leaf

    def set(self, name: str, text: bytes) -> None:
        """Adds or replaces an entry."""
        index, leaf = self._leaf(name)
        leaf.entries[name] = b"%b:%b" % (_quote_short(name) if len(name) <= _SHORT else quote(name), text)
        if len(leaf.entries) > LEAF:
            self._split(index, leaf)

    def remove(self, name: str) -> None:
        """Removes an entry, if there is one."""
        index, leaf = self._leaf(name)
        leaf.entries.pop(name, None)
        if not leaf.entries and len(self.leaves) > 1:
            del self.leaves[index]
            del self.firsts[index]
            self.firsts[0] = ""

    def _split(self, index: int, leaf: Leaf) -> None:
        names = sorted(leaf.entries)
        # Names that come in order fill leaves that stay full; others halve them.
        last = index == len(self.leaves) - 1 and names[-1] == next(reversed(leaf.entries))
        middle = LEAF if last else len(names) // 2
        upper = Leaf({name: leaf.entries[name] for name in names[middle:]}, self.owner)
        for name in upper.entries:
            del leaf.entries[name]
        self.leaves.insert(index + 1, upper)
        self.firsts.insert(index + 1, names[middle])

    def encode(self) -> bytes:
        """The canonical text; it has no `children`."""
        leaves = self.leaves
        if len(leaves) == 1:
            text = leaves[0].encode()
            count = len(leaves[0].entries)
        else:
            count = 0
            texts = []
            for leaf in leaves:
                if leaf.text is None:
                    leaf.text = leaf.encode()
                texts.append(leaf.text)
                count += len(leaf.entries)
            text = b",".join(texts)
        self.weight = 2 * len(text) + _ENTRY * count + 400
        return DIR_HEAD + text + DIR_TAIL


def decode(blob: bytes) -> Directory:
    """The directory that a blob holds. Raises OSError(ENOTRECOVERABLE) if it holds none."""
    try:
        content = _decode(blob)
        if content.type != "dir" or content.ver != 1:
            raise OSError(errno.ENOTRECOVERABLE, "a blob that should be a directory is something else")
        names = list(content.data)
        if any(names[i] >= names[i + 1] for i in range(len(names) - 1)):
            names.sort()
        directory = Directory(None)
        leaves, firsts = directory.leaves, directory.firsts
        leaves.clear()
        firsts.clear()
        for start in range(0, len(names) or 1, LEAF):
            entries = {}
            for name in names[start : start + LEAF]:
                text = bytes(content.data[name])
                if not is_canonical(text):
                    text = encode(msgspec.json.decode(text))
                    directory.irregular = True
                elif len(text) > MAX_INLINE_TEXT and text.endswith(VAL_TAIL):
                    directory.irregular = True
                entries[name] = b"%b:%b" % (quote(name), text)
            leaves.append(Leaf(entries, None))
            firsts.append(names[start] if start else "")
    except UNREADABLE as exc:
        raise OSError(errno.ENOTRECOVERABLE, f"a blob that should be a directory is not: {exc}") from None
    except OSError as exc:
        raise OSError(errno.ENOTRECOVERABLE, f"a directory is damaged: {exc.strerror}") from None
    directory.weight = 2 * len(blob) + _ENTRY * len(names) + 400
    return directory
