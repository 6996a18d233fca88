"""Lists of jobs (spec 08, sections 2 and 3.2).

for job in flux.job.JobList(h, filters=["running"]).jobs():
    print(job.id, job.name, job.status)
"""

from __future__ import annotations

import errno
import os
import pwd
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from flux.constants import (
    FLUX_JOB_RESULT_CANCELED,
    FLUX_JOB_RESULT_COMPLETED,
    FLUX_JOB_RESULT_FAILED,
    FLUX_JOB_RESULT_TIMEOUT,
    FLUX_JOB_STATE_ACTIVE,
    FLUX_JOB_STATE_CLEANUP,
    FLUX_JOB_STATE_DEPEND,
    FLUX_JOB_STATE_INACTIVE,
    FLUX_JOB_STATE_PENDING,
    FLUX_JOB_STATE_PRIORITY,
    FLUX_JOB_STATE_RUN,
    FLUX_JOB_STATE_RUNNING,
    FLUX_JOB_STATE_SCHED,
    FLUX_RPC_STREAMING,
    FLUX_USERID_UNKNOWN,
)
from flux.core.handle import Flux
from flux.future import WaitAllFuture
from flux.job._requests import wire_id
from flux.job.JobID import JobID
from flux.rpc import RPC

if TYPE_CHECKING:
    from flux.job.info import JobInfo

__all__ = [
    "JobList",
    "JobListIdRPC",
    "JobListIdsFuture",
    "JobListRPC",
    "get_job",
    "job_list",
    "job_list_id",
    "job_list_inactive",
]

_ALL = ["all"]


class JobListRPC(RPC):
    """The RPC of `job_list`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._jobs: list[dict[str, Any]] = []
        self._responses = 0
        self._complete = False

    def _take(self, answer: dict[str, Any]) -> None:
        """One response."""
        self._responses += 1
        self._jobs += answer["jobs"]
        # One response without a version is all there is; streams say at first that they are one.
        if self._responses == 1 and not answer.get("version"):
            self._complete = True
        else:
            self.reset()

    def _over(self, exc: OSError) -> None:
        """An error. Raises it, if it is not the end of the stream."""
        if exc.errno != errno.ENODATA:
            raise exc
        self._complete = True

    def get_jobs(self) -> list[dict[str, Any]]:
        """Waits; the jobs, as the service describes them. May be called again."""
        while not self._complete:
            try:
                self._take(self.get())
            except OSError as exc:
                self._over(exc)
        return self._jobs

    async def collect(self) -> None:
        """As `get_jobs`, which then has them; under asyncio, or in a coroutine under the reactor."""
        while not self._complete:
            try:
                self._take(await self)
            except OSError as exc:
                self._over(exc)

    def get_jobinfos(self) -> Iterator[JobInfo]:
        """As `get_jobs`, the jobs as JobInfo objects."""
        from flux.job.info import JobInfo

        return (JobInfo(job) for job in self.get_jobs())


def _joined(constraint: Any, userid: int, states: int, results: int, name: str | None, queue: Any) -> dict[str, Any]:
    """One constraint of all that is asked for."""
    terms: list[dict[str, Any]] = []
    if constraint:
        terms.append(constraint)
    if userid != FLUX_USERID_UNKNOWN:
        terms.append({"userid": [userid]})
    if name:
        terms.append({"name": [name]})
    if queue:
        if isinstance(queue, str):
            terms.append({"queue": [queue]})
        elif isinstance(queue, Iterable):
            terms.append({"queue": list(queue)})
        else:
            raise ValueError("queue parameter must be a string or iterable")
    if states and results:
        terms.append({"or": [{"states": [states]}, {"results": [results]}]})
    elif states or results:
        terms.append({"states": [states]} if states else {"results": [results]})
    return {"and": terms}


def job_list(
    flux_handle: Flux,
    max_entries: int = 1000,
    attrs: Iterable[str] = _ALL,
    userid: int = os.getuid(),
    states: int = 0,
    results: int = 0,
    since: float = 0.0,
    name: str | None = None,
    queue: str | Iterable[str] | None = None,
    constraint: dict[str, Any] | None = None,
) -> JobListRPC:
    """Asks for jobs.

    Args:
        max_entries: how many at most; 0: all.
        attrs: what to tell of them, names from spec 08, 2.2.
        userid: whose; FLUX_USERID_UNKNOWN for everybody's.
        states, results: FLUX_JOB_STATE_* and FLUX_JOB_RESULT_*, or-ed; 0: any.
        since: leave out jobs that became inactive at this time, in seconds since the epoch, or before.
        name, queue: only jobs of this name; in this queue, or one of these.
        constraint: what else they must fulfil (RFC 31).
    """
    payload = {
        "max_entries": int(max_entries),
        "attrs": list(attrs),
        "since": since,
        "constraint": _joined(constraint, userid, int(states), int(results), name, queue),
    }
    return JobListRPC(flux_handle, "job-list.list", payload, flags=FLUX_RPC_STREAMING)


def job_list_inactive(
    flux_handle: Flux,
    since: float = 0.0,
    max_entries: int = 1000,
    attrs: Iterable[str] = _ALL,
    name: str | None = None,
    queue: str | Iterable[str] | None = None,
    constraint: dict[str, Any] | None = None,
) -> JobListRPC:
    """Asks for inactive jobs of all users, the last ended first. Arguments as of `job_list`."""
    return job_list(
        flux_handle,
        max_entries=max_entries,
        attrs=attrs,
        userid=FLUX_USERID_UNKNOWN,
        states=FLUX_JOB_STATE_INACTIVE,
        since=since,
        name=name,
        queue=queue,
        constraint=constraint,
    )


class JobListIdRPC(RPC):
    """The RPC of `job_list_id`; `jobid` is that function's argument."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.jobid: Any = None

    def get_job(self) -> dict[str, Any]:
        """Waits; the job, as the service describes it. Raises FileNotFoundError if there is none."""
        job: dict[str, Any] = self.get()["job"]
        return job

    def get_jobinfo(self) -> JobInfo:
        """As `get_job`, as a JobInfo."""
        from flux.job.info import JobInfo

        return JobInfo(self.get_job())


