"""What tests of the job manager ask of it."""

from __future__ import annotations

import base64
from typing import Any

import flux
from flux.job import JobID

#: The events of a job that nothing happens to.
WHOLE = ["submit", "validate", "depend", "priority", "alloc", "start", "finish", "release", "free", "clean"]


def events(handle: flux.Flux, jobid: int) -> list[dict[str, Any]]:
    """A job's eventlog, as the job manager has it."""
    answer = handle.rpc("job-manager.getattr", {"id": jobid, "attrs": ["eventlog"]}).get()
    log: list[dict[str, Any]] = answer["eventlog"]
    return log


def names(handle: flux.Flux, jobid: int) -> list[str]:
    """The names of a job's events."""
    return [event["name"] for event in events(handle, jobid)]


def lookup(handle: flux.Flux, key: str) -> str:
    """A value in the KVS."""
    answer = handle.rpc("kvs.lookup", {"key": key, "flags": 0, "namespace": "primary"}).get()
    return base64.b64decode(answer["val"]["data"]).decode()


def stored(handle: flux.Flux, jobid: JobID) -> list[str]:
    """The lines of a job's eventlog in the KVS."""
    text = lookup(handle, f"{jobid.kvs}.eventlog")
    assert text.endswith("\n")
    return text.splitlines()


def wait(handle: flux.Flux, jobid: int) -> dict[str, Any]:
    """Waits for a job."""
    answer: dict[str, Any] = handle.rpc("job-manager.wait", {"id": jobid}).get()
    return answer
