"""What was answered of jobs is there, on all ranks and after the broker; what cannot be stored is an error."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_process import BrokerThread
from waiting import wait_until
from whole_jobs import PATIENCE, ask, check_whole, followed, lookup, names, submitted, told, wait

import flux
import flux.job
import flux.kvs
from flux.core.fluid import f58, kvs
from flux.job import JobspecV1
from fluxlet.modules.job_exec import guests
from fluxlet.modules.job_manager import batch
from fluxlet.testing import Instance


@pytest.fixture
def lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "LAZY", 3600.0)
    monkeypatch.setattr(guests, "_LAZY", 3600.0)


# What goes wrong.


def goes_on_alone(broker: BrokerThread, name: str) -> None:
    """A module that fails is not the end of the broker."""
    broker.call(lambda: setattr(broker.broker, "on_failure", lambda module: None))


def number_of(future: Any) -> int:
    """How an answer that has to come ends: 0, or the number of its error."""
    try:
        future.wait_for(PATIENCE).get()
    except TimeoutError:
        raise
    except OSError as exc:
        return exc.errno or errno.EIO
    return 0


def gone(handle: flux.Flux, name: str) -> bool:
    return name not in [module["name"] for module in ask(handle, "module.list")["mods"]]


@pytest.mark.parametrize("name", ["content", "kvs"])
def test_when_nothing_can_be_stored_any_more_nobody_is_left_waiting(
    monkeypatch: pytest.MonkeyPatch, broker_thread: BrokerThread, handle: flux.Flux, name: str
) -> None:
    # Kept back while the module goes, and tried after that even if nobody asks for it.
    monkeypatch.setattr(batch, "LAZY", 1.0)
    monkeypatch.setattr(guests, "_LAZY", 1.0)
    goes_on_alone(broker_thread, "job-manager")
    jobs = [future.get_id() for future in submitted(handle, 5)]
    running = submitted(handle, 1, "sleep", "3600")[0].get_id()
    for jobid in jobs:
        wait(handle, jobid)
    waiter = flux.job.wait_async(handle, running)
    with broker_thread.open() as another:
        remove = another.rpc("module.remove", {"name": name, "force": True})
        futures = submitted(handle, 20)
        looks = [another.rpc("kvs.lookup", {"key": kvs(job), "namespace": "primary", "flags": 1}) for job in jobs]
        remove.wait_for(PATIENCE).get()
        futures += submitted(handle, 20)
        looks += [another.rpc("kvs.lookup", {"key": kvs(job), "namespace": "primary", "flags": 1}) for job in jobs]
        # What is kept back may be answered, and is gone with the instance as all else is.
        assert {number_of(future) for future in futures} <= {0, errno.ENOSYS, errno.EHOSTUNREACH}
        for look in looks:
            assert number_of(look) in (0, errno.ENOENT, errno.ENOSYS, errno.EHOSTUNREACH)
        # If there was nothing left to be stored, there is now.
        canceled = flux.job.cancel_async(another, running)
        assert number_of(canceled) in (0, errno.ENOSYS, errno.EHOSTUNREACH)
        assert number_of(waiter) in (0, errno.ENOSYS, errno.EHOSTUNREACH)
        wait_until(lambda: gone(another, "job-manager"), "the end of the job manager")


def test_a_disk_that_is_full_is_an_error_for_all_who_wait(
    start_broker: Callable[..., BrokerThread], tmp_path: Path
) -> None:
    broker = start_broker({"statedir": str(tmp_path), "statedir-cleanup": "0"})
    goes_on_alone(broker, "job-manager")

    def pragma(text: str) -> None:
        database = broker.broker.modules["content-sqlite"].instance._database  # type: ignore[union-attr]
        broker.call(lambda: database.connection.execute(f"PRAGMA {text}").fetchall())

    with broker.open() as handle:
        jobs = [future.get_id() for future in submitted(handle, 5)]
        for jobid in jobs:
            wait(handle, jobid)
        pragma("max_page_count = 1")
        futures = submitted(handle, 20, "true", os.urandom(50_000).hex())  # more than there may be in pages to spare
        looks = [handle.rpc("kvs.lookup", {"key": kvs(job), "namespace": "primary", "flags": 1}) for job in jobs]
        for future in futures:
            assert number_of(future) in (errno.ENOSYS, errno.EHOSTUNREACH)
        for look in looks:
            look.wait_for(PATIENCE).get()
        wait_until(lambda: gone(handle, "job-manager"), "the end of the job manager")
        pragma("max_page_count = 1000000")
        ask(handle, "module.load", path="job-manager", args=[])
        more = submitted(handle)[0].wait_for(PATIENCE).get_id()
        wait(handle, more)
        for jobid in (*jobs, more):
            check_whole(handle, jobid)


def test_nothing_is_left_of_jobs_that_are_refused_among_others(handle: flux.Flux) -> None:
    good, bad = JobspecV1.from_command(["true"]), []
    for attribute, value in (
        ("system.queue", "nowhere"),
        ("system.dependencies", [{"scheme": "unheard-of", "value": "1"}]),
        ("system.dependencies", [{"scheme": "afterok", "value": "ƒ1"}]),
    ):
        jobspec = JobspecV1.from_command(["true"])
        jobspec.setattr(attribute, value)
        bad.append(jobspec)
    futures = [
        (jobspec is good, flux.job.submit_async(handle, jobspec, waitable=True))
        for _ in range(20)
        for jobspec in (good, bad[0], good, bad[1], bad[2], "{}", good)
    ]
    jobs = []
    for fine, future in futures:
        if fine:
            jobs.append(future.wait_for(PATIENCE).get_id())
        else:
            assert number_of(future) in (errno.EINVAL, errno.EPERM)
    for jobid in jobs:
        assert wait(handle, jobid).success
        check_whole(handle, jobid)
    stored = [
        int(a + b + c + d, 16)
        for a in flux.kvs.get_dir(handle, "job")
        for b in flux.kvs.get_dir(handle, f"job.{a}")
        for c in flux.kvs.get_dir(handle, f"job.{a}.{b}")
        for d in flux.kvs.get_dir(handle, f"job.{a}.{b}.{c}")
    ]
    assert sorted(stored) == sorted(int(jobid) for jobid in jobs)


# Other ranks, and what lasts.


@pytest.fixture(scope="module")
def three_ranks() -> Any:
    with Instance(size=3) as instance:
        yield instance


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_who_has_waited_for_a_job_sees_all_of_it_on_every_rank(three_ranks: Instance, rank: int) -> None:
    with three_ranks.handle(rank) as handle:
        for future in submitted(handle, 10, "echo", "hello"):
            jobid = future.get_id()
            wait(handle, jobid)
            check_whole(handle, jobid, "hello")


def test_the_tasks_of_a_job_find_its_resources_on_every_rank(three_ranks: Instance) -> None:
    with three_ranks.handle() as handle:
        command = "flux kvs get --namespace=primary $(flux job id --to=kvs $FLUX_JOB_ID).R"
        jobspec = JobspecV1.from_command(["sh", "-c", command], num_tasks=3, num_nodes=3)
        jobspec.environment = three_ranks.environ
        jobid = flux.job.submit(handle, jobspec, waitable=True)
        assert wait(handle, jobid).success, lookup(handle, f"{kvs(jobid)}.guest.output")


@pytest.mark.parametrize("how", ["killed", "stopped"])
def test_what_was_answered_survives_a_broker_that_is(how: str, tmp_path: Path) -> None:
    instance = Instance(
        config={"exec": {"kill-timeout": "0.2s"}}, attributes={"statedir": str(tmp_path), "log-stderr-level": "2"}
    )
    instance.start()
    with instance.handle() as handle:
        jobs = [future.get_id() for future in submitted(handle, 5, "echo", "hello")]
        for jobid in jobs:
            assert wait(handle, jobid).success
        running = [future.get_id() for future in submitted(handle, 3, "sleep", "3600")]
        told(followed(handle, running[0], "eventlog"), "start")
        held = [flux.job.submit(handle, JobspecV1.from_command(["true"]), urgency=0) for _ in range(3)]
        late = [future.get_id() for future in submitted(handle, 20, "true")]
        if how == "killed":
            instance.kill()
    if how == "stopped":
        instance.stop()
    with instance, instance.handle() as handle:
        for jobid in jobs:
            check_whole(handle, jobid, "hello")
            log = names(lookup(handle, f"{kvs(jobid)}.eventlog"))
            assert "exception" not in log, f58(jobid)
        for jobid in (*running, *held, *late):
            for key in ("J", "jobspec", "eventlog"):
                assert lookup(handle, f"{kvs(jobid)}.{key}")
        # Those that are held go on being held.
        ask(handle, "job-manager.raiseall", dry_run=False, userid=-1, states=0x7F, severity=0, type="cancel", note="")
        for jobid in (*running, *held, *late):
            log = told(followed(handle, jobid, "eventlog"), "clean")
            assert [log.count(name) for name in ("submit", "clean")] == [1, 1]
            assert max(log.count(name) for name in ("start", "finish", "release", "free")) <= 1
