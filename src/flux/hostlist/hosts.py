"""An ordered, mutable list of hosts, addressed by position and by name, without Flux's argument rules."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain

from flux.hostlist.runs import Run, join, position, sort, unique


class Hosts:
    """Hosts as a joined list of runs (`flux.hostlist.runs`)."""

    __slots__ = ("_ends", "count", "runs")

    def __init__(self, runs: Iterable[Run]) -> None:
        self._replace(list(runs))

    def _replace(self, runs: list[Run]) -> None:
        self.runs = runs
        self.count = sum([run.high - run.low for run in runs]) + len(runs)
        self._ends: list[int] | None = None  # where each run ends, made when a position is asked for

    def names(self) -> Iterator[str]:
        """All names, in order, as the list is now."""
        return chain.from_iterable(map(Run.names, tuple(self.runs)))

    def locate(self, at: int) -> tuple[int, int]:
        """The index of the run with the host at position `at`, and its offset in it."""
        if self._ends is None:
            self._ends = list(accumulate([run.size for run in self.runs]))
        index = bisect_right(self._ends, at)
        return index, at - self._ends[index] + self.runs[index].size

    def name(self, at: int) -> str:
        """The name at position 0 <= at < count."""
        index, offset = self.locate(at)
        return self.runs[index].name(offset)

    def pick(self, positions: Iterable[int]) -> list[Run]:
        """The hosts at these positions, in this order."""
        result: list[Run] = []
        if isinstance(positions, range) and positions.step == 1:
            at = positions.start
            while at < positions.stop:
                index, offset = self.locate(at)
                run = self.runs[index]
                stop = min(run.size, offset + positions.stop - at)
                join(result, run.part(offset, stop))
                at += stop - offset
            return result
        for at in positions:
            index, offset = self.locate(at)
            join(result, self.runs[index].part(offset, offset + 1))
        return result

    def find(self, name: str) -> int | None:
        """The position of the first host called `name`."""
        before = 0
        for run in self.runs:
            at = position(run, name)
            if at is not None:
                return before + at
            before += run.size
        return None

    def find_all(self, wanted: Hosts) -> list[int | None]:
        """The position of each host of `wanted`."""
        if wanted.count * len(self.runs) <= self.count:
            return [self.find(name) for name in wanted.names()]
        positions: dict[str, int] = {}
        for at, name in enumerate(self.names()):
            positions.setdefault(name, at)
        return [positions.get(name) for name in wanted.names()]

    def extend(self, other: Hosts) -> int:
        """Appends all of `other`; returns how many."""
        added = other.count  # `other` may be this list
        for run in tuple(other.runs):
            join(self.runs, run)
        self.count += added
        self._ends = None
        return added

    def delete(self, unwanted: Hosts) -> int:
        """Removes, for each host of `unwanted`, the first of its name; returns how many."""
        counts = Counter(unwanted.names())
        removed = 0
        kept: list[Run] = []
        for run in self.runs:
            # Few names are looked up in the run; many, and the names of the run are looked up among them.
            if len(counts) <= run.size:
                offsets = sorted(at for name in counts if (at := position(run, name)) is not None)
            else:
                offsets = [at for at, name in enumerate(run.names()) if name in counts]
            start = 0
            for at in offsets:
                if at > start:
                    join(kept, run.part(start, at))
                start = at + 1
                name = run.name(at)
                counts[name] -= 1
                if not counts[name]:
                    del counts[name]
            if start < run.size:
                join(kept, run.part(start, run.size))
            removed += len(offsets)
        self._replace(kept)
        return removed

    def sort(self) -> None:
        """Sorts by name; duplicates stay."""
        self._replace(sort(self.runs))

    def unique(self) -> None:
        """Sorts by name and removes duplicates."""
        self._replace(unique(self.runs))
