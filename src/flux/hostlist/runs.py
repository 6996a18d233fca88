"""Runs of consecutive hosts: what a list of hosts is made of (RFC 29; spec 02, 14.2).

A name is a prefix and the digits at its end. A `Run` is consecutive numbers behind one prefix, so that
``foo[0-100000]`` is one object, and making, encoding and slicing lists costs the number of runs, not of hosts.

Rules:

- Runs are never empty, and a list of them is joined: two neighbours that could be one run are one (`join`). Joining
  in list order is what the text form needs: ``foo1,foo1,foo2`` is ``foo[1,1-2]``.
- `width` is the number of digits to which numbers are padded with zeros, 1 if none is needed, so that equal widths mean
  equal padding. It is 0 for a name without a number.
- A prefix may itself end in digits, where somebody wrote ``foo1[0-3]``: the text form keeps it so. Hence two runs may
  hold the same name although their fields differ, and names are compared as names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

#: Digits of a longer number belong to the prefix: Python may refuse to convert texts of more than 640.
MAX_DIGITS = 600


class Run(NamedTuple):
    """Hosts prefix+low .. prefix+high, inclusive; low and high are 0 where width is 0."""

    prefix: str
    low: int
    high: int
    width: int

    @property
    def size(self) -> int:
        """The number of hosts."""
        return self.high - self.low + 1

    def names(self) -> list[str]:
        """All names, in order."""
        prefix, low, high, width = self
        if width == 0:
            return [prefix]
        if width == 1:
            return [f"{prefix}{number}" for number in range(low, high + 1)]
        return [f"{prefix}{number:0{width}d}" for number in range(low, high + 1)]

    def name(self, at: int) -> str:
        """The name at an offset."""
        if self.width == 0:
            return self.prefix
        return f"{self.prefix}{self.low + at:0{self.width}d}"

    def part(self, start: int, stop: int) -> Run:
        """The run of the hosts at the offsets start <= offset < stop."""
        if self.width == 0:
            return self
        return numbered(self.prefix, self.low + start, self.low + stop - 1, self.width)

    def text(self) -> str:
        """The numbers as they appear between brackets."""
        low = f"{self.low:0{self.width}d}"
        return low if self.low == self.high else f"{low}-{self.high:0{self.width}d}"


def numbered(prefix: str, low: int, high: int, width: int) -> Run:
    """A run whose numbers are written with at least `width` digits."""
    return Run(prefix, low, high, width if width > len(str(low)) else 1)


def join(runs: list[Run], run: Run) -> None:
    """Appends `run` to a joined list."""
    if runs and run.width:
        prefix, low, high, width = runs[-1]
        # Padded numbers go with numbers padded alike, or with those so long that padding would not change them.
        if (
            width
            and high + 1 == run.low
            and prefix == run.prefix
            and (width == run.width or (run.width == 1 and width <= len(str(run.low))))
        ):
            runs[-1] = Run(prefix, low, run.high, width)
            return
    runs.append(run)


def joined(runs: Iterable[Run]) -> list[Run]:
    """A joined list of `runs`."""
    result: list[Run] = []
    for run in runs:
        join(result, run)
    return result


def position(run: Run, name: str) -> int | None:
    """The offset of the host called `name` in `run`."""
    prefix, low, high, width = run
    if not name.startswith(prefix):
        return None
    digits = name[len(prefix) :]
    if not width or not digits:
        return 0 if not width and not digits else None
    if not digits.isascii() or not digits.isdigit() or len(digits) > MAX_DIGITS:
        return None
    number = int(digits)
    written = max(width, len(str(number)))
    return number - low if low <= number <= high and written == len(digits) else None


def _by_length(run: Run) -> Iterator[Run]:
    # The pieces of a run whose numbers are written with equally many digits.
    low = run.low
    while low <= run.high:
        high = min(run.high, 10 ** max(run.width, len(str(low))) - 1)
        yield numbered(run.prefix, low, high, run.width)
        low = high + 1


def _key(run: Run) -> tuple[str, int, int]:
    # How names are ordered: by prefix, those without number first, then by number. Names with incompatible padding are
    # ordered by width; since compatible ones of different written width have numbers in the same order, the written
    # width can always come first. str compares by code point, which is the byte order of UTF-8.
    return run.prefix, max(run.width, len(str(run.low))) if run.width else 0, run.low


def _sorted_pieces(runs: list[Run]) -> list[Run]:
    pieces = [piece for run in runs for piece in (_by_length(run) if run.width else (run,))]
    pieces.sort(key=_key)
    return pieces


def _same_space(one: Run, other: Run) -> bool:
    # Are these pieces numbers of one prefix, written with equally many digits?
    return _key(one)[:2] == _key(other)[:2]


def sort(runs: list[Run]) -> list[Run]:
    """The same hosts, sorted; duplicates stay."""
    pieces = _sorted_pieces(runs)
    result: list[Run] = []
    at = 0
    while at < len(pieces):
        # Pieces that overlap must be interleaved, host by host.
        first, high, at = at, pieces[at].high, at + 1
        while at < len(pieces) and _same_space(pieces[first], pieces[at]) and pieces[at].low <= high:
            high = max(high, pieces[at].high)
            at += 1
        if at == first + 1:
            join(result, pieces[first])
            continue
        hosts = [piece.part(i, i + 1) for piece in pieces[first:at] for i in range(piece.size)]
        hosts.sort(key=_key)
        for host in hosts:
            join(result, host)
    return result


def unique(runs: list[Run]) -> list[Run]:
    """The hosts sorted, each once."""
    result: list[Run] = []
    space: Run | None = None
    high = -1  # the largest number so far in `space`
    for piece in _sorted_pieces(runs):
        if space is None or not _same_space(space, piece):
            space, high = piece, piece.high
            join(result, piece)
        elif piece.high > high:
            skip = max(0, high + 1 - piece.low)
            join(result, piece.part(skip, piece.size))
            high = piece.high
    if not _prefixes_overlap(result):
        return result
    hosts = [run.part(at, at + 1) for run in result for at in range(run.size)]
    hosts.reverse()  # of equal names the first stays: the dict keeps the last it gets
    return joined(sorted({host.name(0): host for host in hosts}.values(), key=_key))


def _prefixes_overlap(runs: list[Run]) -> bool:
    # May one name be in two runs, split differently, as in "foo1[2-3],foo12"?
    prefixes = {run.prefix for run in runs if run.width}
    return any(
        prefix[:end] in prefixes for prefix in prefixes for end in range(len(prefix.rstrip("0123456789")), len(prefix))
    )
