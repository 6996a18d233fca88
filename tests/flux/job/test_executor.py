"""FluxExecutor and its futures, on an instance that simulates its jobs (spec 06, 15.9)."""

from __future__ import annotations

import concurrent.futures as cf
import gc
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from in_process import BrokerThread

import flux
import flux.job
from flux.eventlog import EventLogEvent
from flux.job import FluxExecutor, FluxExecutorFuture, JobException, JobspecV1
from flux.job import executor as executor_module


@pytest.fixture(scope="module")
def thread() -> Iterator[BrokerThread]:
    started = BrokerThread()
    yield started
    started.stop()


@pytest.fixture
def executor(thread: BrokerThread) -> Iterator[FluxExecutor]:
    with FluxExecutor(handle_args=(thread.uri,)) as made:
        yield made


def simulated(duration: str = "0.001s") -> JobspecV1:
    jobspec: JobspecV1 = JobspecV1.from_command(["true"])
    jobspec.setattr("system.exec.test.run_duration", duration)
    return jobspec


def test_futures_are_those_of_the_standard_library(executor: FluxExecutor) -> None:
    futures = [executor.submit(simulated()) for _ in range(20)]
    assert {future.result(60) for future in cf.as_completed(futures, 60)} == {0}
    assert cf.wait(futures, 10).not_done == set()
    ids = [future.jobid() for future in futures]
    assert ids == sorted(ids)
    assert all(isinstance(jobid, flux.job.JobID) for jobid in ids)


def test_what_happens_comes_in_order(executor: FluxExecutor) -> None:
    told: list[str] = []
    future = executor.submit(simulated())
    for name in ("submit", "alloc", "start", "finish"):
        assert future.add_event_callback(name, lambda future, event: told.append(event.name)) is future
    future.add_jobid_callback(lambda future: told.append("jobid"))
    future.add_done_callback(lambda future: told.append("done"))
    assert future.result(60) == 0
    cf.wait([future])
    assert sorted(told, key=["jobid", "submit", "alloc", "start", "finish", "done"].index) == told
    late: list[str] = []
    future.add_event_callback("start", lambda future, event: late.append(event.name))
    future.add_jobid_callback(lambda future: late.append("jobid"))
    assert late == ["start", "jobid"]
    with pytest.raises(ValueError, match=r"nonsense"):
        future.add_event_callback("nonsense", lambda future, event: None)


def test_refusals_are_exceptions_of_the_future(executor: FluxExecutor) -> None:
    for arguments, error in (
        (("{}",), PermissionError),
        ((None,), OSError),
        ((3,), TypeError),
        ((), TypeError),
    ):
        future = executor.submit(*arguments)
        assert isinstance(future.exception(60), error)
        with pytest.raises(RuntimeError, match=r"job could not be submitted due to"):
            future.jobid()
    bad = ((None, TypeError), (-1, OverflowError), ("xx!", ValueError), (0, ValueError), (77, ValueError))
    for jobid, wrong in bad:
        assert isinstance(executor.attach(jobid).exception(60), wrong)


def test_a_canceled_job_raises_its_exception(thread: BrokerThread, executor: FluxExecutor) -> None:
    future = executor.submit(simulated("60s"))
    attached = executor.attach(str(future.jobid(10)))
    assert attached.jobid() == str(future.jobid())
    with thread.open() as h:
        flux.job.cancel(h, future.jobid(), "enough")
    for one in (future, attached):
        with pytest.raises(JobException, match=r"job\.exception: type=cancel: enough") as info:
            one.result(60)
    copy = pickle.loads(pickle.dumps(info.value))
    assert (copy.type, copy.note, str(copy)) == ("cancel", "enough", str(info.value))


def test_a_callback_that_fails_is_logged(executor: FluxExecutor, caplog: pytest.LogCaptureFixture) -> None:
    future = executor.submit(simulated())
    future.add_event_callback("finish", lambda future, event: 1 / 0)
    assert future.result(60) == 0
    cf.wait([future])
    assert "exception calling callback" in caplog.text


def test_waiting_inside_a_callback_is_refused(executor: FluxExecutor) -> None:
    refused: list[str] = []

    def callback(future: FluxExecutorFuture, event: EventLogEvent) -> None:
        try:
            future.result()
        except RuntimeError as exc:
            refused.append(str(exc))

    future = executor.submit(simulated("0.2s"))
    future.add_event_callback("alloc", callback)
    assert future.result(60) == 0
    assert refused == ["Cannot wait for future from inside callback"]


