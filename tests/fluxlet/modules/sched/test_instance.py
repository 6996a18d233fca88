"""Schedulers in a whole instance: with the job manager, and jobs that are only pretended to run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from in_process import until

import flux
import flux.job
import flux.kvs
from flux.core import fluid
from flux.job import JobspecV1
from flux.resource import ResourceSet, resource_list, resource_status
from fluxlet.testing import Instance

CONFIG = {"fake-resources": {"nnodes": 4, "cores-per-node": 2}}


@pytest.fixture
def handle() -> Iterator[flux.Flux]:
    with Instance(config=CONFIG) as instance, instance.handle() as opened:
        yield opened


def submit(handle: flux.Flux, run: str, duration: float = 0.0, **options: Any) -> int:
    jobspec = JobspecV1.from_command(["true"], duration=duration, **options)
    jobspec.setattr("system.exec.test", {"run_duration": run})
    return int(flux.job.submit(handle, jobspec))


def wait(handle: flux.Flux, jobid: int, event: str) -> Any:
    return flux.job.event_wait(handle, jobid, event, raiseJobException=False)


def held(handle: flux.Flux) -> str:
    return str(resource_list(handle).get().allocated.rlist)


def test_who_runs_on_a_drained_node_may_end(handle: flux.Flux) -> None:
    jobid = submit(handle, "100s", num_tasks=2, cores_per_task=1)
    wait(handle, jobid, "start")
    assert held(handle) == "rank0/core[0-1]"
    handle.rpc("resource.drain", {"targets": "0", "reason": "x"}).get()
    status = resource_status(handle).get()
    assert (str(status.draining), str(status.drained)) == ("0", "")
    flux.job.cancel(handle, jobid)
    wait(handle, jobid, "clean")
    until(lambda: str(resource_status(handle).get().drained) == "0")
    late = submit(handle, "0.01s", num_tasks=2)
    wait(handle, late, "clean")
    r = flux.kvs.get(handle, f"{fluid.kvs(late)}.R")
    assert str(ResourceSet(r).ranks) == "1"


def test_another_scheduler_goes_on_with_what_there_is(handle: flux.Flux) -> None:
    running = submit(handle, "100s", num_tasks=7)
    wait(handle, running, "start")
    waiting = submit(handle, "0.01s", num_tasks=2)
    wait(handle, waiting, "priority")
    handle.rpc("module.remove", {"name": "sched-simple"}).get()
    small = submit(handle, "0.01s")
    handle.rpc("module.load", {"path": "sched-backfill", "args": []}).get()
    # Nobody knows when the first in line can start, and it may start anywhere: nobody goes ahead.
    until(lambda: handle.rpc("sched-backfill.stats-get").get()["pending_jobs"] == 2)
    assert len(ResourceSet(handle.rpc("sched.resource-status").get()["allocated"]).rlist) > 0
    assert ResourceSet(handle.rpc("sched.resource-status").get()["allocated"]).ncores == 7
    flux.job.cancel(handle, running)
    for jobid in (running, waiting, small):
        wait(handle, jobid, "clean")
    until(lambda: held(handle) == "")
    assert ResourceSet(handle.rpc("sched.resource-status").get()["allocated"]).ncores == 0


def test_resources_that_are_loaded_again(handle: flux.Flux) -> None:
    running = submit(handle, "100s", num_tasks=7)
    wait(handle, running, "start")
    waiting = submit(handle, "0.01s", num_tasks=2)
    wait(handle, waiting, "priority")
    handle.rpc("module.remove", {"name": "resource"}).get()
    small = submit(handle, "0.01s")
    handle.rpc("module.load", {"path": "resource", "args": []}).get()
    handle.rpc("resource.drain", {"targets": "3"}).get()
    until(lambda: ResourceSet(handle.rpc("sched.resource-status").get()["down"]).nnodes == 1)
    assert ResourceSet(handle.rpc("sched.resource-status").get()["allocated"]).ncores == 7
    flux.job.cancel(handle, running)
    for jobid in (running, waiting, small):
        wait(handle, jobid, "clean")
    until(lambda: held(handle) == "")


@pytest.mark.parametrize("scheduler", ["sched-simple", "sched-backfill"])
def test_no_core_has_two_jobs_at_a_time(handle: flux.Flux, scheduler: str) -> None:
    if scheduler != "sched-simple":
        handle.rpc("module.remove", {"name": "sched-simple"}).get()
        handle.rpc("module.load", {"path": scheduler, "args": []}).get()
    shapes = [{"num_tasks": 1}, {"num_tasks": 3}, {"num_tasks": 2, "num_nodes": 2, "exclusive": True}]
    jobs = [submit(handle, "0.002s", duration=60.0, **shapes[number % 3]) for number in range(60)]
    spans: list[tuple[float, float, set[tuple[int, int]]]] = []
    for jobid in jobs:
        events = {event.name: event.timestamp for event in flux.job.event_watch(handle, jobid)}
        r = flux.kvs.get(handle, f"{fluid.kvs(jobid)}.R")
        spans.append((events["alloc"], events["free"], cores(r)))
    for number, (begin, end, mine) in enumerate(spans):
        for other_begin, other_end, theirs in spans[:number]:
            assert end <= other_begin or other_end <= begin or mine.isdisjoint(theirs)
    until(lambda: held(handle) == "")


def cores(r: dict[str, Any]) -> set[tuple[int, int]]:
    """(rank, core) of all that is in R."""
    return {
        (rank, core)
        for group in r["execution"]["R_lite"]
        for rank in flux.idset.IDset(group["rank"])
        for core in flux.idset.IDset(group["children"]["core"])
    }


def test_a_job_that_can_never_run_is_told_so(handle: flux.Flux) -> None:
    jobid = submit(handle, "0.01s", num_tasks=9)
    exception = wait(handle, jobid, "exception")
    assert exception.context["type"] in ("alloc", "feasibility")
    assert "need 9 slot(s) of 1 core(s), only 8" in json.dumps(exception.context)
