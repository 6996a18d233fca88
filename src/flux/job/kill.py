"""Signals to jobs, exceptions on them, and canceling (spec 06, 15.3 and 7.2)."""

from __future__ import annotations

import signal
from typing import Any

from flux.core.handle import Flux
from flux.future import Future
from flux.job._requests import core_of, request, wire_id

__all__ = ["cancel", "cancel_async", "job_raise", "job_raise_async", "kill", "kill_async"]


def kill_async(flux_handle: Flux, jobid: Any, signum: int | None = None) -> Future:
    """Sends a signal to all tasks of a running job; does not wait. `signum` None or 0: SIGTERM."""
    payload = {"id": wire_id(jobid), "signum": int(signum or signal.SIGTERM)}
    return Future(request(core_of(flux_handle), b"job-manager.kill", payload))


def kill(flux_handle: Flux, jobid: Any, signum: int | None = None) -> None:
    """Sends a signal to all tasks of a running job.

    That it was sent does not mean that it was received: a job shell that has not yet started misses it.

    Raises OSError(EINVAL) for a job that is not running, a job that there is not, and what is no signal;
    PermissionError for a job of somebody else.
    """
    kill_async(flux_handle, jobid, signum).get()


def job_raise_async(flux_handle: Flux, jobid: Any, exc_type: str, severity: int = 0, note: str | None = None) -> Future:
    """Raises an exception on a job; does not wait. See `job_raise`."""
    payload: dict[str, Any] = {"id": wire_id(jobid), "severity": severity, "type": exc_type}
    if note is not None:
        payload["note"] = note
    return Future(request(core_of(flux_handle), b"job-manager.raise", payload))


def job_raise(flux_handle: Flux, jobid: Any, exc_type: str, severity: int = 0, note: str | None = None) -> None:
    """Raises an exception on a job.

    Args:
        exc_type: a word.
        severity: 0, which ends the job, to 7.
        note: a sentence.

    Raises FileNotFoundError for a job that there is not, or not any more; PermissionError for one of somebody else.
    """
    job_raise_async(flux_handle, jobid, exc_type, severity, note).get()


def cancel_async(flux_handle: Flux, jobid: Any, reason: str | None = None) -> Future:
    """Cancels a job; does not wait. See `cancel`."""
    return job_raise_async(flux_handle, jobid, "cancel", 0, reason or None)


def cancel(flux_handle: Flux, jobid: Any, reason: str | None = None) -> None:
    """Cancels a job: one that waits does not start, one that runs is ended. `reason` is for people.

    Raises what `job_raise` does. When it returns, the job is about to end; `result` waits for that.
    """
    cancel_async(flux_handle, jobid, reason).get()
