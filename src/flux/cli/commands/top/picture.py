"""What ``flux top`` looks like: pieces of text and their styles, of what is known of an instance. Draws nothing.

ƒ                                  ƒ2oRvKCz                              59.80m⌚
                              ƒAbc/ƒ2oRvKCz
nodes [||||||||                    |1/4]                              3 pending
cores [|||||                       |2/8]                              1 running
 gpus [                            |0/0]                  10 complete, 2 failed
size: 4 depth: 1                   2.5m up                            0.88.0 ♡

then a header and a line for each job that runs. What does not fit is left out.
"""

from __future__ import annotations

import unicodedata
from typing import NamedTuple

from flux.cli.commands.top.state import Amount, State
from flux.job.info import JobInfo
from flux.util import fsd

#: How many lines there are before the jobs.
SUMMARY = 6
#: The lines of the jobs' header.
HEADER = 1

_BARS = {"nodes": 2, "cores": 3, "gpus": 4}


class Piece(NamedTuple):
    """A text where it stands in a line. Styles: "", dim, bold, used, down, header, instance, alive."""

    column: int
    text: str
    style: str = ""


class Symbols(NamedTuple):
    """Signs that not every terminal has."""

    flux: str = "ƒ"
    forever: str = "∞"
    clock: str = "⌚"
    beats: tuple[str, str] = ("♡", "♥")


ASCII = Symbols("f", "inf", "", ("o", "O"))


def cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(_cells(char) for char in text)


def _cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def cut(text: str, width: int) -> str:
    """As much of a text as fits, with signs that a terminal would obey made visible."""
    left, kept = width, []
    for char in text:
        char = char if char.isprintable() else "?"
        left -= _cells(char)
        if left < 0:
            break
        kept.append(char)
    return "".join(kept)


def _right(text: str, width: int, style: str = "") -> Piece:
    return Piece(max(0, width - cells(text)), text, style)


def _center(text: str, width: int, style: str = "") -> Piece:
    return Piece(max(0, (width - cells(text)) // 2), text, style)


def time_left(seconds: float, symbols: Symbols) -> str:
    """The time that is left, with two decimals."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("m", 60.0)):
        if seconds > length:
            return f"{seconds / length:.2f}{unit}{symbols.clock}"
    return f"{max(0.0, seconds):.2f}s{symbols.clock}"


def bar(name: str, amount: Amount, width: int) -> list[Piece]:
    """``nodes [|||     |used/total]`` in `width` columns: what is used from the left, what is down from the right."""
    numbers = f"{amount.used}/{amount.total}]"
    room = width - len("nodes [") - len(numbers)
    pieces = [Piece(0, f"{name:>5} ["), Piece(len("nodes [") + max(0, room), numbers)]
    if room <= 0:
        return pieces
    total = max(1, amount.total)
    # What is in use at all is to be seen.
    used = min(room, -(-amount.used * room // total))
    down = min(room - used, -(-amount.down * room // total))
    at = len("nodes [")
    return [*pieces, Piece(at, "|" * used, "used"), Piece(at + room - down, "|" * down, "down")]


def summary(state: State, path: str, by_result: bool, width: int, now: float, symbols: Symbols) -> list[list[Piece]]:
    """The first lines.

    Args:
        path: the jobs that were gone through, the last of them this instance.
        by_result: how the jobs that have ended are counted: by their result, or all in one.
        now: seconds since the epoch.
    """
    left = time_left(state.expiration - now, symbols) if state.expiration else symbols.forever
    counts, ended = state.counts(), ""
    if by_result:
        ended = f"{counts.complete} complete, {counts.failed:>2} failed"
    else:
        ended = f"{counts.complete + counts.failed} inactive"
    right = [f"{counts.pending} pending", f"{counts.running} running", ended]
    # So that the bars stay where they are when numbers grow.
    half = width - max(30, *map(cells, right)) - 2
    lines: list[list[Piece]] = [
        [Piece(0, symbols.flux, "used"), _center(state.title, width, "bold"), _right(left, width)],
        [_center(path, width, "dim")],
    ]
    for (kind, amount), text in zip(state.amounts().items(), right, strict=True):
        lines.append([*bar(kind, amount, half), _right(text, width)])
    queue = "" if state.queue is None else f" queue: {state.queue}"
    facts = f"size: {state.size} depth: {state.level} uptime: {fsd(max(0.0, now - state.started))}{queue}"
    beat = symbols.beats[state.beats % 2]
    lines.append(
        [Piece(0, facts, "dim"), _right(f"{state.version} {beat}", width, "dim"), _right(beat, width, "alive")]
    )
    return lines


def _columns(cells_: tuple[str, ...], queues: bool) -> str:
    widths = (">12", "<8", "<8", ">2", ">6", ">6", ">8") if queues else (">12", "<8", ">2", ">6", ">6", ">8")
    texts = []
    for text, spec in zip(cells_, widths, strict=False):
        size = int(spec[1:])
        text = cut(text, size)
        fill = " " * (size - cells(text))
        texts.append(text + fill if spec[0] == "<" else fill + text)
    return " ".join([*texts, cells_[-1]])


def header(state: State) -> str:
    """The headings of the jobs."""
    queue = ("QUEUE",) if state.queues else ()
    return _columns(("JOBID", *queue, "USER", "ST", "NTASKS", "NNODES", "RUNTIME", "NAME"), bool(state.queues))


def line(state: State, job: JobInfo, now: float) -> str:
    """The line of a job."""
    *before, name = map(str, state.row(job))
    runtime = (job.t_cleanup or now) - job.t_run if job.t_run else 0.0
    return _columns((*before, fsd(max(0.0, runtime)), name), bool(state.queues))
