"""Jobs that have ended, in little room: a hundred thousand of them are kept (spec 06, 11.1 and 18.13). Pure."""

from __future__ import annotations

import msgspec

from fluxlet.modules.job_manager.job import Job

#: So many different jobspecs, of up to so many bytes, are remembered to be shared by jobs that have the same.
_SHARED = 1024
_SMALL = 4096


#: Jobs that are kept as they are: few instances run more, and they need not load what packs.
_FIRST = 64
#: Jobs that are packed with the same dictionary.
_ALIKE = 1024


class Past(msgspec.Struct, eq=False, gc=False):
    """A job that has ended. `ran`: it had resources.

    Its events, with commas between them, and after a line feed its R if it had any, are one text. That of one job is
    much like that of another: it is packed with another one as the dictionary, in a quarter of the room.
    """

    id: int
    userid: int
    t_submit: float
    t_clean: float
    result: str
    ran: bool
    started: bool
    excepted: bool
    jobspec: bytes
    packed: bytes
    dictionary: bytes | None

    @property
    def _text(self) -> bytes:
        if self.dictionary is None:
            return self.packed
        import lz4.block

        text: bytes = lz4.block.decompress(self.packed, dict=self.dictionary)
        return text

    @property
    def log(self) -> bytes:
        """Its events, with commas between them."""
        return self._text.partition(b"\n")[0]

    @property
    def R(self) -> bytes | None:
        """Its resources."""
        _, line_feed, R = self._text.partition(b"\n")
        return R if line_feed else None

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
        self._count = 0
        self._dictionary = b""

    def _packed(self, text: bytes) -> tuple[bytes, bytes | None]:
        self._count = count = self._count + 1
        if count <= _FIRST:
            return text, None
        import lz4.block

        if count % _ALIKE == 0 or not self._dictionary:
            self._dictionary = text[:_SMALL]
        return lz4.block.compress(text, dict=self._dictionary), self._dictionary

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
        log = b",".join(job.events)
        packed, dictionary = self._packed(log if job.R is None else b"%b\n%b" % (log, job.R))
        return Past(
            job.id,
            job.userid,
            job.t_submit,
            job.t_clean,
            job.result,
            "alloc" in job.seen,
            "start" in job.seen,
            job.fatal is not None,
            jobspec,
            packed,
            dictionary,
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
