"""JobWatcher: shows how jobs do, and what they write, while the reactor runs (spec 08, 3.6)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

from flux.core.handle import Flux
from flux.eventlog import EventLogEvent
from flux.job._jobprogress import JobProgressBar, JobStatus
from flux.job._outputevents import JobExceptionEvent, LogEvent, OutputEvent, RedirectEvent, decode
from flux.job._outputflow import EXEC, MAIN, OUTPUT
from flux.job.event import JobEventWatchFuture, event_watch_async
from flux.job.info import JobInfo
from flux.job.JobID import JobID

__all__ = ["JobProgressBar", "JobStatus", "JobWatcher"]

#: Sequences that control a terminal, but for those that set colors (SGR, ending with m).
_CONTROLS = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-ln-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][0-9A-B]|[@-Z\\^_78=>])")


class JobWatcher:
    """Watches jobs; ``watcher.start()``, then run the reactor of `flux_handle`.

    Args:
        jobs: JobInfo objects of jobs to watch from the start.
        progress: show a progress bar; jps: with jobs per second.
        wait: the event after which a job is left alone; ``exec.NAME`` for one of its exec eventlog.
        watch: show output.
        log_events: show events on stderr; log_status: show how jobs end there.
        stdout, stderr: where output goes.
        labelio: label lines with their job and task.
        starttime: what the progress bar's time starts from, in seconds since the epoch.
        output_callback: called as ``output_callback(jobid, stream, data)`` with output, instead of showing it; at the
            end of a job's output, with None for both.

    Jobs are followed from when they are added. `start` shows the progress bar.

    Attributes:
        progress: the progress bar, shown or not; its `jobs` have a JobStatus for each job.
        exitcode: the highest of the jobs': its exit code, 128 and the signal that ended it; at least 1 for a job that
            got a fatal exception before it started.
    """

    class JobWatchStatus:
        """What is being watched of a job."""

        def __init__(self, watcher: JobWatcher, jobid: int, stdout: TextIO, stderr: TextIO, wait: str | None) -> None:
            self.watcher = watcher
            self.jobid = JobID(jobid)
            self.stdout = stdout
            self.stderr = stderr
            self.wait = wait
            self.watches: dict[str, JobEventWatchFuture] = {}
            self.started = False
            self.finished = False
            self.seen_init = False
            self.left = False  # what was waited for has happened

        def follow(self, path: str) -> None:
            """Begins to follow one of the job's eventlogs; once."""
            if path not in self.watches:
                watch = self.watches[path] = event_watch_async(self.watcher.flux_handle, self.jobid, path)
                watch.then(self._heard, path)

        def stop(self) -> None:
            """Follows it no more."""
            for watch in self.watches.values():
                watch.cancel(stop=True)

        def _heard(self, watch: JobEventWatchFuture, path: str) -> None:
            try:
                event = watch.get_event()
            except OSError as exc:
                if path == MAIN:
                    print(f"{self.jobid}: {exc.strerror}", file=self.stderr)
                    self.watcher._failed(1)
                event = None
            if event is None:
                if path == EXEC and self.watcher.watch and not self.seen_init:
                    # A shell that failed early may have said why.
                    self.follow(OUTPUT)
                if path == OUTPUT and self.watcher.output_callback is not None:
                    self.watcher.output_callback(self.jobid, None, None)
                return
            handler = {MAIN: self._main, EXEC: self._exec}.get(path, self._output)
            if not self.left or path == OUTPUT:
                handler(event)

        def _leave(self) -> None:
            self.left = True
            for path in (MAIN, EXEC):
                if path in self.watches:
                    self.watches[path].cancel()

        def _main(self, event: EventLogEvent) -> None:
            watcher = self.watcher
            watcher._log_event(self, event, "")
            if event.name == "start":
                self.started = True
                if watcher.watch or (self.wait or "").startswith("exec."):
                    self.follow(EXEC)
            elif event.name == "finish":
                self.finished = True
                status = event.context["status"]
                code = os.waitstatus_to_exitcode(status)
                watcher._failed(code if code >= 0 else 128 - code)
                watcher._log_status(self, event, status)
            elif event.name == "exception" and event.context["severity"] == 0:
                if not self.started:
                    watcher._failed(1)
                if not self.seen_init:
                    print(JobExceptionEvent(event).render(), file=self.stderr, flush=True)
            if event.name == self.wait:
                self._leave()

        def _exec(self, event: EventLogEvent) -> None:
            watcher = self.watcher
            watcher._log_event(self, event, "exec.")
            if event.name == "shell.init":
                self.seen_init = True
                if watcher.watch:
                    self.follow(OUTPUT)
            if f"exec.{event.name}" == self.wait:
                self._leave()

        def _output(self, entry: EventLogEvent) -> None:
            event = decode(entry, self.watcher.labelio)
            if isinstance(event, OutputEvent):
                if event.data:
                    self.watcher._write(self, event.stream, event.data)
            elif isinstance(event, (LogEvent, RedirectEvent)):
                self.watcher._write(self, "stderr", f"{event.render()}\n")

    def __init__(
        self,
        flux_handle: Flux,
        jobs: Iterable[JobInfo] | None = None,
        progress: bool = False,
        jps: bool = False,
        wait: str | None = "clean",
        watch: bool = True,
        log_events: bool = False,
        log_status: bool = False,
        stdout: TextIO = sys.stdout,
        stderr: TextIO = sys.stderr,
        labelio: bool = False,
        starttime: float | None = None,
        output_callback: Callable[[JobID, str | None, str | None], Any] | None = None,
    ) -> None:
        self.flux_handle = flux_handle
        self.wait = wait
        self.watch = watch
        self.log_events = log_events
        self.log_status = log_status
        self.stdout = stdout
        self.stderr = stderr
        self.labelio = labelio
        self.output_callback = output_callback
        self.exitcode = 0
        self.progress = JobProgressBar(flux_handle, starttime, jps)
        self._shows_progress = progress
        self._t0: float | None = None  # the earliest submission: what times are relative to
        self._watched: list[JobWatcher.JobWatchStatus] = []
        if jobs is not None:
            self.add_jobs(*jobs)

    def start(self) -> JobWatcher:
        """Shows the progress bar, if there is to be one; returns self."""
        if self._shows_progress:
            self.progress.start()
        return self

    def stop(self) -> None:
        """Watches no more."""
        for status in self._watched:
            status.stop()
        self.progress.stop()

    def add_jobs(
        self, *jobs: JobInfo, stdout: TextIO | None = None, stderr: TextIO | None = None, wait: str | None = "clean"
    ) -> None:
        """Watches these jobs, too; arguments as of the class."""
        for job in jobs:
            self.progress.add_job(job)
            self._add(job.id, stdout, stderr, wait)

    def add_jobid(
        self, jobid: Any, stdout: TextIO | None = None, stderr: TextIO | None = None, wait: str | None = "clean"
    ) -> None:
        """Watches a job that has just been submitted; arguments as of the class."""
        self.add_jobs(JobInfo({"id": JobID(jobid), "state": 1}), stdout=stdout, stderr=stderr, wait=wait)

    def _add(self, jobid: int, stdout: TextIO | None, stderr: TextIO | None, wait: str | None) -> None:
        wanted = self.wait if wait == "clean" else wait
        status = self.JobWatchStatus(self, jobid, stdout or self.stdout, stderr or self.stderr, wanted)
        self._watched.append(status)
        status.follow(MAIN)

    def _failed(self, code: int) -> None:
        self.exitcode = max(self.exitcode, code)

    def _when(self, event: EventLogEvent) -> float:
        if self._t0 is None or event.timestamp < self._t0:
            self._t0 = event.timestamp
        return event.timestamp - self._t0

    def _log_event(self, status: JobWatchStatus, event: EventLogEvent, prefix: str) -> None:
        when = self._when(event)
        if not prefix:
            self.progress.process_event(status.jobid, event)
        if self.log_events:
            line = f"{status.jobid}: {when:.3f}s: {prefix}{event.name} {event.context_string}"
            print(line, file=status.stderr, flush=True)

    def _log_status(self, status: JobWatchStatus, event: EventLogEvent, waitstatus: int) -> None:
        if self.log_status:
            word = "failed" if waitstatus else "complete"
            line = f"{status.jobid}: {self._when(event):.3f}s: {word}: status={waitstatus}"
            print(line, file=status.stderr, flush=True)

    def _write(self, status: JobWatchStatus, stream: str, data: str) -> None:
        if self.output_callback is not None:
            self.output_callback(status.jobid, stream, data)
            return
        if self._shows_progress:
            data = _CONTROLS.sub("", data)
        if self.labelio:
            data = "".join([f"{status.jobid}: {line}" for line in data.splitlines(keepends=True)])
        file = status.stdout if stream == "stdout" else status.stderr
        file.write(data)
        file.flush()
