"""Modules that are loaded again while jobs wait and run: nothing is lost, and nothing is given twice."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import until

import flux
import flux.job
import flux.kvs
from flux.core import fluid
from flux.idset import IDset
from flux.job import JobspecV1
from flux.resource import resource_list
from fluxlet.testing import Instance

CONFIG = {"fake-resources": {"nnodes": 1, "cores-per-node": 4}, "exec": {"kill-timeout": "0.2s"}}

ONCE = ("submit", "validate", "depend", "alloc", "start", "finish", "release", "free", "clean")

SCHEDULER = """
import heapq

from flux.scheduler import InsufficientResources, Scheduler


class InOrder(Scheduler):
    def schedule(self):
        while self.queue:
            try:
                R = self.resources.alloc(self.queue[0].jobid, self.queue[0].resource_request)
            except InsufficientResources:
                return
            heapq.heappop(self.queue).request.success(R)
"""


@pytest.fixture
def handle() -> Iterator[flux.Flux]:
    with Instance(config=CONFIG) as instance, instance.handle() as opened:
        yield opened


def reload(handle: flux.Flux, name: str, path: str | None = None) -> None:
    handle.rpc("module.remove", {"name": name}).get()
    handle.rpc("module.load", {"path": path or name, "args": []}).get()


def submit(handle: flux.Flux, run: str | None = None, command: str = "true", **options: Any) -> int:
    """Submits a command, or, with a duration, what is only said to run."""
    urgency, waitable = options.pop("urgency", 16), options.pop("waitable", False)
    dependencies = options.pop("dependencies", [])
    jobspec = JobspecV1.from_command(["sh", "-c", command], **options)
    if run is not None:
        jobspec.setattr("system.exec.test", {"run_duration": run})
    if dependencies:
        jobspec.setattr("system.dependencies", dependencies)
    return int(flux.job.submit(handle, jobspec, urgency=urgency, waitable=waitable))


def wait(handle: flux.Flux, jobid: int, event: str = "clean") -> Any:
    return flux.job.event_wait(handle, jobid, event, raiseJobException=False)


def log(handle: flux.Flux, jobid: int) -> list[str]:
    return [event.name for event in flux.job.event_watch(handle, jobid)]


def held(handle: flux.Flux) -> str:
    return str(resource_list(handle).get().allocated.rlist)


def cores(r: dict[str, Any]) -> set[tuple[int, int]]:
    return {
        (rank, core)
        for group in r["execution"]["R_lite"]
        for rank in IDset(group["rank"])
        for core in IDset(group["children"]["core"])
    }


def check(handle: flux.Flux, jobs: list[int]) -> None:
    """Every job has ended, having had everything once; no core had two jobs at a time; none is held."""
    spans: list[tuple[float, float, set[tuple[int, int]]]] = []
    for jobid in jobs:
        events = list(flux.job.event_watch(handle, jobid))
        count = Counter(event.name for event in events)
        assert {name: count[name] for name in ONCE} == dict.fromkeys(ONCE, 1), [event.name for event in events]
        times = {event.name: event.timestamp for event in events}
        r = flux.kvs.get(handle, f"{fluid.kvs(jobid)}.R")
        spans.append((times["alloc"], times["free"], cores(r)))
    for number, (begin, end, mine) in enumerate(spans):
        for other_begin, other_end, theirs in spans[:number]:
            assert end <= other_begin or other_end <= begin or mine.isdisjoint(theirs)
    until(lambda: held(handle) == "")
    assert handle.rpc("job-manager.resource-status").get()["allocated"]["execution"]["R_lite"] == []


@pytest.fixture(params=["sched-simple", "sched-fifo", "sched-backfill", "own"])
def scheduler(request: pytest.FixtureRequest, handle: flux.Flux, tmp_path: Path) -> str:
    """Every scheduler there is, and one that somebody has written."""
    name: str = request.param
    if name != "sched-simple":
        handle.rpc("module.remove", {"name": "sched-simple"}).get()
        path = name
        if name == "own":
            path = str(tmp_path / "own.py")
            Path(path).write_text(SCHEDULER)
        handle.rpc("module.load", {"path": path, "args": []}).get()
    return name


@pytest.mark.usefixtures("scheduler")
def test_jobs_go_on_with_another_job_manager(handle: flux.Flux) -> None:
    running = submit(handle, "100s", num_tasks=3)
    wait(handle, running, "start")
    waiting = submit(handle, "0.01s", num_tasks=2)
    small = submit(handle, "0.01s")
    dependent = submit(handle, "0.01s", dependencies=[{"scheme": "afterok", "value": str(waiting)}])
    on_hold = submit(handle, "0.01s", urgency=0)
    wait(handle, waiting, "priority")
    for _ in range(3):
        reload(handle, "job-manager")
        until(lambda: handle.rpc("job-manager.queue-status", {}).get()["start"])
        handle.rpc("job-manager.urgency", {"id": on_hold, "urgency": 0}).get()
    assert held(handle) == "rank0/core[0-2]"
    handle.rpc("job-manager.urgency", {"id": on_hold, "urgency": 31}).get()
    flux.job.cancel(handle, running)
    check(handle, [running, waiting, small, dependent, on_hold])
    assert flux.job.result(handle, running).result == "CANCELED"
    check(handle, [submit(handle, "0.01s", num_tasks=4)])


def test_what_ends_while_there_is_no_job_manager_has_ended(handle: flux.Flux) -> None:
    jobs = [
        submit(
            handle, command="until [ -e $D/go ]; do sleep 0.01; done; exit 3".replace("$D", handle.attr_get("rundir"))
        ),
        submit(handle, command="until [ -e $D/go ]; do sleep 0.01; done".replace("$D", handle.attr_get("rundir"))),
        submit(handle, command="sleep 100", duration=0.4),
        submit(handle, command="sleep 100", waitable=True),
    ]
    for jobid in jobs:
        wait(handle, jobid, "start")
    handle.rpc("module.remove", {"name": "job-manager"}).get()
    Path(handle.attr_get("rundir"), "go").touch()

    def left() -> set[str]:
        found = handle.rpc("job-exec.stats-get").get()["jobs"]
        return {str(jobid) for jobid in jobs} & found.keys()

    until(lambda: left() == {str(jobs[3])})
    handle.rpc("module.load", {"path": "job-manager", "args": []}).get()
    for jobid in jobs[:3]:
        wait(handle, jobid)
    flux.job.cancel(handle, jobs[3])
    assert flux.job.wait(handle, jobs[3]).success is False
    check(handle, jobs)
    results = [flux.job.result(handle, jobid) for jobid in jobs]
    assert [(info.result, info.returncode) for info in results] == [
        ("FAILED", 3),
        ("COMPLETED", 0),
        ("TIMEOUT", 142),
        ("CANCELED", 143),
    ]


def test_a_job_that_is_being_ended_keeps_its_resources_until_it_has(handle: flux.Flux) -> None:
    rundir = handle.attr_get("rundir")
    stubborn = submit(handle, command=f"trap '' TERM; touch {rundir}/there; sleep 100", num_tasks=4)
    until(lambda: Path(rundir, "there").exists())
    flux.job.cancel(handle, stubborn)
    next_one = submit(handle, "0.01s", num_tasks=4)
    reload(handle, "job-manager")
    check(handle, [stubborn, next_one])
    assert "reattached" not in log(handle, stubborn)


def test_reloads_under_load(handle: flux.Flux) -> None:
    jobs: list[int] = []
    names = ("job-manager", "sched-simple", "job-manager", "job-list", "job-info", "resource", "job-manager")
    for number, name in enumerate((*names, *names)):
        jobs += [submit(handle, "0.01s" if which % 3 else None, num_tasks=1 + which % 2) for which in range(12)]
        if number % 2:
            wait(handle, jobs[-6], "alloc")
        reload(handle, name)
    check(handle, jobs)
    listed = handle.rpc("job-list.list", {"max_entries": 0, "attrs": ["state"]}).get()["jobs"]
    assert sorted(job["id"] for job in listed) == sorted(jobs)
    assert {job["state"] for job in listed} == {64}


def test_job_ingest_is_loaded_again(handle: flux.Flux) -> None:
    first = submit(handle, "0.01s")
    futures = [flux.job.submit_async(handle, JobspecV1.from_command(["true"])) for _ in range(20)]
    reload(handle, "job-ingest")
    jobs = [first, submit(handle, "0.01s")]
    for future in futures:
        # Those that were not answered before have failed.
        with contextlib.suppress(OSError):
            jobs.append(int(future.get_id()))
    assert len(set(jobs)) == len(jobs)
    assert jobs[1] > first
    check(handle, jobs)


def test_job_exec_is_loaded_again(handle: flux.Flux) -> None:
    """What it has run is lost, and the jobs say so; those that wait are run by the next one."""
    running, pretended = submit(handle, command="sleep 100"), submit(handle, "100s")
    for jobid in (running, pretended):
        wait(handle, jobid, "start")
    waiting = submit(handle, "0.01s", num_tasks=4)
    reload(handle, "job-exec")
    assert wait(handle, running, "exception").context["type"] == "exec"
    wait(handle, running)
    flux.job.cancel(handle, pretended)
    wait(handle, pretended)
    check(handle, [running, waiting])


def test_listing_goes_on(handle: flux.Flux) -> None:
    jobid = submit(handle, "100s")
    wait(handle, jobid, "start")

    def listed() -> list[tuple[int, int]]:
        jobs = handle.rpc("job-list.list", {"max_entries": 0, "attrs": ["state"]}).get()["jobs"]
        return [(job["id"], job["state"]) for job in jobs]

    until(lambda: listed() == [(jobid, 16)])
    handle.rpc("module.remove", {"name": "job-manager"}).get()
    assert listed() == [(jobid, 16)]
    handle.rpc("module.load", {"path": "job-manager", "args": []}).get()
    other = submit(handle, "0.01s")
    wait(handle, other)
    until(lambda: sorted(listed()) == sorted([(jobid, 16), (other, 64)]))
    flux.job.cancel(handle, jobid)
    wait(handle, jobid)
    until(lambda: sorted(listed()) == sorted([(jobid, 64), (other, 64)]))
    stats = handle.rpc("job-list.job-stats").get()
    assert (stats["successful"], stats["canceled"]) == (1, 1)


@pytest.mark.parametrize("present", [True, False])
def test_nothing_is_left_of_what_is_submitted_in_between(handle: flux.Flux, present: bool) -> None:
    """Submissions that come while a job manager leaves, or when there is none, are refused, and can be made again."""
    removal = handle.rpc("module.remove", {"name": "job-manager"})
    if not present:
        removal.get()
    refused = 0
    futures = [flux.job.submit_async(handle, JobspecV1.from_command(["true"])) for _ in range(50)]
    jobs: list[int] = []
    for future in futures:
        try:
            jobs.append(int(future.get_id()))
        except OSError:
            refused += 1
    removal.get()
    assert present or refused == 50
    handle.rpc("module.load", {"path": "job-manager", "args": []}).get()
    jobs.append(submit(handle, "0.01s"))
    check(handle, jobs)
    known = handle.rpc("job-list.list", {"max_entries": 0, "attrs": []}).get()["jobs"]
    assert sorted(job["id"] for job in known) == sorted(jobs)
    assert not flux.kvs.exists(handle, "job-lost+found")


def test_waiters_hear_that_the_job_manager_leaves(handle: flux.Flux) -> None:
    jobid = submit(handle, "100s", waitable=True)
    wait(handle, jobid, "start")
    waits: list[Callable[[], Any]] = [
        handle.rpc("job-manager.wait", {"id": jobid}).get,
        handle.rpc("job-manager.drain").get,
        handle.rpc("job-manager.idle").get,
    ]
    handle.rpc("job-manager.getinfo").get()
    handle.rpc("module.remove", {"name": "job-manager"}).get()
    for waiting in waits:
        with pytest.raises(OSError, match="job-manager is unloading"):
            waiting()
