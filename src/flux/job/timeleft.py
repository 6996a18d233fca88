"""How long a job, or the instance, has left (spec 06, 15.6)."""

from __future__ import annotations

import errno
import math
import os
import time
from typing import Any

from flux.constants import FLUX_JOB_STATE_DEPEND, FLUX_JOB_STATE_PRIORITY, FLUX_JOB_STATE_RUN, FLUX_JOB_STATE_SCHED
from flux.core.handle import Flux
from flux.job._requests import wire_id
from flux.job.JobID import JobID

__all__ = ["timeleft"]

_PENDING = FLUX_JOB_STATE_DEPEND | FLUX_JOB_STATE_PRIORITY | FLUX_JOB_STATE_SCHED


def timeleft(flux_handle: Flux | None = None) -> float:
    """Seconds that are left: to the job that this process is a task of ($FLUX_JOB_ID), otherwise to the instance.

    Args:
        flux_handle: None: one is opened for the question.

    Returns inf where there is no limit, 0.0 for a job whose time is over, or that does not run any more.

    Raises OSError EINVAL if $FLUX_JOB_ID is no job id, ENOENT for a job that there is not, EINVAL for one that has
    not started.
    """
    if flux_handle is None:
        with Flux() as handle:
            return timeleft(handle)
    word = os.environ.get("FLUX_JOB_ID")
    expiration = _of_instance(flux_handle) if word is None else _of_job(flux_handle, word)
    if expiration is None:
        return 0.0
    if expiration <= 0:
        return math.inf
    return max(0.0, expiration - time.time())


def _of_job(handle: Flux, word: str) -> float | None:
    """When a job expires; 0 for never, None if it is over."""
    try:
        jobid = JobID(word)
    except ValueError:
        raise OSError(errno.EINVAL, f"failed to parse jobid {word}") from None
    request = {"id": wire_id(jobid), "attrs": ["expiration", "state"]}
    try:
        job: dict[str, Any] = handle.rpc("job-list.list-id", request, 0).get()["job"]
    except FileNotFoundError:
        raise OSError(errno.ENOENT, f"{word}: no such jobid") from None
    if job["state"] & _PENDING:
        raise OSError(errno.EINVAL, f"job {word} has not started")
    if job["state"] != FLUX_JOB_STATE_RUN:
        return None
    return float(job.get("expiration", 0.0))


def _of_instance(handle: Flux) -> float:
    status = handle.rpc("resource.status", nodeid=0).get()
    return float(status["R"]["execution"].get("expiration", 0.0))
