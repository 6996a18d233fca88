"""The environment of tasks (spec 07, 5.3): that of the job, and what a task has to know."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True)
class Place:
    """What is the same for all jobs that a shell process runs.

    Args:
        uri: of the local broker.
        jobid_path: of the instance, "/" for the outermost one.
        hostname: the node's name.
    """

    uri: str
    jobid_path: str
    hostname: str


def of_jobs(given: Mapping[str, str | None], place: Place, ntasks: int, nnodes: int) -> dict[str, str]:
    """What the tasks of all jobs alike have in common.

    Args:
        given: attributes.system.environment; None unsets.
    """
    env = {name: value for name, value in given.items() if value is not None}
    env.pop("FLUX_PROXY_REMOTE", None)
    env["FLUX_URI"] = place.uri
    env["FLUX_JOB_SIZE"] = str(ntasks)
    env["FLUX_JOB_NNODES"] = str(nnodes)
    env["FLUX_TERMINUS_SESSION"] = "0"
    if "HOSTNAME" in env:
        env["HOSTNAME"] = place.hostname
    return env


def of_job(
    common: Mapping[str, str], place: Place, jobid: int, f58: str, tmpdir: str, mpi: bool = True
) -> dict[str, str]:
    """What the tasks of a job on one node have in common.

    Args:
        common: what they share with those of all jobs alike.
        f58: the job's id as the tasks are to see it.
        mpi: whether MPI libraries are told something.
    """
    path = place.jobid_path
    env = {
        **common,
        "FLUX_KVS_NAMESPACE": f"job-{jobid}",
        "FLUX_JOB_ID": f58,
        "FLUX_JOB_ID_PATH": f"{path}{f58}" if path.endswith("/") else f"{path}/{f58}",
        "FLUX_JOB_TMPDIR": tmpdir,
    }
    if mpi:
        env["OMPI_MCA_btl_vader_backing_directory"] = tmpdir
    return env


def usable_tmpdir(env: dict[str, str]) -> str | None:
    """Has the directory that TMPDIR names made, if need be; else /tmp takes its place, and the warning is returned."""
    path = env.get("TMPDIR")
    if path is None or os.path.isdir(path):
        return None
    try:
        os.makedirs(path, 0o700, exist_ok=True)
    except OSError:
        env["TMPDIR"] = "/tmp"
        return f"Unable to create TMPDIR={path}, resetting TMPDIR=/tmp"
    return None


#: Programs that were found lately: (name, PATH) to path and when that was.
_found: dict[tuple[str, str], tuple[str, float]] = {}
#: Seconds that what was found is believed.
_BELIEVED = 1.0


def find_program(name: str, env: Mapping[str, str]) -> str:
    """The path of a program by the job's PATH, seen from the working directory.

    Raises OSError, ENOENT or EACCES, as execvp would fail.
    """
    if "/" in name:
        return name
    directories = env.get("PATH", "/bin:/usr/bin")
    now = monotonic()
    path, when = _found.get((name, directories), ("", 0.0))
    if path and now - when < _BELIEVED and os.access(path, os.X_OK):
        return path
    refused = False
    for directory in directories.split(":"):
        path = f"{directory or '.'}/{name}"
        if os.access(path, os.X_OK) and os.path.isfile(path):
            if path.startswith("/"):
                if len(_found) > 1024:
                    _found.clear()
                _found[name, directories] = path, now
            return path
        refused = refused or os.path.isfile(path)
    number = errno.EACCES if refused else errno.ENOENT
    raise OSError(number, os.strerror(number))
