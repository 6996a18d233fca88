"""The jobs that `job-list` knows: what events make of them, and which are asked for (spec 08, 2.1 to 2.4).

    journal entry -> apply -> Job, lists, counts
    Query -> matching jobs, in order, in slices

Pure: no clock, no handle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

import msgspec

from flux.util import set_treedict
from fluxlet.modules.job_list.constraint import ANY, Term
from fluxlet.modules.job_list.counts import Counts
from fluxlet.modules.job_list.job import (
    CANCELED,
    CLEANUP,
    COMPLETED,
    DEPEND,
    FAILED,
    INACTIVE,
    PENDING,
    PRIORITY,
    RUN,
    RUNNING,
    SCHED,
    TIMEOUT,
    Exc,
    Job,
)
from fluxlet.modules.job_list.order import Inactive, Ordered, youngest_first
from fluxlet.modules.job_list.spec import parse_jobspec, parse_resources

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

#: Jobs that are looked at in one slice of a listing.
SLICE = 500


class Event(msgspec.Struct):
    """An entry of the journal."""

    timestamp: float
    name: str
    context: dict[str, Any] | None = None


@lru_cache(maxsize=4096)
def _shared(text: bytes) -> bytes:
    """Equal texts as one object."""
    return text


@lru_cache(maxsize=1024)
def _exc(kind: str, severity: int, note: str) -> Exc:
    return Exc(kind, severity, note)


class ExcessiveError(ValueError):
    """A listing has compared more than the configuration allows."""


class Table:
    """The jobs.

    Attributes:
        jobs: by id; those in state NEW, which no list shows, among them.
        counts: of jobs by states, results and queues.
    """

    def __init__(self) -> None:
        self.jobs: dict[int, Job] = {}
        self.pending = Ordered(lambda job: (-(job.priority or 0), job.id))
        self.running = Ordered(lambda job: (job.t_run or 0.0, job.id))
        self.inactive = Inactive()
        self.counts = Counts()

    # What happens to jobs.

    def apply(
        self, jobid: int, event: Event, jobspec: bytes | None = None, resources: bytes | None = None
    ) -> Job | None:
        """Takes in an event.

        Args:
            jobspec: the JSON text of the jobspec, which comes with `submit`.
            resources: that of R, which comes with `alloc`.

        Returns the job if its state has changed. Raises KeyError, TypeError or ValueError for an event without what
        is to be in it; the job is as before then, or partly changed.
        """
        if event.name == "submit":
            self._submit(jobid, event, jobspec)
            return None
        job = self.jobs.get(jobid)
        if job is None:
            return None
        before = job.state
        if event.name == "alloc":
            self._alloc(job, event, resources)
        elif (handler := _HANDLERS.get(event.name)) is not None:
            handler(self, job, event)
        return job if job.state != before else None

    def _submit(self, jobid: int, event: Event, jobspec: bytes | None) -> None:
        context = event.context or {}
        job = Job(jobid, context["userid"], context["urgency"], event.timestamp)
        job.jobspec = jobspec
        if jobspec is not None:
            job.spec = parse_jobspec(jobspec)
        self.jobs[jobid] = job

    def _move(self, job: Job, state: int) -> None:
        """Puts a job into another state, and into the list for that."""
        old = job.state
        self.counts.move(job, state)
        job.been |= state
        if not (old & PENDING and state & PENDING) and not (old & RUNNING and state & RUNNING):
            if old & PENDING:
                self.pending.remove(job)
            elif old & RUNNING:
                self.running.remove(job)
            job.state = state
            if state & PENDING:
                self.pending.add(job)
            elif state & RUNNING:
                self.running.add(job)
            else:
                self.inactive.add(job)
        job.state = state

    def _validate(self, job: Job, event: Event) -> None:
        job.t_depend = event.timestamp
        self._move(job, DEPEND)

    def _invalidate(self, job: Job, event: Event) -> None:
        del self.jobs[job.id]

    def _depend(self, job: Job, event: Event) -> None:
        if job.t_priority is None:
            job.t_priority = event.timestamp
        if job.state == DEPEND:
            self._move(job, PRIORITY)

    def _priority(self, job: Job, event: Event) -> None:
        priority = (event.context or {})["priority"]
        self._set_priority(job, priority)
        if job.state == PRIORITY:
            if job.t_sched is None:
                job.t_sched = event.timestamp
            self._move(job, SCHED)

    def _set_priority(self, job: Job, priority: int | None) -> None:
        if job.state & PENDING and (priority or 0) != (job.priority or 0):
            # Its place depends on it.
            self.pending.remove(job)
            job.priority = priority
            self.pending.add(job)
        else:
            job.priority = priority

    def _again(self, job: Job) -> None:
        """Sends a job that is waiting for resources back for another priority."""
        if job.state == SCHED:
            self._set_priority(job, None)
            self._move(job, PRIORITY)

    def _urgency(self, job: Job, event: Event) -> None:
        job.urgency = (event.context or {})["urgency"]
        self._again(job)

    def _flux_restart(self, job: Job, event: Event) -> None:
        self._again(job)

    def _jobspec_update(self, job: Job, event: Event) -> None:
        if job.jobspec is not None:
            jobspec = _decode(job.jobspec)
            for path, value in (event.context or {}).items():
                set_treedict(jobspec, path, value)
            text = _encode(jobspec)
            spec = parse_jobspec(text)
            self.counts.change_queue(job, spec.queue)
            job.jobspec, job.spec = text, spec
        self._again(job)

    def _resource_update(self, job: Job, event: Event) -> None:
        job.expiration = float((event.context or {})["expiration"])

    def _alloc(self, job: Job, event: Event, resources: bytes | None) -> None:
        if resources is not None:
            job.where, job.expiration = parse_resources(resources)
        annotations = (event.context or {}).get("annotations")
        if annotations:
            job.annotations = annotations
        if job.state & PENDING:
            job.t_run = event.timestamp
            self._move(job, RUN)

    def _finish(self, job: Job, event: Event) -> None:
        job.waitstatus = (event.context or {})["status"]
        fatal = job.exception is not None and job.exception.severity == 0
        job.success = job.waitstatus == 0 and not fatal
        self._clean_up(job, event)

    def _exception(self, job: Job, event: Event) -> None:
        context = event.context or {}
        severity = context["severity"]
        if job.exception is None or severity < job.exception.severity:
            job.exception = _exc(context["type"], severity, context.get("note", ""))
        if severity == 0:
            self._clean_up(job, event)

    def _clean_up(self, job: Job, event: Event) -> None:
        if job.t_cleanup is None:
            job.t_cleanup = event.timestamp
        if job.state & (PENDING | RUN):
            self._move(job, CLEANUP)

    def _clean(self, job: Job, event: Event) -> None:
        if job.state == INACTIVE:
            return
        job.t_inactive = event.timestamp
        job.result = _result(job)
        # From here on it does not change, and is kept small.
        job.jobspec = None
        if isinstance(job.annotations, dict):
            job.annotations = _shared(_encode(job.annotations)) if job.annotations else None
        self._move(job, INACTIVE)

    def _annotations(self, job: Job, event: Event) -> None:
        job.annotations = (event.context or {}).get("annotations")

    def _memo(self, job: Job, event: Event) -> None:
        annotations = job.annotations if isinstance(job.annotations, dict) else {}
        user = _merged(annotations.get("user", {}), event.context or {})
        annotations = {**annotations, "user": user}
        if not user:
            del annotations["user"]
        job.annotations = annotations

    def _dependency_add(self, job: Job, event: Event) -> None:
        job.dependencies = [*(job.dependencies or ()), (event.context or {})["description"]]

    def _dependency_remove(self, job: Job, event: Event) -> None:
        gone = (event.context or {})["description"]
        job.dependencies = [one for one in job.dependencies or () if one != gone]

    def purge(self, ids: Iterable[int]) -> None:
        """Forgets inactive jobs."""
        gone = []
        for jobid in ids:
            job = self.jobs.get(jobid)
            if job is not None and job.state == INACTIVE:
                del self.jobs[jobid]
                self.counts.purge(job)
                gone.append(job)
        self.inactive.purge(gone)

    # Which jobs are asked for.

    def matching(
        self, term: Term = ANY, limit: int = 0, since: float = 0.0, comparisons: int = 0
    ) -> Iterator[Job | None]:
        """Generates the jobs that match, in the order of spec 08, 2.3, and None at the end of each slice of work.

        Between slices, jobs may change: a job comes at most once, and matches when it comes.

        Args:
            limit: how many at most; 0: all.
            since: leave out inactive jobs that ended at this time, or before.
            comparisons: elementary checks at most; 0: any number. Raises ExcessiveError beyond that.
        """
        sources: list[list[Job]] = []
        if term.states & PENDING:
            sources.append(self.pending.jobs)
        if term.states & RUNNING:
            sources.append(self.running.jobs[::-1])
        if term.states & INACTIVE:
            sources.append(self._inactive_from(term, since))
        looked, found, cost = 0, 0, max(1, term.cost)
        matches, worth = term.matches, term is not ANY
        for jobs in sources:
            for job in jobs:
                looked += 1
                if looked % SLICE == 0:
                    yield None
                if comparisons and worth and looked * cost > comparisons:
                    raise ExcessiveError
                if job.purged or not matches(job):
                    continue
                yield job
                found += 1
                if found == limit:
                    return

    def _inactive_from(self, term: Term, since: float) -> list[Job]:
        """The inactive jobs that may match, the last to end first."""
        inactive = self.inactive
        lists = term.candidates(inactive)
        earliest = max(term.since, since)
        if lists is None or sum(map(len, lists)) > len(inactive.jobs) // 2:
            lists = [inactive.jobs]
        if earliest > 0.0:
            lists = [jobs[inactive.since(jobs, earliest) :] for jobs in lists]
        jobs = youngest_first(lists)
        while since > 0.0 and jobs and (jobs[-1].t_inactive or 0.0) <= since:
            jobs.pop()
        return jobs


def _result(job: Job) -> int:
    if job.success:
        return COMPLETED
    kind = job.exception.type if job.exception is not None and job.exception.severity == 0 else None
    return CANCELED if kind == "cancel" else TIMEOUT if kind == "timeout" else FAILED


def _merged(old: Any, new: dict[str, Any]) -> dict[str, Any]:
    """`new` over `old`, by recursion; null deletes, and so does what becomes empty by that."""
    merged = dict(old) if isinstance(old, dict) else {}
    for key, value in new.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            merged[key] = _merged(merged.get(key), value)
            if not merged[key]:
                del merged[key]
        else:
            merged[key] = value
    return merged


#: What is done at which event; `submit` and `alloc`, with which more comes, are not among them.
_HANDLERS: dict[str, Callable[[Table, Job, Event], None]] = {
    "validate": Table._validate,
    "invalidate": Table._invalidate,
    "depend": Table._depend,
    "priority": Table._priority,
    "finish": Table._finish,
    "exception": Table._exception,
    "clean": Table._clean,
    "urgency": Table._urgency,
    "jobspec-update": Table._jobspec_update,
    "resource-update": Table._resource_update,
    "annotations": Table._annotations,
    "memo": Table._memo,
    "dependency-add": Table._dependency_add,
    "dependency-remove": Table._dependency_remove,
    "flux-restart": Table._flux_restart,
}
