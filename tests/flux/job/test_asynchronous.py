"""The verbs of jobs under asyncio, and the other ways to look at jobs, on an instance that simulates its jobs."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterator

import pytest
from in_process import BrokerThread

import flux
import flux.aio
import flux.job
from flux.job import JobspecV1
from flux.job.stats import JobStats


@pytest.fixture(scope="module")
def thread() -> Iterator[BrokerThread]:
    started = BrokerThread()
    yield started
    started.stop()


def simulated(takes: str = "0.001s", **kwargs: object) -> JobspecV1:
    jobspec: JobspecV1 = JobspecV1.from_command(["true"], **kwargs)
    jobspec.setattr("system.exec.test.run_duration", takes)
    return jobspec


def test_everything_is_awaited(thread: BrokerThread) -> None:
    async def main() -> None:
        async with flux.aio.connect(thread.uri) as h:
            before = (await h.job.stats()).successful
            jobid = await h.job.submit(simulated(name="a"), waitable=True)
            assert await h.job.wait(jobid) == (jobid, True, b"")
            with pytest.raises(ChildProcessError):
                await h.job.wait()
            info = await h.job.result(jobid)
            assert (info.result, info.returncode) == ("COMPLETED", 0)
            several = await h.job.submit_all([simulated(name=name) for name in "bcd"])
            assert several == sorted(several)
            results = await asyncio.gather(*(h.job.result(one) for one in several))
            assert {one.result for one in results} == {"COMPLETED"}
            names = [event.name async for event in h.job.watch(jobid)]
            assert (names[0], names[-1]) == ("submit", "clean")
            assert [job.name for job in await h.job.list(name="c", filters=["inactive"])] == ["c"]
            assert [job.id for job in await h.job.list(ids=[jobid, 99])] == [jobid]
            assert (await h.job.info(jobid)).name == "a"
            with pytest.raises(FileNotFoundError):
                await h.job.info(99)
            assert (await h.job.stats()).successful == before + 4
            assert (await h.job.lookup(jobid, ["R"]))["R"]["version"] == 1
            with pytest.raises(PermissionError):
                await h.job.submit("{}")
            with pytest.raises(FileNotFoundError):
                await h.job.result(99)

    asyncio.run(main())


def test_ending_jobs(thread: BrokerThread) -> None:
    async def main() -> None:
        async with flux.aio.connect(thread.uri) as h:
            running = await h.job.submit(simulated("60s"))
            held = await h.job.submit(simulated(), urgency=0)
            await h.job.wait_event(running, "start")
            await h.job.exception(held, "mine", severity=3, note="careful")
            assert (await h.job.wait_event(held, "exception")).context["note"] == "careful"
            with pytest.raises(OSError, match=r"job is not running"):
                await h.job.kill(held)
            for jobid in (running, held):
                await h.job.cancel(jobid, "bye")
                info = await h.job.result(jobid)
                assert (info.result, info.exception.note) == ("CANCELED", "bye")

    asyncio.run(main())


def test_a_task_that_gives_up_leaves_the_job_alone(thread: BrokerThread) -> None:
    async def main() -> None:
        async with flux.aio.connect(thread.uri) as h:
            held = await h.job.submit(simulated(), urgency=0)
            for waiting in (h.job.result(held), h.job.wait_event(held, "start"), h.job.output(held)):
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(waiting, 0.05)
            assert (await h.job.info(held)).state == "SCHED"
            await h.job.cancel(held)

    asyncio.run(main())


# The others, which wait.


@pytest.fixture
def h(thread: BrokerThread) -> Iterator[flux.Flux]:
    with thread.open() as opened:
        yield opened


def test_the_journal(h: flux.Flux) -> None:
    jobid = flux.job.submit(h, simulated(name="journalled"))
    flux.job.result(h, jobid)
    consumer = flux.job.JournalConsumer(h, include_sentinel=True).start()
    history = []
    while (event := consumer.poll(10.0)) is not consumer.SENTINEL_EVENT:
        history.append(event)
    assert str(event) == "-1: End of historical data stream"
    mine = [event for event in history if event.jobid == jobid]
    assert mine[0].name == "submit"
    assert mine[0].jobspec["attributes"]["system"]["job"]["name"] == "journalled"
    assert next(event for event in mine if event.name == "alloc").R["version"] == 1
    assert str(mine[1]).startswith(f"{jobid.f58}: ")
    later = flux.job.submit(h, simulated(), urgency=0)
    live = consumer.poll(10.0)
    assert (live.jobid, live.name) == (later, "submit")
    flux.job.cancel(h, later)
    consumer.stop()
    while consumer.poll(10.0) is not None:
        pass


def test_time_left(h: flux.Flux, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLUX_JOB_ID", raising=False)
    assert math.isinf(flux.job.timeleft(h))
    limited = flux.job.submit(h, simulated("60s", duration=100))
    flux.job.event_wait(h, limited, "start")
    monkeypatch.setenv("FLUX_JOB_ID", limited.f58)
    assert 90 < flux.job.timeleft(h) <= 100
    held = flux.job.submit(h, simulated(), urgency=0)
    monkeypatch.setenv("FLUX_JOB_ID", str(held))
    with pytest.raises(OSError, match=rf"job {held} has not started"):
        flux.job.timeleft(h)
    for jobid in (limited, held):
        flux.job.cancel(h, jobid)
        flux.job.result(h, jobid)
    assert flux.job.timeleft(h) == 0.0
    monkeypatch.setenv("FLUX_JOB_ID", "zz-")
    with pytest.raises(OSError, match=r"failed to parse jobid zz-"):
        flux.job.timeleft(h)
    monkeypatch.setenv("FLUX_JOB_ID", "123")
    with pytest.raises(FileNotFoundError, match=r"123: no such jobid"):
        flux.job.timeleft(h)


def test_counts(h: flux.Flux) -> None:
    stats = JobStats(h)
    assert (stats.running, stats.active) == (-1, -1)
    told: list[int] = []
    stats.update(lambda stats, extra: told.append(stats.pending + extra), extra=100)
    h.reactor_run()
    assert told == [100 + stats.pending]
    with pytest.raises(ValueError, match=r"no stats available for queue nope"):
        JobStats(h, "nope").update_sync()


def test_a_job_as_a_dict(h: flux.Flux) -> None:
    before = time.time()
    jobid = flux.job.submit(h, simulated(name="dict"))
    flux.job.result(h, jobid)
    told = flux.job.get_job(h, jobid)
    assert told is not None
    assert (told["id"], told["name"], told["status"], told["queue"]) == (jobid, "dict", "COMPLETED", "")
    assert before <= told["t_submit"] <= told["t_run"] <= told["t_cleanup"]
    assert flux.job.get_job(h, 99) is None
    [info] = flux.job.JobList(h, name="dict", filters=["inactive"]).jobs()
    first = info.to_dict()
    assert info.to_dict() == first
    with pytest.raises(AttributeError, match=r"invalid JobInfo attribute 'nope'"):
        _ = info.nope
    for wrong in ({"filters": ["nope"]}, {"user": "no such user"}):
        with pytest.raises(ValueError, match=r"Invalid"):
            flux.job.JobList(h, **wrong)  # type: ignore[arg-type]  # one of each


def test_queues(h: flux.Flux) -> None:
    import flux.queue

    [queue] = flux.queue.QueueList(h)
    assert (queue.name, queue.enabled, queue.started, queue.is_default) == ("", True, True, False)
    assert (queue.limits.timelimit, queue.defaults.timelimit) == (math.inf, math.inf)
    assert queue.limits.max.ncores == math.inf
    assert queue.resources.all.ncores >= 1
    with pytest.raises(ValueError, match=r"No such queue: nope"):
        flux.queue.QueueList(h, ["nope"])
