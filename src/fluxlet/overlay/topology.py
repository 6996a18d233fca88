"""The shape of the tree: who is whose parent (spec 04, 1.1). Pure, and without tables: any rank out of a million.

    topology = Topology.parse("kary:2", size=16)
    topology.parent(5), topology.children(2), topology.towards(0, 13)

Rules:
- A shape is fixed for the life of an instance; every broker computes it alone, of the same words, and agrees.
- Climbing always ends at rank 0. In all shapes but `custom` a parent's rank is lower than its children's.
- Only `custom` needs a table, the parents that the configuration names, and that is shared, not copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

#: Largest size for which mincrit is flat unless told otherwise.
_MINCRIT_FLAT = 1025
_MINCRIT_FANOUT = 1024


class TopologyError(ValueError):
    """A topology that does not exist; the text says why, for the log."""


class Topology:
    """A tree of `size` ranks.

    Args:
        size: number of ranks, at least 1.
        uri: as the attribute `tbon.topo` shows it.
    """

    def __init__(self, size: int, uri: str) -> None:
        self.size = size
        self.uri = uri

    @staticmethod
    def parse(uri: str, size: int, parents: Sequence[int] = ()) -> Topology:
        """The topology that a `tbon.topo` value names.

        Args:
            uri: SCHEME[:ARGUMENT]; schemes kary, mincrit, binomial, custom.
            size: number of ranks.
            parents: for custom: the parent of each rank, -1 for rank 0; empty: flat.

        Raises TopologyError.
        """
        scheme, colon, argument = uri.partition(":")
        if scheme == "kary":
            fanout = _fanout(argument)
            if fanout is None:
                raise TopologyError("kary k value must be an integer >= 0")
            return Kary(size, uri, fanout)
        if scheme == "mincrit":
            critical = _fanout(argument) if colon else _mincrit(size)
            if critical is None:
                raise TopologyError("mincrit k value must be an integer >= 0")
            return Mincrit(size, uri, critical)
        if scheme == "binomial":
            if colon:
                raise TopologyError(f"unknown binomial topology directive: '{argument}'")
            return Binomial(size, uri)
        if scheme == "custom":
            if colon:
                raise TopologyError(f"unknown custom topology directive: '{argument}'")
            return Custom(size, uri, parents)
        raise TopologyError(f"unknown topology scheme '{scheme}'")

    # What a shape says.

    def parent(self, rank: int) -> int:
        """The parent of a rank; -1 for rank 0."""
        raise NotImplementedError

    def children(self, rank: int) -> Sequence[int]:
        """The direct children of a rank, in order."""
        raise NotImplementedError

    # What follows from it; shapes know shorter ways.

    def subtree_size(self, rank: int) -> int:
        """How many ranks there are at and below `rank`."""
        return sum(1 for _ in self.below(rank))

    def level(self, rank: int) -> int:
        """How far below rank 0 a rank is."""
        level = 0
        while rank > 0:
            rank = self.parent(rank)
            level += 1
        return level

    @property
    def max_level(self) -> int:
        """The depth of the tree: 0 for a single rank."""
        return self.level(self.size - 1)

    def towards(self, rank: int, target: int) -> int | None:
        """The child of `rank` on the way down to `target`; None if that is not below it, or nowhere."""
        if not rank < target < self.size:
            return None
        while target > rank:
            above = self.parent(target)
            if above == rank:
                return target
            target = above
        return None

    def below(self, rank: int) -> Iterator[int]:
        """All ranks at and below `rank`, parents before their children."""
        waiting = [rank]
        while waiting:
            rank = waiting.pop()
            yield rank
            waiting += reversed(self.children(rank))

    def interior(self) -> Iterator[int]:
        """The ranks that have children, in order; and rank 0."""
        for rank in range(self.size):
            if not rank or self.children(rank):
                yield rank

    def describe(self, rank: int) -> dict[str, Any]:
        """The tree at `rank` as `overlay.topology` answers it."""
        made: dict[int, dict[str, Any]] = {}
        # Children first: a chain of thousands must not be a recursion.
        for number in reversed(list(self.below(rank))):
            children = [made.pop(child) for child in self.children(number)]
            made[number] = {
                "rank": number,
                "size": 1 + sum(child["size"] for child in children),
                "children": children,
            }
        return made[rank]


def _fanout(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _mincrit(size: int) -> int:
    """The number of critical ranks for mincrit without an argument."""
    if size <= _MINCRIT_FLAT:
        return 0
    count = 2
    while -(-(size - 1 - count) // count) > _MINCRIT_FANOUT:
        count += 1
    return count


class Kary(Topology):
    """Breadth first, each rank with `fanout` children; 0: all of them are children of rank 0."""

    def __init__(self, size: int, uri: str, fanout: int) -> None:
        super().__init__(size, uri)
        self.fanout = fanout or max(1, size - 1)

    def parent(self, rank: int) -> int:
        return (rank - 1) // self.fanout if rank > 0 else -1

    def children(self, rank: int) -> Sequence[int]:
        first = rank * self.fanout + 1
        return range(first, max(first, min(first + self.fanout, self.size)))

    def subtree_size(self, rank: int) -> int:
        if self.fanout == 1:
            return self.size - rank
        count, low, high = 0, rank, rank
        while low < self.size:
            count += min(high, self.size - 1) - low + 1
            low, high = low * self.fanout + 1, high * self.fanout + self.fanout
        return count

    def level(self, rank: int) -> int:
        return rank if self.fanout == 1 else super().level(rank)

    def towards(self, rank: int, target: int) -> int | None:
        if self.fanout == 1:
            return rank + 1 if rank < target < self.size else None
        return super().towards(rank, target)


class Mincrit(Topology):
    """Ranks 1 to `critical` below rank 0, all others below them in turn; 0: all are children of rank 0."""

    def __init__(self, size: int, uri: str, critical: int) -> None:
        super().__init__(size, uri)
        self.critical = critical or size

    def parent(self, rank: int) -> int:
        if rank <= self.critical:
            return 0 if rank > 0 else -1
        return (rank - self.critical - 1) % self.critical + 1

    def children(self, rank: int) -> Sequence[int]:
        if rank == 0:
            return range(1, min(self.critical + 1, self.size))
        if rank > self.critical:
            return range(0)
        return range(rank + self.critical, max(rank + self.critical, self.size), self.critical)


class Binomial(Topology):
    """A binomial tree: a rank's parent is that rank without its lowest bit."""

    def parent(self, rank: int) -> int:
        return rank & (rank - 1) if rank > 0 else -1

    def _bits(self, rank: int) -> int:
        return (rank & -rank).bit_length() - 1 if rank else self.size.bit_length()

    def children(self, rank: int) -> Sequence[int]:
        return [rank + (1 << bit) for bit in range(self._bits(rank)) if rank + (1 << bit) < self.size]

    def subtree_size(self, rank: int) -> int:
        return min(self.size - rank, 1 << self._bits(rank))

    @property
    def max_level(self) -> int:
        # Not the last rank's: that of the rank with the most bits.
        last = self.size - 1
        most = last.bit_count()
        for bit in range(last.bit_length()):
            if last >> bit & 1:
                # The same above `bit`, 0 there, ones below.
                most = max(most, (last >> (bit + 1)).bit_count() + bit)
        return most


