"""Jobs that are submitted and waited for, and all that is to be seen of them when they have ended."""

from __future__ import annotations

from base64 import b64decode
from collections import Counter
from typing import Any

import msgspec

import flux
import flux.job
import flux.kvs
from flux.constants import FLUX_RPC_STREAMING
from flux.core.fluid import kvs
from flux.job import JobspecV1

PATIENCE = 60.0
ONCE = ("submit", "validate", "depend", "priority", "alloc", "start", "finish", "release", "free", "clean")


def submitted(handle: flux.Flux, count: int = 1, *command: str) -> list[Any]:
    jobspec = JobspecV1.from_command(list(command or ("true",)))
    jobspec.cwd = "/"
    return [flux.job.submit_async(handle, jobspec, waitable=True) for _ in range(count)]


def ask(handle: flux.Flux, topic: str, **payload: Any) -> Any:
    return handle.rpc(topic, payload).wait_for(PATIENCE).get()


def wait(handle: flux.Flux, jobid: int) -> Any:
    return flux.job.wait_async(handle, jobid).wait_for(PATIENCE).get_status()


def names(log: str) -> list[str]:
    return [msgspec.json.decode(line)["name"] for line in log.splitlines()]


def lookup(handle: flux.Flux, key: str, namespace: str = "primary") -> str:
    """A value, or an error with its number."""
    val = ask(handle, "kvs.lookup", key=key, namespace=namespace, flags=0)["val"]
    assert val["type"] == "val"
    return b64decode(val["data"]).decode()


def check_whole(handle: flux.Flux, jobid: int, output: str | None = None) -> None:
    """All that there is to be seen of a job that has ended, by whichever way somebody looks first."""
    path = kvs(jobid)
    log = names(lookup(handle, f"{path}.eventlog"))
    assert [log.count(name) for name in ONCE] == [1] * len(ONCE), log
    assert log[-1] == "clean"
    for key in ("R", "J", "jobspec"):
        assert lookup(handle, f"{path}.{key}")
    guest = names(lookup(handle, f"{path}.guest.exec.eventlog"))
    assert Counter(guest)["done"] == 1, guest
    assert guest[-1] == "done"
    looked = ask(handle, "job-info.lookup", id=jobid, keys=["eventlog", "guest.exec.eventlog", "R"], flags=0)
    assert names(looked["eventlog"]) == log
    assert names(looked["guest.exec.eventlog"]) == guest
    if output is not None:
        assert output in lookup(handle, f"{path}.guest.output")
    assert set(flux.kvs.get_dir(handle, path)) >= {"eventlog", "R", "J", "jobspec", "guest"}
    assert "exec" in set(flux.kvs.get_dir(handle, f"{path}.guest"))


def followed(handle: flux.Flux, jobid: int, path: str) -> Any:
    return handle.rpc("job-info.eventlog-watch", {"id": jobid, "path": path, "flags": 0}, flags=FLUX_RPC_STREAMING)


def told(stream: Any, last: str) -> list[str]:
    """The events that a watch has told of, up to one."""
    found: list[str] = []
    while last not in found:
        found += names(stream.wait_for(PATIENCE).get()["event"])
        stream.reset()
    return found
