"""The KVS directory of a job (spec 06, section 6 and 15.5)."""

from __future__ import annotations

from typing import Any

from flux.core.handle import Flux
from flux.job.JobID import JobID
from flux.kvs import KVSDir

__all__ = ["job_kvs", "job_kvs_guest"]


def job_kvs(flux_handle: Flux, jobid: Any) -> KVSDir:
    """The directory of a job. Raises FileNotFoundError for a job that there is not."""
    return KVSDir(flux_handle, JobID(jobid).kvs + ".")


def job_kvs_guest(flux_handle: Flux, jobid: Any) -> KVSDir:
    """The directory of a job that is its own, for whatever it wants to keep there.

    Raises FileNotFoundError for a job that there is not, or that has not started yet.
    """
    return KVSDir(flux_handle, f"{JobID(jobid).kvs}.guest.")
