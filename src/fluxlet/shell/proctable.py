"""The MPIR process table of a job (spec 07, 5.9): for debuggers. In the reference's compressed form.

Numbers are differences to the one before; [d, n] is a step of d and n more of 1, or for a negative n as many of 0.
Names that end in numbers are [what they have in common, numbers]; -1 is no number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """One task."""

    host: str
    executable: str
    rank: int
    pid: int
    shell: int


def numbers(values: Sequence[int]) -> list[Any]:
    """Numbers, compressed."""
    found: list[Any] = []
    before = 0
    place = 0
    while place < len(values):
        run = _run(values, place, 1)
        if not run:
            run = -_run(values, place, 0)
        step = values[place] - before
        found.append([step, run] if run else step)
        place += abs(run) + 1
        before = values[place - 1]
    return found


def _run(values: Sequence[int], place: int, step: int) -> int:
    end = place + 1
    while end < len(values) and values[end] - values[end - 1] == step:
        end += 1
    return end - place - 1


def names(values: Sequence[str]) -> list[Any]:
    """Names, compressed; a single one as it is."""
    found: list[Any] = []
    place = 0
    while place < len(values):
        prefix, _ = _split(values[place])
        end = place + 1
        while end < len(values) and _split(values[end])[0] == prefix:
            end += 1
        if end == place + 1:
            found.append(values[place])
        else:
            found.append([prefix, numbers([_split(value)[1] for value in values[place:end]])])
        place = end
    return found


def _split(name: str) -> tuple[str, int]:
    """A name's beginning and the number it ends with, -1 for none (or one that would lose a zero in front)."""
    prefix = name.rstrip("0123456789")
    digits = name[len(prefix) :]
    if not digits or (digits[0] == "0" and len(digits) > 1):
        return name, -1
    return prefix, int(digits)


def encode(entries: Sequence[Entry]) -> dict[str, Any]:
    """The table, in the order of task ids."""
    ordered = sorted(entries, key=lambda entry: entry.rank)
    return {
        "hosts": names([entry.host for entry in ordered]),
        "executables": names([entry.executable for entry in ordered]),
        "ids": numbers([entry.rank for entry in ordered]),
        "pids": numbers([entry.pid for entry in ordered]),
        "ranks": numbers([entry.shell for entry in ordered]),
    }
