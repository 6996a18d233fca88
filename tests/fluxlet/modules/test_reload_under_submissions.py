"""A module is loaded again under submissions and jobs: each job that was answered is there once, and whole."""

from __future__ import annotations

import pytest
from in_process import BrokerThread
from whole_jobs import PATIENCE, ask, followed, lookup, submitted, told

import flux
import flux.kvs
from flux.core.fluid import kvs

#: What happens to a job no more than once, whoever takes care of it.
ONCE = ("submit", "alloc", "start", "finish", "release", "free", "clean")


@pytest.mark.parametrize("name", ["job-manager", "job-exec", "sched-simple", "job-ingest", "kvs-watch"])
def test_a_module_is_loaded_again(handle: flux.Flux, broker_thread: BrokerThread, name: str) -> None:
    with broker_thread.open() as other:
        futures = submitted(handle, 50, "echo", "hello")
        removed = other.rpc("module.remove", {"name": name})
        futures += submitted(handle, 25, "echo", "hello")
        removed.wait_for(PATIENCE).get()
        loaded = other.rpc("module.load", {"path": name, "args": []})
        futures += submitted(handle, 25, "echo", "hello")
        loaded.wait_for(PATIENCE).get()
    jobs = []
    for future in futures:
        try:
            jobs.append(future.wait_for(PATIENCE).get_id())
        except TimeoutError:
            raise
        except OSError:
            continue  # there was nobody to take it
    for jobid in jobs:
        log = told(followed(handle, jobid, "eventlog"), "clean")
        assert max(log.count(event) for event in ONCE) == 1, log
        if "exception" not in log:
            assert lookup(handle, f"{kvs(jobid)}.guest.output").count("hello") == 1
    stored = [
        d
        for a in flux.kvs.get_dir(handle, "job")
        for b in flux.kvs.get_dir(handle, f"job.{a}")
        for c in flux.kvs.get_dir(handle, f"job.{a}.{b}")
        for d in flux.kvs.get_dir(handle, f"job.{a}.{b}.{c}")
    ]
    assert len(stored) == len(jobs)
    assert [space["namespace"] for space in ask(handle, "kvs.namespace-list")["namespaces"]] == ["primary"]
