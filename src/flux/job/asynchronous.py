"""Jobs under asyncio: what `AsyncFlux.job` is.

    async with flux.aio.connect() as h:
        jobid = await h.job.submit(jobspec)
        async for event in h.job.watch(jobid):
            print(event.name)
        info = await h.job.result(jobid)
        print(info.result, (await h.job.output(jobid)).stdout)

Each verb is that of `flux.job` with the same arguments, and raises the same errors; those that wait there are awaited
here. A task that is cancelled gives up what it waits for, and never the job.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_JOB_URGENCY_DEFAULT, FLUX_JOBID_ANY
from flux.eventlog import EventLogEvent
from flux.job._outputcollect import Collector, JobOutput
from flux.job._outputevents import LOG_TRACE
from flux.job.event import JobException, event_watch_async
from flux.job.info import JobInfo
from flux.job.JobID import JobID
from flux.job.kill import cancel_async, job_raise_async, kill_async
from flux.job.kvslookup import job_info_lookup
from flux.job.list import JobList, JobListIdsFuture, JobListRPC, job_list_id
from flux.job.output import (
    JobOutputWatch,
    JobOutputWatchLines,
    output_event_watch_async,
    output_watch_async,
    output_watch_lines_async,
)
from flux.job.stats import JobStats
from flux.job.submit import submit_async
from flux.job.wait import JobWaitResult, result_async, wait_async

if TYPE_CHECKING:
    from flux.aio import AsyncFlux
    from flux.job.Jobspec import Jobspec


class AsyncJobs:
    """The jobs of the instance that `owner` is connected to."""

    def __init__(self, owner: AsyncFlux) -> None:
        self._owner = owner

    # Submitting, and how it went.

    async def submit(
        self,
        jobspec: Jobspec | str | bytes,
        urgency: int = FLUX_JOB_URGENCY_DEFAULT,
        waitable: bool = False,
        debug: bool = False,
        pre_signed: bool = False,
        novalidate: bool = False,
    ) -> JobID:
        """Submits a job; its id. Arguments and errors as of `flux.job.submit`."""
        future = submit_async(self._owner.flux, jobspec, urgency, waitable, debug, pre_signed, novalidate)
        await future
        return future.get_id()

    async def submit_all(self, jobspecs: Iterable[Jobspec | str | bytes], **kwargs: Any) -> list[JobID]:
        """Submits jobs at once; their ids, in the order of `jobspecs`. Raises the first error, if there is one."""
        futures = [submit_async(self._owner.flux, jobspec, **kwargs) for jobspec in jobspecs]
        for future in futures:
            await future
        return [future.get_id() for future in futures]

    async def wait(self, jobid: Any = FLUX_JOBID_ANY) -> JobWaitResult:
        """Waits until a waitable job has ended, by default whichever ends next. See `flux.job.wait`."""
        future = wait_async(self._owner.flux, jobid)
        await future
        return future.get_status()

    async def result(self, jobid: Any) -> JobInfo:
        """Waits until a job is inactive: what became of it. See `flux.job.result`."""
        future = result_async(self._owner.flux, jobid)
        await future
        return future.get_info()

    async def run(self, jobspec: Jobspec | str | bytes, **kwargs: Any) -> JobInfo:
        """Submits a job and waits until it is inactive: what became of it."""
        return await self.result(await self.submit(jobspec, **kwargs))

    # Ending.

    async def cancel(self, jobid: Any, reason: str | None = None) -> None:
        """Cancels a job. See `flux.job.cancel`."""
        await cancel_async(self._owner.flux, jobid, reason)

    async def kill(self, jobid: Any, signum: int | None = None) -> None:
        """Sends a signal to a job. See `flux.job.kill`."""
        await kill_async(self._owner.flux, jobid, signum)

    async def exception(self, jobid: Any, exc_type: str, severity: int = 0, note: str | None = None) -> None:
        """Raises an exception on a job. See `flux.job.job_raise`."""
        await job_raise_async(self._owner.flux, jobid, exc_type, severity, note)

    # Events.

    async def watch(self, jobid: Any, eventlog: str = "eventlog") -> AsyncGenerator[EventLogEvent]:
        """The events of a job, the past ones first, until its eventlog ends: an async iterator.

        The watch ends with the loop over it, by `break` for one.
        """
        future = event_watch_async(self._owner.flux, jobid, eventlog)
        try:
            while (event := await future) is not None:
                yield event
        finally:
            future.cancel(stop=True)

    async def wait_event(
        self, jobid: Any, name: str, eventlog: str = "eventlog", raise_exception: bool = True
    ) -> EventLogEvent:
        """Waits for an event of a job, or finds that it has happened. See `flux.job.event_wait`."""
        async with aclosing(self.watch(jobid, eventlog)) as events:
            async for event in events:
                if event.name == name:
                    return event
                if raise_exception and event.name == "exception" and event.context["severity"] == 0:
                    raise JobException(event)
        raise OSError(errno.ENODATA, f"eventlog ended before event='{name}'")

    # Output.

    async def output(
        self,
        jobid: Any,
        tasks: str = "*",
        labelio: bool = False,
        nowait: bool = False,
        log_stderr_level: int = LOG_TRACE,
    ) -> JobOutput:
        """Waits until a job has ended; all its output. See `flux.job.job_output`."""
        collector = Collector(tasks, log_stderr_level)
        future = output_event_watch_async(self._owner.flux, jobid, labelio, nowait)
        try:
            while True:
                await future
                event = future.get_event()
                if event is None:
                    return collector.output()
                collector.add(event)
        except OSError as exc:
            return collector.failed(exc)

    async def output_lines(
        self, jobid: Any, labelio: bool = False, log_stderr_level: int = LOG_TRACE, keepends: bool = False
    ) -> AsyncIterator[tuple[str, str]]:
        """The lines that a job writes, (stream, line), as it writes them: an async iterator."""
        flux = self._owner.flux
        async for piece in _pieces(output_watch_lines_async(flux, jobid, labelio, log_stderr_level, keepends=keepends)):
            yield piece

    async def output_chunks(
        self, jobid: Any, labelio: bool = False, log_stderr_level: int = LOG_TRACE
    ) -> AsyncIterator[tuple[str, str]]:
        """As `output_lines`, in pieces as they come."""
        async for piece in _pieces(output_watch_async(self._owner.flux, jobid, labelio, log_stderr_level)):
            yield piece

    # Listing.

    async def list(self, **kwargs: Any) -> list[JobInfo]:
        """Jobs. Arguments as of `flux.job.JobList`; `ids` that there are not are left out."""
        jobs = JobList(self._owner.flux, **kwargs).fetch_jobs()
        if isinstance(jobs, JobListIdsFuture):
            for child in jobs.children:
                with suppress(OSError):  # those that there are not; whatever else it is, `get_jobinfos` tells
                    await child
        else:
            assert isinstance(jobs, JobListRPC)
            await jobs.collect()
        return [*jobs.get_jobinfos()]

    async def info(self, jobid: Any, attrs: Iterable[str] = ("all",)) -> JobInfo:
        """One job. Raises FileNotFoundError if there is none."""
        rpc = job_list_id(self._owner.flux, jobid, attrs)
        await rpc
        return rpc.get_jobinfo()

    async def stats(self, queue: str | Iterable[str] | None = None) -> JobStats:
        """How many jobs there are. See `flux.job.stats.JobStats`."""
        stats = JobStats(self._owner.flux, queue)
        stats.take(await self._owner.rpc("job-list.job-stats", {}))
        return stats

    async def lookup(self, jobid: Any, keys: Iterable[str] = ("jobspec",), flags: int = 0) -> dict[str, Any]:
        """Values of the KVS directory of a job, decoded. See `flux.job.job_info_lookup`."""
        rpc = job_info_lookup(self._owner.flux, jobid, keys, flags)
        await rpc
        return rpc.get_decode()


async def _pieces(future: JobOutputWatch | JobOutputWatchLines) -> AsyncIterator[tuple[str, str]]:
    """Waits for what a job writes, piece by piece."""
    while (piece := await future) is not None:
        stream, text = piece
        future.reset()
        yield stream, text
