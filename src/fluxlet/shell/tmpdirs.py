"""FLUX_JOB_TMPDIR of each job (spec 07, 5.3): made when it starts, gone when it ends.

To make a directory and to remove one costs as much as starting a program, on the disks that most have. One that is
empty at its job's end is put aside, and gets the name of the next job's.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress

#: How many are put aside.
_SPARE = 16


class TmpDirs:
    """The temporary directories of a rank's jobs.

    Args:
        rundir: of the broker, where they are if that can be written to.
    """

    def __init__(self, rundir: str) -> None:
        self._rundir = rundir
        self._prefix = f"{rundir}/jobtmp.spare-{os.getpid()}-"
        self._spare: list[str] = []
        self._count = 0

    def make(self, name: str) -> str:
        """Makes one; returns its path. Raises OSError if there is no place for it."""
        path = f"{self._rundir}/{name}"
        while self._spare:
            try:
                os.rename(self._spare.pop(), path)
            except OSError:
                continue
            return path
        error: OSError | None = None
        for parent in (self._rundir, os.environ.get("TMPDIR", "/tmp"), "/tmp"):
            path = f"{parent}/{name}"
            try:
                os.mkdir(path, 0o700)
            except OSError as exc:
                error = exc
                continue
            return path
        assert error is not None
        raise error

    def remove(self, path: str) -> None:
        """Removes one, and what is in it."""
        with suppress(OSError):
            if len(self._spare) < _SPARE and path.startswith(self._rundir) and not os.listdir(path):
                self._count += 1
                spare = f"{self._prefix}{self._count}"
                if os.stat(path).st_mode & 0o7777 != 0o700:
                    os.chmod(path, 0o700)
                os.rename(path, spare)
                self._spare.append(spare)
                return
        shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """Removes those put aside."""
        for path in self._spare:
            with suppress(OSError):
                os.rmdir(path)
        self._spare.clear()
