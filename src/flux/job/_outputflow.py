"""What to watch, and when, to get all output of a job: a state machine without I/O (spec 08, 3.5).

    main eventlog -- start --> guest.exec.eventlog -- shell.init, or its end --> guest.output

The end has come when the output has ended and `finish` was seen. A job that never starts is an error in the end; an
exception before `finish` is told like output.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any, NamedTuple

MAIN = "eventlog"
EXEC = "guest.exec.eventlog"
OUTPUT = "guest.output"


class Watch(NamedTuple):
    """Follow this eventlog, too."""

    path: str


class Tell(NamedTuple):
    """Hand out this entry: one of the output, or a job's exception."""

    entry: dict[str, Any]


class End(NamedTuple):
    """That was all; `errnum` 0, or why it was none."""

    errnum: int
    text: str


Action = Watch | Tell | End


class OutputFlow:
    """The state of following a job's output.

    Args:
        name: the job's id as messages have it.

    Begin with a watch of MAIN. Each method takes in what was heard, and generates what to do.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._started = False
        self._finished = False
        self._output_watched = False
        self._output_ended = False
        self._ended = False

    def heard(self, path: str, entry: dict[str, Any]) -> Iterator[Action]:
        """An event of one of the eventlogs that are followed."""
        name = entry["name"]
        if path == MAIN:
            if name == "start" and not self._started:
                self._started = True
                yield Watch(EXEC)
            elif name == "finish":
                self._finished = True
                yield from self._maybe_over()
            elif name == "exception" and not self._finished:
                yield Tell(entry)
        elif path == OUTPUT:
            yield Tell(entry)
        elif name == "shell.init":
            yield from self._watch_output()

    def over(self, path: str, errnum: int, text: str) -> Iterator[Action]:
        """The end of one of them: ENODATA, or an error."""
        if path == MAIN:
            if errnum == errno.ENOENT:
                yield from self._end(errno.ENOENT, f"job {self._name} not found")
            elif errnum != errno.ENODATA:
                yield from self._end(errnum, text)
            elif not self._started:
                yield from self._end(errno.EIO, f"job {self._name} never started")
            else:
                # No task has run, if there was no event `finish`.
                self._finished = True
                yield from self._maybe_over()
        elif errnum not in (errno.ENODATA, errno.ENOENT):
            yield from self._end(errnum, text)
        elif path == EXEC:
            # A shell that failed early may have said why.
            yield from self._watch_output()
        else:
            self._output_ended = True
            yield from self._maybe_over()

    def _watch_output(self) -> Iterator[Action]:
        if not self._output_watched:
            self._output_watched = True
            yield Watch(OUTPUT)

    def _maybe_over(self) -> Iterator[Action]:
        if self._finished and self._output_ended:
            yield from self._end(0, "")

    def _end(self, errnum: int, text: str) -> Iterator[Action]:
        if not self._ended:
            self._ended = True
            yield End(errnum, text)