def test_shutdown(thread: BrokerThread) -> None:
    made = FluxExecutor(threads=2, handle_args=(thread.uri,), thread_name_prefix="mine")
    names = {one.name for one in threading.enumerate()}
    assert {"mine-0", "mine-1"} <= names
    futures = [made.submit(simulated()) for _ in range(4)]
    made.shutdown(wait=False)
    made.shutdown()
    assert [future.result(0) for future in futures] == [0] * 4
    assert not {"mine-0", "mine-1"} & {one.name for one in threading.enumerate()}
    with pytest.raises(RuntimeError, match=r"cannot schedule new futures after shutdown"):
        made.submit(simulated())
    with pytest.raises(RuntimeError, match=r"cannot schedule new futures after shutdown"):
        made.attach(1)


def test_futures_that_wait_are_cancelled_at_shutdown(thread: BrokerThread) -> None:
    made = FluxExecutor(handle_args=(thread.uri,))
    blocked, release = threading.Event(), threading.Event()

    def block(future: FluxExecutorFuture) -> None:
        blocked.set()
        release.wait(60)

    first = made.submit(simulated()).add_jobid_callback(block)
    assert blocked.wait(60)
    waiting = [made.submit(simulated()) for _ in range(3)]
    assert waiting[0].cancel()
    assert waiting[0].cancel()
    made.shutdown(wait=False, cancel_futures=True)
    release.set()
    assert all(future.cancelled() for future in waiting)
    for future in waiting:
        with pytest.raises(cf.CancelledError):
            future.jobid()
    assert not first.cancel()
    assert first.result(60) == 0
    made.shutdown()


def test_an_executor_that_is_dropped_ends_its_threads(thread: BrokerThread) -> None:
    made = FluxExecutor(handle_args=(thread.uri,), thread_name_prefix="dropped")
    future = made.submit(simulated())
    del made
    gc.collect()
    assert future.result(0) == 0
    assert not any(one.name.startswith("dropped") for one in threading.enumerate())


def test_an_executor_that_the_end_of_the_program_finds_says_nothing(thread: BrokerThread) -> None:
    # Kept by a module that is emptied late, as the objects of frameworks are.
    code = (
        "import json, flux.job\n"
        "json.kept = flux.job.FluxExecutor()\n"
        "print(json.kept.submit(flux.job.JobspecV1.from_command(['true'])).jobid() > 0)"
    )
    environ = {**os.environ, "FLUX_URI": thread.uri}
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_what_cannot_be_made() -> None:
    for threads in (0, -1):
        with pytest.raises(ValueError, match=r"the number of threads must be > 0"):
            FluxExecutor(threads=threads)
    with pytest.raises(FileNotFoundError):
        FluxExecutor(handle_args=("local:///no/such/socket",))
    assert not hasattr(FluxExecutor, "map")


def test_a_lost_connection_fails_the_futures(start_one: BrokerThread) -> None:
    made = FluxExecutor(handle_args=(start_one.uri,))
    future = made.submit(simulated("60s"))
    future.jobid(10)
    start_one.stop()
    assert isinstance(future.exception(60), OSError)
    made.shutdown()


@pytest.fixture
def start_one() -> BrokerThread:
    return BrokerThread()


# What subclasses, and tests of them, rely on.


def test_the_future_by_itself() -> None:
    future = FluxExecutorFuture(threading.get_ident() + 1)
    events: list[Any] = []
    future.add_event_callback("start", lambda future, event: events.append(event.name))
    future._set_event(EventLogEvent({"name": "start", "timestamp": 0.0}))
    future._set_event(EventLogEvent({"name": "start", "timestamp": 1.0}))
    assert events == ["start", "start"]
    with pytest.raises(ValueError, match=r"nonsense"):
        future._set_event(EventLogEvent({"name": "nonsense", "timestamp": 0.0}))
    with pytest.raises(cf.TimeoutError):
        future.jobid(0)
    future._set_jobid(21)
    assert future.jobid() == 21
    with pytest.raises(RuntimeError):
        future._set_jobid(22)
    failed = FluxExecutorFuture(None)
    failed.set_exception(ValueError("x"))
    with pytest.raises(RuntimeError, match=r"ValueError\('x'\)"):
        failed.jobid(0)


def test_a_thread_that_dies_breaks_the_executor(thread: BrokerThread, monkeypatch: pytest.MonkeyPatch) -> None:
    died: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: died.append(args.exc_type))
    monkeypatch.setattr(executor_module._FluxExecutorThread, "_FluxExecutorThread__take", lambda self: 1 / 0)
    made = FluxExecutor(handle_args=(thread.uri,))
    made._threads[0].join(60.0)
    assert died == [ZeroDivisionError]
    with pytest.raises(RuntimeError, match=r"Executor is broken, new futures cannot be scheduled"):
        made.submit(simulated())
    made.shutdown()
