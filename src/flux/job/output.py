"""The output of jobs (spec 08, 3.5).

print(flux.job.job_output(h, jobid).stdout)

for stream, line in flux.job.output_watch_lines(h, jobid):
    ...                                             # as the job writes them, until it ends
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from typing import Any

from flux.core.handle import Flux
from flux.eventlog import EventLogEvent
from flux.future import FutureExt
from flux.job._outputcollect import Collector, JobOutput
from flux.job._outputevents import (
    LOG_DEBUG,
    LOG_ERROR,
    LOG_FATAL,
    LOG_NOTICE,
    LOG_QUIET,
    LOG_TRACE,
    LOG_WARN,
    JobExceptionEvent,
    LogEvent,
    OutputEvent,
    OutputHeaderEvent,
    RedirectEvent,
    Taskset,
    decode,
)
from flux.job._outputflow import MAIN, OUTPUT, Action, End, OutputFlow, Tell, Watch
from flux.job.event import JobEventWatchFuture, event_watch_async
from flux.job.JobID import JobID
from flux.job.kvslookup import JobInfoLookupRPC, job_info_lookup

__all__ = [
    "LOG_DEBUG",
    "LOG_ERROR",
    "LOG_FATAL",
    "LOG_NOTICE",
    "LOG_QUIET",
    "LOG_TRACE",
    "LOG_WARN",
    "JobExceptionEvent",
    "JobOutput",
    "JobOutputEventWatch",
    "JobOutputWatch",
    "JobOutputWatchLines",
    "LogEvent",
    "OutputEvent",
    "OutputHeaderEvent",
    "RedirectEvent",
    "Taskset",
    "job_output",
    "output_event_watch",
    "output_event_watch_async",
    "output_watch",
    "output_watch_async",
    "output_watch_lines",
    "output_watch_lines_async",
]


class _OutputFuture(FutureExt):
    """A future that is fulfilled with one piece after the other, and at the end with None."""

    def __init__(self, flux_handle: Flux, jobid: Any, nowait: bool) -> None:
        self.jobid = JobID(jobid)
        self._flow = OutputFlow(str(self.jobid))
        self._watches: list[JobEventWatchFuture] = []
        start = _OutputFuture._look if nowait else _OutputFuture._begin
        super().__init__(start, flux_handle=flux_handle)

    def _told(self, entry: dict[str, Any]) -> None:
        """An entry of the output, or an exception."""
        self.fulfill(entry)

    def _over(self) -> None:
        """That was all."""
        self.fulfill(None)

    def _next(self, autoreset: bool = True) -> Any:
        """Waits for the next piece; None at the end, and after it."""
        piece = self.get()
        if piece is not None and autoreset:
            self.reset()
        return piece

    # What is there now.

    def _look(self) -> None:
        handle = self.get_flux()
        assert handle is not None
        job_info_lookup(handle, self.jobid, [OUTPUT]).then(self._found)

    def _found(self, rpc: JobInfoLookupRPC) -> None:
        try:
            lines = rpc.get()[OUTPUT].splitlines()
        except FileNotFoundError:
            self.fulfill_error(errno.ENOENT, f"job {self.jobid} does not exist or output not ready")
        except OSError as exc:
            self.fulfill_error(exc.errno or errno.EIO, exc.strerror)
        else:
            for line in lines:
                self._told(json.loads(line))
            self._over()

    # What there will be.

    def _begin(self) -> None:
        self._watch(MAIN)

    def _watch(self, path: str) -> None:
        handle = self.get_flux()
        assert handle is not None
        watch = event_watch_async(handle, self.jobid, path)
        self._watches.append(watch)
        watch.then(self._heard, path)

    def _heard(self, watch: JobEventWatchFuture, path: str) -> None:
        try:
            event = watch.get_event()
        except OSError as exc:
            self._act(self._flow.over(path, exc.errno or errno.EIO, exc.strerror or ""))
            return
        if event is None:
            self._act(self._flow.over(path, errno.ENODATA, ""))
        else:
            self._act(self._flow.heard(path, event))

    def _act(self, actions: Iterator[Action]) -> None:
        for action in actions:
            match action:
                case Watch(path):
                    self._watch(path)
                case Tell(entry):
                    self._told(entry)
                case End(0):
                    self._over()
                case End(errnum, text):
                    for watch in self._watches:
                        watch.cancel(stop=True)
                    self.fulfill_error(errnum, text)


class JobOutputEventWatch(_OutputFuture):
    """The future of `output_event_watch_async`."""

    def __init__(self, flux_handle: Flux, jobid: Any, labelio: bool = False, nowait: bool = False) -> None:
        self.labelio = labelio
        super().__init__(flux_handle, jobid, nowait)

    def get_event(self, autoreset: bool = True) -> EventLogEvent | None:
        """Waits for the next event: OutputEvent, LogEvent, RedirectEvent, OutputHeaderEvent or JobExceptionEvent.

        Args:
            autoreset: go on to the next; False: another call returns the same.

        None at the end. Raises OSError ENOENT for an unknown job, EIO for one that never started.
        """
        entry = self._next(autoreset)
        return None if entry is None else decode(entry, self.labelio)


class _StreamFuture(_OutputFuture):
    """A future that is fulfilled with texts and what stream they are of."""

    def __init__(
        self,
        flux_handle: Flux,
        jobid: Any,
        labelio: bool = False,
        log_stderr_level: int = LOG_TRACE,
        nowait: bool = False,
    ) -> None:
        self.labelio = labelio
        self.log_stderr_level = log_stderr_level
        super().__init__(flux_handle, jobid, nowait)

    def _told(self, entry: dict[str, Any]) -> None:
        event = decode(entry, self.labelio)
        if isinstance(event, OutputEvent):
            if event.data:
                self._data(event)
        elif isinstance(event, LogEvent):
            self._message("stderr" if event.level <= self.log_stderr_level else "log", event.render())
        elif isinstance(event, (RedirectEvent, JobExceptionEvent)):
            self._message("stderr", event.render())

    def _data(self, event: OutputEvent) -> None:
        self.fulfill([event.stream, event.data])

    def _message(self, stream: str, text: str) -> None:
        self.fulfill([stream, f"{text}\n"])

    def _piece(self) -> tuple[str | None, str | None]:
        """Waits for the next text, and what stream it is of; (None, None) at the end."""
        piece = self._next()
        return (None, None) if piece is None else (piece[0], piece[1])

    def _pieces(self) -> Iterator[tuple[str, str]]:
        """Waits for all of them, one after the other."""
        while (piece := self._next()) is not None:
            yield piece[0], piece[1]


class JobOutputWatch(_StreamFuture):
    """The future of `output_watch_async`."""

    def get_output(self) -> tuple[str | None, str | None]:
        """Waits for more output: (stream, text), with stream ``stdout``, ``stderr`` or ``log``.

        (None, None) at the end. Raises OSError ENOENT for an unknown job, EIO for one that never started.
        """
        return self._piece()


class JobOutputWatchLines(_StreamFuture):
    """The future of `output_watch_lines_async`."""

    def __init__(
        self,
        flux_handle: Flux,
        jobid: Any,
        labelio: bool = False,
        log_stderr_level: int = LOG_TRACE,
        nowait: bool = False,
        keepends: bool = False,
    ) -> None:
        self._begun: dict[tuple[str, str], str] = {}  # lines without their ends, by stream and rank
        self._keepends = keepends
        super().__init__(flux_handle, jobid, labelio, log_stderr_level, nowait)

    def _line(self, stream: str, rank: str, line: str, end: str) -> None:
        label = f"{rank}: " if self.labelio and rank else ""
        self.fulfill([stream, f"{label}{line}{end if self._keepends else ''}"])

    def _data(self, event: OutputEvent) -> None:
        rank = str(event.rank)
        *lines, rest = event.raw.split("\n")
        key = (event.stream, rank)
        for line in lines:
            self._line(event.stream, rank, self._begun.pop(key, "") + line, "\n")
        if rest:
            self._begun[key] = self._begun.get(key, "") + rest

    def _message(self, stream: str, text: str) -> None:
        self._line(stream, "", text, "\n")

    def _over(self) -> None:
        for (stream, rank), line in self._begun.items():
            self._line(stream, rank, line, "")
        self._begun.clear()
        super()._over()

    def getline(self) -> tuple[str | None, str | None]:
        """Waits for the next line: (stream, line), with stream ``stdout``, ``stderr`` or ``log``.

        (None, None) at the end. Raises OSError ENOENT for an unknown job, EIO for one that never started.
        """
        return self._piece()


def output_event_watch_async(
    flux_handle: Flux, jobid: Any, labelio: bool = False, nowait: bool = False
) -> JobOutputEventWatch:
    """Follows the output of a job as events.

    Args:
        labelio: lines begin with the rank of their task.
        nowait: only what is there now; FileNotFoundError if there is nothing.
    """
    return JobOutputEventWatch(flux_handle, jobid, labelio, nowait)


def output_event_watch(
    flux_handle: Flux, jobid: Any, labelio: bool = False, nowait: bool = False
) -> Iterator[EventLogEvent]:
    """Generates the output of a job as events until it ends. Arguments as of `output_event_watch_async`."""
    future = output_event_watch_async(flux_handle, jobid, labelio, nowait)
    while (event := future.get_event()) is not None:
        yield event


def output_watch_async(
    flux_handle: Flux,
    jobid: Any,
    labelio: bool = False,
    log_stderr_level: int = LOG_TRACE,
    nowait: bool = False,
) -> JobOutputWatch:
    """Follows the output of a job as pieces of text.

    Args:
        labelio: lines begin with the rank of their task.
        log_stderr_level: messages of the job's shell up to this level are stderr, others ``log``.
        nowait: only what is there now; FileNotFoundError if there is nothing.
    """
    return JobOutputWatch(flux_handle, jobid, labelio, log_stderr_level, nowait)


def output_watch(
    flux_handle: Flux,
    jobid: Any,
    labelio: bool = False,
    log_stderr_level: int = LOG_TRACE,
    nowait: bool = False,
) -> Iterator[tuple[str, str]]:
    """Generates the output of a job, (stream, text), until it ends. Arguments as of `output_watch_async`."""
    yield from output_watch_async(flux_handle, jobid, labelio, log_stderr_level, nowait)._pieces()


def output_watch_lines_async(
    flux_handle: Flux,
    jobid: Any,
    labelio: bool = False,
    log_stderr_level: int = LOG_TRACE,
    nowait: bool = False,
    keepends: bool = False,
) -> JobOutputWatchLines:
    """Follows the output of a job line by line. `keepends`: lines have their newlines; else as `output_watch_async`."""
    return JobOutputWatchLines(flux_handle, jobid, labelio, log_stderr_level, nowait, keepends)


def output_watch_lines(
    flux_handle: Flux,
    jobid: Any,
    labelio: bool = False,
    log_stderr_level: int = LOG_TRACE,
    nowait: bool = False,
    keepends: bool = False,
) -> Iterator[tuple[str, str]]:
    """Generates the lines that a job writes, (stream, line). Arguments as of `output_watch_lines_async`."""
    yield from output_watch_lines_async(flux_handle, jobid, labelio, log_stderr_level, nowait, keepends)._pieces()


def job_output(
    flux_handle: Flux,
    jobid: Any,
    tasks: str = "*",
    labelio: bool = False,
    nowait: bool = False,
    log_stderr_level: int = LOG_TRACE,
) -> JobOutput:
    """Waits until a job has ended; all its output.

    Args:
        tasks: only that of these tasks.
        nowait: do not wait: what there is now.
        labelio, log_stderr_level: as for `output_watch_async`.

    Raises FileNotFoundError for an unknown job, or if there is nothing yet and that is not waited for; JobException
    if the job got a fatal exception before anything of it ran.
    """
    collector = Collector(tasks, log_stderr_level)
    try:
        for event in output_event_watch(flux_handle, jobid, labelio, nowait):
            collector.add(event)
    except OSError as exc:
        return collector.failed(exc)
    return collector.output()
