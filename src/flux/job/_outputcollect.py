"""All the output of a job, put together from its events. Pure."""

from __future__ import annotations

import errno
from typing import NamedTuple

from flux.eventlog import EventLogEvent
from flux.job._outputevents import JobExceptionEvent, LogEvent, OutputEvent, RedirectEvent, Taskset
from flux.job.event import JobException


class JobOutput(NamedTuple):
    """What a job has written; `log` are messages of its shell that do not go to stderr."""

    stdout: str
    stderr: str
    log: str


class Collector:
    """Puts the output of a job together. Arguments as of `job_output`."""

    def __init__(self, tasks: str, log_stderr_level: int) -> None:
        self._wanted = Taskset(tasks)
        self._log_stderr_level = log_stderr_level
        self._texts: dict[str, list[str]] = {name: [] for name in JobOutput._fields}
        self._fatal: JobExceptionEvent | None = None
        self._ran = False

    def add(self, event: EventLogEvent) -> None:
        """Takes in an event."""
        if isinstance(event, JobExceptionEvent):
            if event.severity == 0 and self._fatal is None:
                self._fatal = event
            self._texts["stderr"].append(f"{event.render()}\n")
            return
        self._ran = True
        if isinstance(event, OutputEvent):
            if self._wanted.intersect(event.rank):
                self._texts[event.stream].append(event.data)
        elif isinstance(event, LogEvent):
            stream = "stderr" if event.level <= self._log_stderr_level else "log"
            self._texts[stream].append(f"{event.render()}\n")
        elif isinstance(event, RedirectEvent) and self._wanted.intersect(event.rank):
            self._texts["stderr"].append(f"{event.render()}\n")

    def output(self) -> JobOutput:
        """All of it. Raises JobException for a job of which nothing ran."""
        if self._fatal is not None and not self._ran:
            raise JobException(self._fatal)
        return JobOutput(*("".join(self._texts[name]) for name in JobOutput._fields))

    def failed(self, exc: OSError) -> JobOutput:
        """What there is, though the end was an error. Raises it if there is nothing, JobException if that says more."""
        if exc.errno != errno.EIO or self._fatal is None:
            raise exc
        return self.output()
