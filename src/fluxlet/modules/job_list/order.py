"""The jobs of a listing, in its order, and the inactive ones by what they are often looked for by (spec 08, 2.3).

Rules:
- Whoever goes through jobs slice by slice does not see lists change under his hands: the list of inactive jobs is only
  ever appended to, or replaced; of the others he gets his own.
- Purged jobs stay in lists, marked, until there are as many of them as of others.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterable

from fluxlet.modules.job_list.job import Job

_FEW = 1000
_LOWEST = (float("-inf"), float("-inf"))
#: Jobs on more nodes than this are few, and on many nodes each: they are looked at whatever node is asked for.
_WIDE = 64


class Ordered:
    """Active jobs in order of a key, which must not change while a job is in.

    Jobs come and go far more often than anybody asks for their order: it is made then, if they did not come in it.
    """

    def __init__(self, key: Callable[[Job], tuple[float, float]]) -> None:
        self._jobs: dict[int, Job] = {}
        self._key = key
        self._highest = _LOWEST  # of the keys so far
        self._in_order = True

    def add(self, job: Job) -> None:
        """Adds a job."""
        self._jobs[job.id] = job
        key = self._key(job)
        if key >= self._highest:
            self._highest = key
        else:
            self._in_order = False

    def remove(self, job: Job) -> None:
        """Takes a job out."""
        del self._jobs[job.id]
        if not self._jobs:
            self._highest, self._in_order = _LOWEST, True

    @property
    def jobs(self) -> list[Job]:
        """Them, in order; a list of the caller's own."""
        if not self._in_order:
            found = sorted(self._jobs.values(), key=self._key)
            self._jobs = {job.id: job for job in found}
            self._highest, self._in_order = self._key(found[-1]), True
            return found
        return list(self._jobs.values())

    def __len__(self) -> int:
        return len(self._jobs)


def _ended(job: Job) -> tuple[float, int]:
    return (job.t_inactive or 0.0, job.id)


def _keys(job: Job) -> list[tuple[str, Hashable]]:
    """What an inactive job can be looked up by."""
    keys: list[tuple[str, Hashable]] = [
        ("userid", job.userid),
        ("name", job.spec.name),
        ("queue", job.spec.queue),
        ("result", job.result),
    ]
    if job.where is not None:
        if job.where.nnodes > _WIDE:
            keys.append(("wide", None))
        else:
            keys += [("rank", rank) for rank in job.where.rank_ids]
            keys += [("host", host) for host in job.where.hosts]
    return keys


class Inactive:
    """The inactive jobs, by the time when they ended, the oldest first.

    Attributes:
        jobs: them; purged ones among them.
    """

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self._purged = 0
        # A key that only one job has refers to that.
        self._by: dict[tuple[str, Hashable], Job | list[Job]] = {}

    def __len__(self) -> int:
        return len(self.jobs) - self._purged

    def add(self, job: Job) -> None:
        """Adds a job: usually the last one to end."""
        self.jobs = _appended(self.jobs, job)
        for key in _keys(job):
            found = self._by.get(key)
            if found is None:
                self._by[key] = job
            else:
                self._by[key] = _appended([found] if isinstance(found, Job) else found, job)

    def purge(self, jobs: Iterable[Job]) -> None:
        """Forgets jobs."""
        for job in jobs:
            job.purged = True
            self._purged += 1
        if self._purged > _FEW and self._purged > len(self.jobs) // 2:
            self.jobs = [job for job in self.jobs if not job.purged]
            self._by = {key: left for key, jobs in self._by.items() if (left := _left(jobs))}
            self._purged = 0

    def by(self, what: str, value: Hashable) -> list[Job]:
        """The jobs, the oldest first, with a `userid`, `name`, `queue`, `result`, or that ran on a `rank`, or `host`.

        Those that ran on many nodes are under ``wide`` (None) instead of each of them.
        """
        found = self._by.get((what, value))
        if found is None:
            return []
        return [found] if isinstance(found, Job) else found

    def since(self, jobs: list[Job], when: float) -> int:
        """Where in such a list the jobs begin that ended at `when` or later."""
        return bisect_left(jobs, (when, -1), key=_ended)


def _left(jobs: Job | list[Job]) -> Job | list[Job] | None:
    """What is left of jobs when those that are purged are gone; nothing is an empty list, or None."""
    if isinstance(jobs, Job):
        return None if jobs.purged else jobs
    return [job for job in jobs if not job.purged]


def _appended(jobs: list[Job], job: Job) -> list[Job]:
    """The list with the job in its place: the same list, or a new one if that is not the end."""
    if not jobs or _ended(job) >= _ended(jobs[-1]):
        jobs.append(job)
        return jobs
    jobs = list(jobs)
    insort(jobs, job, key=_ended)
    return jobs


def youngest_first(lists: list[list[Job]]) -> list[Job]:
    """The jobs of several lists of an Inactive, each once, the last to end first."""
    lists = [jobs for jobs in lists if jobs]
    if len(lists) == 1:
        return lists[0][::-1]
    together = {job.id: job for jobs in lists for job in jobs}
    return sorted(together.values(), key=_ended, reverse=True)
