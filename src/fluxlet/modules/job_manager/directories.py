"""Which KVS directories of jobs there are, so that a purge leaves no empty ones behind (spec 06, section 6). Pure.

A job's directory is `job.A.B.C.D`, four groups of four hexadecimal digits of its id. Ids grow: a directory may be
unlinked as a whole once there is no job in it and none can come, that is, once ids are well beyond it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable

_GROUP = 16
#: Ids so far below the newest are not given out any more by anybody: a minute, in milliseconds, as ids have it.
_MARGIN = 60_000 << 24


class Directories:
    """The ids of all jobs that have a directory, in order."""

    def __init__(self) -> None:
        self.ids = array("Q")

    def add(self, jobid: int) -> None:
        """A job has a directory."""
        ids = self.ids
        if not ids or jobid > ids[-1]:
            ids.append(jobid)
        else:
            ids.insert(bisect_left(ids, jobid), jobid)

    def remove(self, jobids: Iterable[int], newest: int) -> list[str]:
        """Jobs are to go. Returns the keys to unlink: of the topmost directories that nobody else needs.

        Args:
            jobids: of the jobs.
            newest: the largest id that has been given out.
        """
        keys = []
        ids = self.ids
        for jobid in jobids:
            at = bisect_left(ids, jobid)
            if at < len(ids) and ids[at] == jobid:
                del ids[at]
            depth = 4
            for groups in (3, 2, 1):
                bits = _GROUP * (4 - groups)
                begin = jobid >> bits << bits
                end = begin + (1 << bits)
                at = bisect_left(ids, begin)
                if end + _MARGIN > newest or (at < len(ids) and ids[at] < end):
                    break
                depth = groups
            digits = f"{jobid:016x}"
            keys.append("job." + ".".join(digits[4 * i : 4 * i + 4] for i in range(depth)))
        return keys
