"""The entries of a job's output eventlog (RFC 24; spec 07, 5.6; spec 08, 3.5)."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from flux.eventlog import EventLogEvent
from flux.idset import IDset

LOG_QUIET = -1
LOG_FATAL = 0
LOG_ERROR = 3
LOG_WARN = 4
LOG_NOTICE = 5
LOG_DEBUG = 6
LOG_TRACE = 7


class Taskset:
    """Some tasks of a job, or all.

    Args:
        tasks: an idset, as text or IDset; ``all`` or ``*`` for all.

    Raises ValueError for text that is no idset.
    """

    def __init__(self, tasks: str | IDset | Taskset) -> None:
        self.all: bool = tasks.all if isinstance(tasks, Taskset) else str(tasks) in ("all", "*")
        self.ids: IDset = tasks.ids if isinstance(tasks, Taskset) else IDset() if self.all else IDset(tasks)

    def intersect(self, tasks: str | IDset | Taskset) -> Taskset:
        """Those tasks that are in both."""
        other = Taskset(tasks)
        if self.all:
            return other
        return self if other.all else Taskset(self.ids.intersect(other.ids))

    def __bool__(self) -> bool:
        return self.all or len(self.ids) > 0

    def __str__(self) -> str:
        if self.all:
            return "*"
        text = str(self.ids)
        return f"[{text}]" if len(self.ids) > 1 else text


class OutputHeaderEvent(EventLogEvent):
    """The first entry: how many tasks there are, and how their output is encoded."""

    def __init__(self, entry: Mapping[str, Any] | str) -> None:
        super().__init__(entry)


class OutputEvent(EventLogEvent):
    """Output of a task.

    Args:
        entry: the entry.
        labelio: lines begin with the task's rank.

    Attributes:
        rank: the Taskset that has written it.
        stream: ``stdout`` or ``stderr``.
        data: text; bytes that are not UTF-8 are surrogate escapes.
        eof: this is the last of the stream.
    """

    def __init__(self, entry: Mapping[str, Any] | str, labelio: bool = False) -> None:
        super().__init__(entry)
        context = self.context
        self.rank = Taskset(str(context["rank"]))
        self.stream: str = context["stream"]
        self.eof = bool(context.get("eof", False))
        data: str = context.get("data", "")
        if context.get("encoding") == "base64":
            data = b64decode(data).decode("utf-8", "surrogateescape")
        self.raw: str = data * int(context.get("repeat", 1))
        self.data = "".join([f"{self.rank}: {line}" for line in _lines(self.raw)]) if labelio else self.raw

    def render(self) -> str:
        """The data."""
        return self.data


def _lines(text: str) -> list[str]:
    """The lines of a text with their ends: a line ends with a newline, and with nothing else."""
    lines = text.split("\n")
    last = lines.pop()
    return [line + "\n" for line in lines] + ([last] if last else [])


class LogEvent(EventLogEvent):
    """A message of the job's shell.

    Attributes:
        level: LOG_FATAL to LOG_TRACE.
        message, component, file: text; line, rank: numbers. "", or -1, where there is none.
    """

    log_level_string = ("FATAL", "FATAL", "FATAL", "ERROR", " WARN", "", "DEBUG", "TRACE")

    def __init__(self, entry: Mapping[str, Any] | str) -> None:
        super().__init__(entry)
        context = self.context
        self.level: int = context.get("level", LOG_NOTICE)
        self.message: str = context.get("message", "")
        self.component: str = context.get("component", "")
        self.file: str = context.get("file", "")
        self.line: int = context.get("line", -1)
        self.rank: int = context.get("rank", -1)

    @property
    def levelstr(self) -> str:
        """The level as a word; "" for a notice."""
        return self.log_level_string[min(max(self.level, LOG_FATAL), LOG_TRACE)]

    def render(self, include_file_and_line: bool = False) -> str:
        """The message as a line, without newline."""
        words = [f"flux-shell[{self.rank}]"]
        if self.levelstr:
            words.append(self.levelstr)
        if include_file_and_line and self.file:
            words.append(f"{self.file}:{self.line}")
        if self.component:
            words.append(self.component)
        return ": ".join([*words, self.message])


class RedirectEvent(EventLogEvent):
    """A stream goes to a file. Attributes: `rank`, the Taskset; `stream`; `path`."""

    def __init__(self, entry: Mapping[str, Any] | str) -> None:
        super().__init__(entry)
        self.rank = Taskset(str(self.context["rank"]).strip("[]"))
        self.stream: str = self.context["stream"]
        self.path: str = self.context.get("path", "")

    def render(self) -> str:
        """``0: stdout redirected to FILE``."""
        return f"{self.rank}: {self.stream} redirected to {self.path}"


class JobExceptionEvent(EventLogEvent):
    """An exception of the job. Attributes: `type`, `severity`, `note`."""

    def __init__(self, entry: Mapping[str, Any] | str) -> None:
        super().__init__(entry)
        self.type: str = self.context["type"]
        self.severity: int = self.context["severity"]
        self.note: str = self.context.get("note", "")

    def render(self) -> str:
        """The exception as a line, without newline."""
        return f"job.exception: type={self.type} severity={self.severity} {self.note}".rstrip()


def decode(entry: Mapping[str, Any], labelio: bool = False) -> EventLogEvent:
    """The entry as an object of the class for its name. Raises KeyError, ValueError for what is no good entry."""
    name = entry["name"]
    if name == "data":
        return OutputEvent(entry, labelio)
    kind = {
        "header": OutputHeaderEvent,
        "log": LogEvent,
        "redirect": RedirectEvent,
        "exception": JobExceptionEvent,
    }.get(name)
    return EventLogEvent(entry) if kind is None else kind(entry)