def job_list_id(flux_handle: Flux, jobid: Any, attrs: Iterable[str] = _ALL) -> JobListIdRPC:
    """Asks for one job. `attrs` as of `job_list`."""
    rpc = JobListIdRPC(flux_handle, "job-list.list-id", {"id": wire_id(jobid), "attrs": list(attrs)})
    rpc.jobid = jobid
    return rpc


def get_job(flux_handle: Flux, jobid: Any) -> dict[str, Any] | None:
    """All that is known of a job, as a dict; None if there is no such job."""
    try:
        return job_list_id(flux_handle, jobid).get_jobinfo().to_dict(filtered=False)
    except FileNotFoundError:
        return None


class JobListIdsFuture(WaitAllFuture):
    """The future of a JobList of particular jobs.

    Attributes:
        errors: a sentence for each job that was not found, once the results were asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[str] = []

    def get_jobs(self) -> list[dict[str, Any]]:
        """Waits; those jobs that were found, as the service describes them."""
        self.errors = []
        jobs = []
        for child in self.children:
            assert isinstance(child, JobListIdRPC)
            try:
                jobs.append(child.get_job())
            except FileNotFoundError:
                jobid = child.jobid
                self.errors.append(f"JobID {jobid.orig_str if isinstance(jobid, JobID) else jobid} unknown")
            except OSError as exc:
                self.errors.append(f"rpc: {exc.strerror or os.strerror(exc.errno or errno.EIO)}")
        return jobs

    def get_jobinfos(self) -> Iterator[JobInfo]:
        """As `get_jobs`, as JobInfo objects."""
        from flux.job.info import JobInfo

        return (JobInfo(job) for job in self.get_jobs())


class JobList:
    """A list of jobs.

    Args:
        attrs, max_entries, since, name, queue, constraint: as for `job_list`.
        filters: names of states and results, each perhaps several with commas between them.
        ids: of the jobs to list, whatever the filters; anything that JobID takes.
        user: a name, a number as text, or ``all``; None: this user.

    Attributes:
        errors: a sentence for each of `ids` that was not found, after `jobs`.

    Raises ValueError for a filter, or a user, that there is not.
    """

    STATES = {
        "depend": FLUX_JOB_STATE_DEPEND,
        "priority": FLUX_JOB_STATE_PRIORITY,
        "sched": FLUX_JOB_STATE_SCHED,
        "run": FLUX_JOB_STATE_RUN,
        "cleanup": FLUX_JOB_STATE_CLEANUP,
        "inactive": FLUX_JOB_STATE_INACTIVE,
        "pending": FLUX_JOB_STATE_PENDING,
        "running": FLUX_JOB_STATE_RUNNING,
        "active": FLUX_JOB_STATE_ACTIVE,
    }
    RESULTS = {
        "completed": FLUX_JOB_RESULT_COMPLETED,
        "failed": FLUX_JOB_RESULT_FAILED,
        "canceled": FLUX_JOB_RESULT_CANCELED,
        "timeout": FLUX_JOB_RESULT_TIMEOUT,
    }

    def __init__(
        self,
        flux_handle: Flux,
        attrs: Iterable[str] = _ALL,
        filters: Iterable[str] = [],  # never changed
        ids: Iterable[Any] = [],  # never changed
        user: str | int | None = None,
        max_entries: int = 1000,
        since: float = 0.0,
        name: str | None = None,
        queue: str | Iterable[str] | None = None,
        constraint: dict[str, Any] | None = None,
    ) -> None:
        self.handle = flux_handle
        self.attrs = list(attrs)
        self.states = 0
        self.results = 0
        self.ids = [JobID(jobid) for jobid in ids]
        self.max_entries = max_entries
        self.since = since
        self.name = name
        self.queue = queue
        self.constraint = constraint
        self.errors: list[str] = []
        self.userid: int = os.getuid()
        for words in filters:
            for word in words.split(","):
                self.add_filter(word)
        self.set_user(user)

    def set_user(self, user: str | int | None) -> None:
        """Lists the jobs of this user instead. Raises ValueError for one that there is not."""
        if user is None:
            self.userid = os.getuid()
        elif user == "all":
            self.userid = FLUX_USERID_UNKNOWN
        else:
            try:
                self.userid = pwd.getpwnam(str(user)).pw_uid
            except KeyError:
                try:
                    self.userid = int(user)
                except ValueError:
                    raise ValueError(f"Invalid user {user} specified") from None

    def add_filter(self, fname: str) -> None:
        """Lists jobs in one more state, or with one more result. Raises ValueError for what is neither."""
        word = fname.lower()
        if word in self.STATES:
            self.states |= self.STATES[word]
        elif word in self.RESULTS:
            self.results |= self.RESULTS[word]
        else:
            raise ValueError(f"Invalid filter specified: {fname}")

    def fetch_jobs(self) -> JobListRPC | JobListIdsFuture:
        """Asks for the jobs; a future that has `get_jobs` and `get_jobinfos`."""
        if self.ids:
            future = JobListIdsFuture()
            for jobid in self.ids:
                future.push(job_list_id(self.handle, jobid, self.attrs))
            return future
        return job_list(
            self.handle,
            max_entries=self.max_entries,
            attrs=self.attrs,
            userid=self.userid,
            states=self.states,
            results=self.results,
            since=self.since,
            name=self.name,
            queue=self.queue,
            constraint=self.constraint,
        )

    def jobs(self) -> list[JobInfo]:
        """The jobs; of particular ones those that were found, and `errors` says which were not."""
        future = self.fetch_jobs()
        jobs = [*future.get_jobinfos()]
        if isinstance(future, JobListIdsFuture):
            self.errors = future.errors
        return jobs