class Custom(Topology):
    """As the configuration says.

    Args:
        parents: the parent of each rank, -1 for rank 0. Empty: all ranks are children of rank 0.

    Raises TopologyError for parents that are no tree.
    """

    def __init__(self, size: int, uri: str, parents: Sequence[int]) -> None:
        super().__init__(size, uri)
        self.parents = parents
        self._children: dict[int, list[int]] = {}
        self._levels = [0] * len(parents)
        self._sizes = [1] * len(parents)
        if not parents:
            return
        if len(parents) != size or any(not 0 <= parent < size for parent in parents[1:]):
            raise TopologyError("custom topology: not every rank has a parent")
        for rank, parent in enumerate(parents[1:], 1):
            self._children.setdefault(parent, []).append(rank)
        order = [0]
        for rank in order:
            for child in self._children.get(rank, ()):
                self._levels[child] = self._levels[rank] + 1
                order.append(child)
        if len(order) != size:
            raise TopologyError("custom topology: some ranks are their own ancestors")
        for rank in reversed(order[1:]):
            self._sizes[parents[rank]] += self._sizes[rank]

    def parent(self, rank: int) -> int:
        if rank <= 0:
            return -1
        return self.parents[rank] if self.parents else 0

    def children(self, rank: int) -> Sequence[int]:
        if not self.parents:
            return range(1, self.size) if rank == 0 else range(0)
        return self._children.get(rank, ())

    def subtree_size(self, rank: int) -> int:
        if not self.parents:
            return self.size if rank == 0 else 1
        return self._sizes[rank]

    def level(self, rank: int) -> int:
        return self._levels[rank] if self.parents else min(rank, 1)

    @property
    def max_level(self) -> int:
        return max(self._levels) if self.parents else min(self.size - 1, 1)

    def towards(self, rank: int, target: int) -> int | None:
        # A child may have a lower rank than its parent.
        if target == rank or not 0 <= target < self.size:
            return None
        while target > 0:
            above = self.parent(target)
            if above == rank:
                return target
            target = above
        return None
