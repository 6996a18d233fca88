"""A progress bar for jobs (spec 08, 3.6)."""

from __future__ import annotations

import os
import time
from typing import Any

from flux.core.handle import Flux
from flux.eventlog import EventLogEvent
from flux.job._names import CLEANUP, INACTIVE, RUN
from flux.job.info import JobInfo
from flux.job.JobID import JobID
from flux.progress import ElapsedTime, ProgressBar


class JobStatus:
    """What has been heard of a job: how often which events.

    Attributes:
        status: pending, running, complete or failed.
        exitcode: how its worst task ended: its exit code, or 128 and the signal; None if that is not known.
    """

    def __init__(self, job: JobInfo) -> None:
        self.jobid: JobID = job.id
        self.job = job
        self.status = "pending"
        self.exitcode: int | None = None
        self._events: dict[str, int] = {}
        if job.state_id == INACTIVE:
            self.add_event("clean")

    def add_event(self, name: str) -> None:
        """Counts an event."""
        self._events[name] = self.event_count(name) + 1

    def event_count(self, name: str) -> int:
        """How often an event was heard of."""
        return self._events.get(name, 0)

    def has_event(self, name: str) -> bool:
        """True if an event was heard of."""
        return name in self._events

    @property
    def active(self) -> bool:
        """True until the job is inactive."""
        return not self.has_event("clean")


class JobProgressBar(ProgressBar):
    """Counts of jobs, a bar, and the time.

    Args:
        starttime: when it began, in seconds since the epoch; None: when it is started.
        jps: show jobs per second instead of the time.
        counter_width: columns of a count.
        update_interval: seconds between redraws.

    Attributes:
        jobs: a JobStatus for each job that was added, by id.
    """

    def __init__(
        self,
        flux_handle: Flux,
        starttime: float | None = None,
        jps: bool = False,
        counter_width: int = 3,
        update_interval: float = 0.25,
    ) -> None:
        counters = " ".join(
            f"{label}:{{{name}:>{counter_width}}}"
            for label, name in (("PD", "pending"), ("R", "running"), ("CD", "complete"), ("F", "failed"))
        )
        after = " {percent:5.1f}% {jps:4.1f} job/s" if jps else " {percent:5.1f}% {elapsed.hms}"
        super().__init__(
            total=0, before=f"{counters} ", after=after, pending=0, running=0, complete=0, failed=0, jps=0.0
        )
        self.flux_handle = flux_handle
        self.jobs: dict[int, JobStatus] = {}
        self._begun = starttime
        self._earlier = 0.0  # seconds from then to the start of the bar
        self._expected = 0
        self._interval = update_interval
        self._timer = flux_handle.timer_watcher_create(update_interval, self._tick, repeat=update_interval)

    def start(self) -> JobProgressBar:
        """Shows it, and keeps it up to date while the reactor runs; returns self."""
        if self._begun is None:
            self._begun = time.time()
        self._earlier = max(time.time() - self._begun, 0.0)
        super().start()
        self._timer.start()
        self._timer.unref()
        return self

    @property
    def elapsed(self) -> ElapsedTime:
        """Seconds since `starttime`, until the bar is stopped."""
        return ElapsedTime(self._earlier + super().elapsed)

    @property
    def percent(self) -> float:
        """Part of the jobs that is done; nothing is before there are any."""
        return super().percent if self.total else 0.0

    def _done(self) -> float:
        return super()._done() if self.total else 0.0

    def stop(self) -> None:
        """Leaves the last state of it on the screen."""
        self._timer.stop()
        self._values["jps"] = self.jobs_per_sec()
        super().stop()

    def _tick(self, handle: Flux, watcher: Any, revents: int, args: Any) -> None:
        self.update()

    def update(self) -> None:  # type: ignore[override]  # as in the reference
        """Draws it."""
        super().update(advance=0, jps=self.jobs_per_sec())

    def advance(self, **kwargs: Any) -> None:
        """One more job is done. `kwargs`: values that change."""
        super().update(advance=1, jps=self.jobs_per_sec(), **kwargs)

    def jobs_per_sec(self) -> float:
        """Jobs that got done in a second, on average."""
        elapsed = time.time() - self._begun if self._begun is not None else 0.0
        return self.count / elapsed if elapsed > 0 else 0.0

    def _add(self, **changes: int) -> None:
        self._values.update({name: self._values[name] + change for name, change in changes.items()})

    def expect(self, more: int) -> None:
        """There will be `more` jobs than have been expected (less, if negative): the bar is not full before them."""
        self._expected += more
        self.total = max(self._expected, len(self.jobs))

    def add_job(self, job: JobInfo) -> None:
        """Counts a job, as what its state says it is."""
        if job.id in self.jobs:
            return
        status = self.jobs[job.id] = JobStatus(job)
        self.expect(0)
        if not status.active:
            self.count += 1
            status.status = "complete" if job.result == "COMPLETED" else "failed"
            self._add(**{status.status: 1})
        elif job.state_id in (RUN, CLEANUP):
            status.add_event("alloc")
            status.status = "running"
            self._add(running=1)
        else:
            self._add(pending=1)

    def add_jobs(self, *jobs: JobInfo) -> None:
        """Counts jobs."""
        for job in jobs:
            self.add_job(job)

    def process_event(self, jobid: int, event: EventLogEvent | None = None) -> None:
        """Takes in an event of a job; None: the end of its eventlog."""
        job = self.jobs[JobID(jobid)]
        if not job.active:
            return
        name = "clean" if event is None else event.name
        known = job.has_event(name)
        job.add_event(name)
        if known and name != "exception":
            return
        if name == "alloc":
            job.status = "running"
            self._add(pending=-1, running=1)
        elif name == "exception" and event is not None and event.context["severity"] == 0:
            self._ended(job, failed=True)
        elif name == "finish" and event is not None:
            code = os.waitstatus_to_exitcode(event.context["status"])
            job.exitcode = code if code >= 0 else 128 - code
            self._ended(job, failed=code != 0)
        elif name == "clean":
            self._ended(job, failed=False)
            self.count += 1
        # Jobs end by the thousand, and each has ten events: what cannot be seen is not drawn.
        if self.is_stale(self._interval):
            self.update()

    def _ended(self, job: JobStatus, failed: bool) -> None:
        if job.has_event("ended"):
            return
        job.add_event("ended")
        group = "running" if job.has_event("alloc") else "pending"
        job.status = "failed" if failed else "complete"
        self._add(**{group: -1, job.status: 1})
