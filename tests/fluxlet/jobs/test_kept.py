"""What job-exec has the job manager store for it, with the events of jobs."""

from __future__ import annotations

import base64
from collections.abc import Callable

from in_process import BrokerThread

import flux
import flux.kvs
from flux.core import fluid
from flux.job import JobspecV1

RESOURCES = {"resource": {"noverify": True, "config": [{"hosts": "node0", "cores": "0-3"}]}}


def _simulated(seconds: float) -> JobspecV1:
    jobspec = JobspecV1.from_command(["true"])
    jobspec.setattr("system.exec.test.run_duration", f"{seconds}s")
    return jobspec


def test_what_cannot_be_stored_of_one_job_is_not_the_end_of_the_others(
    start_broker: Callable[..., BrokerThread],
) -> None:
    broker = start_broker({"hostname": "node0", "hostlist": "node0"}, RESOURCES)
    with broker.open() as handle:
        flux.kvs.namespace_create(handle, "elsewhere")
        jobspec = _simulated(0.001)
        jobspec.setattr("system.exec.test.override", 1)
        jobs = [flux.job.submit(handle, jobspec, waitable=True) for _ in range(2)]
        for jobid in jobs:
            flux.job.event_wait(handle, jobid, "alloc")
        # Nobody can write there: what the first job leaves has no place.
        key = f"{fluid.kvs(jobs[0])}.guest"
        link = {"ver": 1, "type": "symlink", "data": {"target": ".", "namespace": "elsewhere"}}
        operation = {"key": key, "flags": 0, "dirent": link}
        handle.rpc("kvs.commit", {"namespace": "primary", "flags": 0, "ops": [operation]}).get()
        # They begin and end at once: nothing of them is written before.
        asked = [{"jobid": jobid, "event": event} for event in ("start", "finish") for jobid in jobs]
        for future in [handle.rpc("job-exec.override", payload) for payload in asked]:
            future.get()
        for jobid in jobs:
            assert flux.job.wait(handle, jobid).success
            log = handle.rpc("job-info.lookup", {"id": jobid, "keys": ["eventlog"], "flags": 0}).get()["eventlog"]
            assert '"clean"' in log
        assert flux.job.wait(handle, flux.job.submit(handle, _simulated(0.001), waitable=True)).success
        raw = {"namespace": "primary", "flags": 0}
        log = handle.rpc("kvs.lookup", {**raw, "key": f"{fluid.kvs(jobs[1])}.guest.exec.eventlog"}).get()["val"]["data"]
        assert b'"done"' in base64.b64decode(log)
