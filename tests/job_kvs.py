"""Fills the KVS as jobs do, for tests of what reads it."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import flux
import flux.job
import flux.kvs
from flux.constants import FLUX_KVS_APPEND


def key(jobid: int, path: str) -> str:
    return f"{flux.job.JobID(jobid).kvs}.{path}"


def append(h: flux.Flux, where: str, *events: Any, namespace: str | None = None) -> None:
    """Appends events to an eventlog, in one commit."""
    txn = flux.kvs.KVSTxn(h, namespace=namespace)
    for event in events:
        line = event if isinstance(event, str) else json.dumps(event) + "\n"
        txn.txn.put(where, line.encode(), FLUX_KVS_APPEND)
    flux.kvs.commit(h, _kvstxn=txn, namespace=namespace)


def event(name: str, **context: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {"timestamp": 1.0, "name": name}
    return {**entry, "context": context} if context else entry


SUBMIT = event("submit", userid=0, urgency=16, flags=0, version=1)


def happen(h: flux.Flux, jobid: int, *events: Any) -> None:
    append(h, key(jobid, "eventlog"), *events)


def start(h: flux.Flux, jobid: int) -> None:
    """Its guest namespace, and the event that says so."""
    flux.kvs.namespace_create(h, f"job-{jobid}")
    link = flux.kvs.KVSTxn(h)
    link.txn.symlink(key(jobid, "guest"), f"job-{jobid}", ".")
    flux.kvs.commit(h, _kvstxn=link)
    happen(h, jobid, event("start"))


def write(h: flux.Flux, jobid: int, path: str, *events: Any) -> None:
    append(h, path, *events, namespace=f"job-{jobid}")


def finish(h: flux.Flux, jobid: int) -> None:
    """The namespace becomes a directory of the job."""
    values = {}
    for name in ("output", "exec.eventlog"):
        if flux.kvs.exists(h, name, namespace=f"job-{jobid}"):
            found = h.rpc("kvs.lookup", {"key": name, "namespace": f"job-{jobid}", "flags": 0}).get()
            values[name] = b64decode(found["val"]["data"]).decode()
    flux.kvs.put_unlink(h, key(jobid, "guest"))
    flux.kvs.put_mkdir(h, key(jobid, "guest"))
    flux.kvs.commit(h)
    for name, value in values.items():
        append(h, key(jobid, f"guest.{name}"), value)
    flux.kvs.namespace_remove(h, f"job-{jobid}")
    happen(h, jobid, event("finish", status=0), event("release", ranks="all", final=True), event("free"))
