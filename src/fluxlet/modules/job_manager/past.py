"""Jobs that have ended, in little room: a hundred thousand of them are kept (spec 06, 11.1 and 18.13). Pure."""

from __future__ import annotations

import msgspec

from fluxlet.modules.job_manager.job import Job

#: So many different jobspecs, of up to so many bytes, are remembered to be shared by jobs that have the same.
_SHARED = 1024
_SMALL = 4096


class Past(msgspec.Struct, eq=False, gc=False):
    """A job that has ended. `log` are its events with commas between them; `ran`: it had resources."""

    id: int
    userid: int
    t_submit: float
    t_clean: float
    result: str
    ran: bool
    started: bool
    excepted: bool
    log: bytes
    jobspec: bytes
    R: bytes | None

    @property
    def entries(self) -> list[bytes]:
        """Its events, one by one."""
        return [bytes(entry) for entry in _entries(b"[" + self.log + b"]")]


_entries = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Pasts:
    """Those that are kept, in the order in which they have ended."""

    def __init__(self) -> None:
        self.jobs: dict[int, Past] = {}
        self._jobspecs: dict[bytes, bytes] = {}

    def add(self, job: Job) -> None:
        """A job has ended."""
        self.jobs[job.id] = self.past(job)

    def past(self, job: Job) -> Past:
        """What is to be kept of a job that has ended."""
        shared = self._jobspecs
        if len(shared) > _SHARED:
            shared.clear()
        jobspec = job.jobspec
        if len(jobspec) <= _SMALL:
            jobspec = shared.setdefault(jobspec, jobspec)
        return Past(
            job.id,
            job.userid,
            job.t_submit,
            job.t_clean,
            job.result,
            "alloc" in job.seen,
            "start" in job.seen,
            job.fatal is not None,
            b",".join(job.events),
            jobspec,
            job.R,
        )

    def eligible(self, age_limit: float, num_limit: int, now: float) -> int:
        """How many of the oldest may be purged.

        Args:
            age_limit: seconds; older ones may. Negative: age does not matter.
            num_limit: more than this many may. Negative: their number does not matter.
            now: seconds since the epoch.
        """
        count = max(len(self.jobs) - num_limit, 0) if num_limit >= 0 else 0
        if age_limit >= 0:
            aged = 0
            for job in self.jobs.values():
                if now - job.t_clean < age_limit:
                    break
                aged += 1
            count = max(count, aged)
        return count

    def oldest(self, count: int) -> list[int]:
        """The ids of so many."""
        ids: list[int] = []
        for jobid in self.jobs:
            if len(ids) == count:
                break
            ids.append(jobid)
        return ids
