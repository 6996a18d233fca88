"""A set of small integers as its boundaries: the data structure under an IDset, without Flux's rules.

``bounds`` alternates the first id of a run and the first id after it: {0, 1, 2, 7} is ``[0, 3, 7, 8]``. It is strictly
increasing and of even length, so an id is in the set if and only if an odd number of boundaries is <= the id.

Why not a bitmap in a Python int: measured with 100,000 ids, membership costs 0.2 us here and 2 us there (an int
shifts as a whole), a contiguous set is two numbers instead of 12 kB, and the id 2147483647 costs nothing instead of
256 MB. A bitmap is only quicker at combining two sets that are both full of holes (0.01 ms against 20 ms), which sets
of ranks are not.

Arguments are trusted: the caller has checked that ids are ints >= 0.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from itertools import chain


class Ranges:
    """A mutable set of ids >= 0."""

    __slots__ = ("bounds", "version")

    def __init__(self, bounds: Iterable[int] = ()) -> None:
        self.bounds = list(bounds)
        self.version = 0  # counts changes, so that an iterator knows when its position has become stale

    @classmethod
    def from_sorted(cls, ids: Iterable[int]) -> Ranges | None:
        """The set of `ids`, or None if they are not strictly increasing."""
        bounds: list[int] = []
        end = -1  # one past the id before
        for i in ids:
            if i > end:
                bounds += (i, i + 1)
            elif i == end:
                bounds[-1] = i + 1
            else:
                return None
            end = i + 1
        return cls(bounds)

    def copy(self) -> Ranges:
        """An independent copy."""
        return Ranges(self.bounds)

    def runs(self) -> Iterator[tuple[int, int]]:
        """Each run as (first, one past the last), ascending."""
        ends = iter(self.bounds)
        return zip(ends, ends, strict=True)

    def ids(self) -> Iterator[int]:
        """All ids, ascending, as the set is now."""
        return chain.from_iterable(range(start, end) for start, end in self.runs())

    def live_ids(self) -> Iterator[int]:
        """All ids, ascending, following changes that are made to the set on the way."""
        i = -1
        while (following := self.after(i)) is not None:
            version = self.version
            end = self.bounds[bisect_right(self.bounds, following)]
            for i in range(following, end):
                yield i
                if self.version != version:
                    break

    def count(self) -> int:
        """The number of ids."""
        return sum(self.bounds[1::2]) - sum(self.bounds[::2])

    def test(self, i: int) -> bool:
        """Is `i` in the set?"""
        return bool(bisect_right(self.bounds, i) & 1)

    def after(self, i: int) -> int | None:
        """The smallest id > `i`."""
        at = bisect_right(self.bounds, i + 1)
        if at & 1:
            return i + 1
        return self.bounds[at] if at < len(self.bounds) else None

    def before(self, i: int) -> int | None:
        """The largest id < `i`."""
        at = bisect_left(self.bounds, i)
        if at & 1:
            return i - 1
        return self.bounds[at - 1] - 1 if at else None

    def set(self, start: int, end: int) -> None:
        """Adds the ids start <= id < end."""
        bounds = self.bounds
        low, high = bisect_left(bounds, start), bisect_right(bounds, end)
        bounds[low:high] = [start][low & 1 :] + [end][high & 1 :]
        self.version += 1

    def clear(self, start: int, end: int) -> None:
        """Removes the ids start <= id < end."""
        bounds = self.bounds
        low, high = bisect_left(bounds, start), bisect_right(bounds, end)
        bounds[low:high] = [start][: low & 1] + [end][: high & 1]
        self.version += 1

    def add(self, other: Ranges) -> None:
        """Becomes the union of both."""
        self._combine(other, self.set, 1)

    def subtract(self, other: Ranges) -> None:
        """Loses the ids of `other`."""
        # What is in `self` and not in `other`: as the sweep sees it, in `self` and in the complement of `other`.
        self._combine(other, self.clear, 2, complement=True)

    def intersect(self, other: Ranges) -> None:
        """Keeps the ids that are in both."""
        self.bounds = _sweep(self.bounds, other.bounds, 2)
        self.version += 1

    def _combine(
        self, other: Ranges, one_by_one: Callable[[int, int], None], depth: int, complement: bool = False
    ) -> None:
        # A run spliced in costs a search and the move of what follows it; a sweep costs every boundary once. Measured,
        # they break even at about one run in a hundred, or a handful for small sets.
        if len(other.bounds) <= 16 + len(self.bounds) // 64:
            for start, end in list(other.runs()):
                one_by_one(start, end)
            return
        # -1 is below every id and no boundary of `self`: a complement starts there, and need not end.
        theirs = [-1, *other.bounds] if complement else other.bounds
        self.bounds = _sweep(self.bounds, theirs, depth)
        self.version += 1


def _sweep(ours: list[int], theirs: list[int], depth: int) -> list[int]:
    """The boundaries of where at least `depth` (1 or 2) of two sets overlap."""
    # Even numbers open a run, odd ones close it; doubled boundaries keep their order, and of equal ones the opening
    # comes first, so that runs that touch are joined. The sort merges two sorted lists: one pass.
    events = sorted(
        [2 * bound + (at & 1) for at, bound in enumerate(ours)]
        + [2 * bound + (at & 1) for at, bound in enumerate(theirs)]
    )
    bounds: list[int] = []
    level = 0
    for event in events:
        if event & 1:
            level -= 1
            if level == depth - 1:
                # Two runs that only touch overlap nowhere: nothing opened between.
                if bounds[-1] == event >> 1:
                    bounds.pop()
                else:
                    bounds.append(event >> 1)
        else:
            level += 1
            if level == depth:
                bounds.append(event >> 1)
    return bounds
