"""Schedulers and execution services of the same broker are called by the job manager, and call it; unless somebody
looks at messages, or there is something to be refused."""

from __future__ import annotations

from typing import Any

import pytest
from in_process import BrokerThread
from waiting import wait_until
from whole_jobs import ask, check_whole, submitted, wait

import flux
import flux.job
from flux.constants import FLUX_MSGTYPE_REQUEST
from flux.job import JobspecV1
from flux.message import Message

ASKED = {"sched-simple": {"sched.alloc", "sched.free"}, "job-exec": {"job-exec.start"}}


def running(handle: flux.Flux) -> int:
    """A job that runs until it is cancelled."""
    jobid = int(submitted(handle, 1, "sleep", "3600")[0].get_id())
    flux.job.event_wait(handle, jobid, "start")
    return jobid


def end(handle: flux.Flux, jobid: int) -> None:
    """Has a job end, and sees that it has, in order."""
    waiter = flux.job.wait_async(handle, jobid)
    ask(handle, "job-manager.kill", id=jobid, signum=15)
    assert not waiter.wait_for(30.0).get_status().success
    check_whole(handle, jobid)


@pytest.mark.parametrize("name", ASKED)
def test_jobs_take_no_messages_between_modules(broker_thread: BrokerThread, handle: flux.Flux, name: str) -> None:
    wait(handle, submitted(handle)[0].get_id())
    received = broker_thread.broker.modules[name].received
    before = received[FLUX_MSGTYPE_REQUEST]
    for jobid in [future.get_id() for future in submitted(handle, 10)]:
        assert wait(handle, jobid).success
    assert received[FLUX_MSGTYPE_REQUEST] == before


@pytest.mark.parametrize("traced", [*ASKED, "job-manager"])
def test_who_looks_at_messages_sees_what_is_asked_and_answered(
    broker_thread: BrokerThread, handle: flux.Flux, traced: str
) -> None:
    seen: list[tuple[str, str]] = []

    def see(direction: str, message: Message) -> None:
        seen.append((direction, message.topic))

    called = running(handle)
    module = broker_thread.broker.modules[traced]
    broker_thread.call(lambda: module.trace(see))
    wanted = {topic for name, topics in ASKED.items() if traced in (name, "job-manager") for topic in topics}
    mine, theirs = ("tx", "rx") if traced == "job-manager" else ("rx", "tx")
    try:
        end(handle, called)  # was asked for by calls, and ends with messages
        assert (theirs, "job-exec.start") in seen or traced == "sched-simple"
        wait(handle, submitted(handle)[0].get_id())
    finally:
        broker_thread.call(lambda: module.trace(None))
    assert {(mine, topic) for topic in wanted} <= set(seen)


def test_what_was_asked_by_a_call_can_be_taken_back_or_refused(handle: flux.Flux) -> None:
    first = running(handle)
    jobspec = JobspecV1.from_command(["true"], num_tasks=1, cores_per_task=1)
    whole = JobspecV1.from_nest_command(["true"], exclusive=True, num_nodes=1)
    waits = int(flux.job.submit(handle, whole, waitable=True))  # there is somebody on that node
    flux.job.event_wait(handle, waits, "priority")
    ask(handle, "job-manager.urgency", id=waits, urgency=0)  # taken back
    ask(handle, "job-manager.urgency", id=waits, urgency=16)
    ask(handle, "job-manager.raise", id=waits, severity=0, type="cancel", note="")
    assert not wait(handle, waits).success
    much = JobspecV1.from_command(["true"], num_tasks=1, cores_per_task=100000)
    refused = wait(handle, flux.job.submit(handle, much, waitable=True))
    assert b"unsatisfiable" in refused.errstr
    end(handle, first)
    assert wait(handle, flux.job.submit(handle, jobspec, waitable=True)).success


def test_what_is_said_of_jobs_while_there_is_no_job_manager_is_said_to_the_next(
    broker_thread: BrokerThread, handle: flux.Flux, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = broker_thread.broker
    monkeypatch.setattr(broker, "on_failure", lambda module: None)
    jobid = int(submitted(handle, 1, "sh", "-c", "read line; exit 3")[0].get_id())
    flux.job.event_wait(handle, jobid, "start")
    manager: Any = broker.modules["job-manager"]
    broker_thread.call(lambda: broker.module_failed(manager, RuntimeError("it fails")))
    wait_until(lambda: broker.modules.get("job-manager") is not manager, "its end")
    service = f"{broker.owner}-shell-{flux.job.JobID(jobid).f58plain}"
    ask(handle, f"{service}.stdin", stream="stdin", rank="all", eof=True)
    exec_jobs: Any = broker.modules["job-exec"].instance
    wait_until(lambda: jobid not in exec_jobs.jobs, "the end of the job")
    ask(handle, "module.load", path="job-manager", args=[])
    event = flux.job.event_wait(handle, jobid, "finish")
    assert event.context["status"] == 3 << 8
    flux.job.event_wait(handle, jobid, "clean")
    check_whole(handle, jobid)
