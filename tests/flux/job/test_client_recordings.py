"""The functions of flux.job send what the reference's do, and make of the answers what they make of them."""

from __future__ import annotations

import concurrent.futures
import errno
import os
from typing import Any

import pytest
from recorded_broker import RecordedBroker, request_jobspec
from service_recordings import records

import flux
import flux.job
from flux.constants import FLUX_JOB_RESULT_CANCELED, FLUX_JOB_RESULT_COMPLETED, FLUX_JOB_RESULT_FAILED
from flux.job.wait import JobWaitResult, Outcome


def jobspec_at(name: str, line: int) -> flux.job.Jobspec:
    return flux.job.Jobspec(**request_jobspec(records(name)[line - 1]["payload"]["J"]))


@pytest.fixture(autouse=True)
def _as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recordings were made by root."""
    monkeypatch.setattr(os, "getuid", lambda: 0)


def test_submit_wait_and_watch() -> None:
    name = "jobs-submit-wait"
    with RecordedBroker(name) as broker, flux.Flux(broker.uri) as h:
        jobid = flux.job.submit(h, jobspec_at(name, 1), waitable=True)
        assert jobid == 6358564864
        assert isinstance(jobid, flux.job.JobID)
        assert flux.job.wait(h, jobid) == JobWaitResult(jobid, True, b"")
        names = [event.name for event in flux.job.event_watch(h, jobid)]
        assert (names[0], names[4], names[6], names[-1]) == ("submit", "alloc", "finish", "clean")
        info = flux.job.result(h, jobid.f58)
        assert (info.id, info.result, info.returncode, info.status) == (jobid, "COMPLETED", 0, "COMPLETED")
        assert info.runtime == pytest.approx(1795312887.8455274 - 1795312887.8354616)


def test_results_of_a_job_that_failed_and_of_none() -> None:
    name = "jobs-result-watch"
    with RecordedBroker(name) as broker, flux.Flux(broker.uri) as h:
        jobid = flux.job.submit(h, jobspec_at(name, 1).dumps())
        found = flux.job.result_async(h, jobid).get_dict()
        assert found == {
            "id": jobid,
            "exception_occurred": False,
            "t_submit": 1795312911.0155632,
            "t_run": 1795312911.0391161,
            "t_cleanup": 1795312911.0499315,
            "waitstatus": 768,
            "result": FLUX_JOB_RESULT_FAILED,
        }
        future = flux.job.event_watch_async(h, jobid)
        first = future.get_event(autoreset=False)
        assert first is not None
        assert first.name == "submit"
        assert future.get_event() == first
        seen = [event.name for event in iter(future.get_event, None) if event is not None]
        assert seen[-1] == "clean"
        with pytest.raises(FileNotFoundError):
            flux.job.event_watch_async(h, 123).get_event()


def test_submissions_at_once_and_whichever_job_ends_next() -> None:
    name = "jobs-async-submit"
    with RecordedBroker(name) as broker, flux.Flux(broker.uri) as h:
        futures = [flux.job.submit_async(h, jobspec_at(name, line), waitable=True) for line in range(1, 6)]
        ids = [future.get_id() for future in futures]
        assert ids == [flux.job.submit_get_id(future) for future in futures]
        assert [flux.job.wait(h).jobid for _ in ids] == ids
        assert futures[0].get() is None


def test_what_wait_says_of_failures() -> None:
    name = "jobs-wait-any"

    def refused(*jobid: Any) -> str:
        with pytest.raises(ChildProcessError) as info:
            flux.job.wait(h, *jobid)
        return str(info.value.strerror)

    def submit(line: int, urgency: int = 16) -> flux.job.JobID:
        return flux.job.submit(h, jobspec_at(name, line), urgency=urgency, waitable=True)

    with RecordedBroker(name, last=36) as broker, flux.Flux(broker.uri) as h:
        assert refused() == "there are no more waitable jobs"
        jobid = submit(3)
        assert flux.job.wait(h) == (jobid, True, b"")
        assert refused() == "there are no more waitable jobs"
        jobid = submit(9)
        assert flux.job.wait(h, jobid) == (jobid, False, b"task(s) exited with exit code 1")
        assert refused(jobid) == "invalid job id, or job may be inactive and not waitable"
        jobid = submit(15)
        assert flux.job.wait(h, jobid).errstr == b"task(s) Killed"
        jobid = submit(19)
        assert flux.job.wait(h, jobid).errstr.startswith(b"Fatal exception type=exec task 0 (host node0): start")
        jobid = submit(23, urgency=0)
        first = flux.job.wait_async(h, jobid)
        assert refused(jobid) == "job id already has a waiter"
        assert refused() == "there are no more waitable jobs"
        flux.job.cancel(h, jobid, reason="no longer needed")
        assert first.get_status() == (jobid, False, b"Fatal exception type=cancel no longer needed")
        jobid = flux.job.submit(h, jobspec_at(name, 33))
        assert refused(jobid) == "job was not submitted with FLUX_JOB_WAITABLE"


def test_kill() -> None:
    name = "jobs-kill"
    with RecordedBroker(name, last=6) as broker, flux.Flux(broker.uri) as h:
        jobid = flux.job.submit(h, jobspec_at(name, 1), urgency=0)
        with pytest.raises(OSError, match="job is not running") as info:
            flux.job.kill(h, str(jobid))
        assert info.value.errno == errno.EINVAL
        flux.job.cancel(h, jobid)


def test_the_executor() -> None:
    name = "jobs-executor"
    with (
        RecordedBroker(name) as broker,
        flux.job.FluxExecutor(handle_args=(broker.uri,)) as executor,
    ):
        events: list[str] = []
        ok, failing, missing, bad = (executor.submit(request_jobspec_text(name, line)) for line in (1, 2, 3, 4))
        for event in executor.EVENTS:
            ok.add_event_callback(event, lambda future, entry: events.append(entry.name))
        assert (ok.result(60), failing.result(60)) == (0, 1)
        with pytest.raises(flux.job.JobException, match=r"task 0 .*: start failed"):
            missing.result(60)
        with pytest.raises(PermissionError, match=r"Missing key \(version\)"):
            bad.result(60)
        with pytest.raises(RuntimeError, match="job could not be submitted due to PermissionError"):
            bad.jobid()
        assert (ok.jobid(), failing.jobid(), missing.jobid()) == (6492782592, 6492782593, 6492782594)
        done, _ = concurrent.futures.wait([ok, failing, missing, bad], 10)
        assert len(done) == 4
        attached = executor.attach(ok.jobid())
        assert attached.result(60) == 0
        with pytest.raises(ValueError, match="job ID does not match any job"):
            executor.attach(77).result(60)
    assert set(events) >= {"submit", "alloc", "start", "finish", "clean"}


def request_jobspec_text(name: str, line: int) -> str:
    import json

    return json.dumps(request_jobspec(records(name)[line - 1]["payload"]["J"]))


def test_the_list_of_jobs() -> None:
    name = "jobinfo-cli-jobs"
    attrs = records(name)[0]["payload"]["attrs"]
    with RecordedBroker(name) as broker, flux.Flux(broker.uri) as h:
        jobs = flux.job.JobList(h, attrs, filters=["pending,running", "INACTIVE"], max_entries=1001).jobs()
        assert [job.id for job in jobs] == [line["payload"]["jobs"][0]["id"] for line in records(name)[1:-1]]


def test_particular_jobs() -> None:
    name = "jobinfo-cli-jobs-ids"
    attrs = records(name)[0]["payload"]["attrs"]
    ids = [line["payload"]["id"] for line in records(name) if line["dir"] == "c>b"]
    with RecordedBroker(name) as broker, flux.Flux(broker.uri) as h:
        jobs = flux.job.JobList(h, attrs, ids=ids)
        assert [job.id for job in jobs.jobs()] == ids
        assert jobs.errors == []


def test_an_outcome_goes_by_the_first_fatal_exception() -> None:
    def exception(severity: int, kind: str, note: str = "") -> dict[str, Any]:
        return {"timestamp": 2.0, "name": "exception", "context": {"type": kind, "severity": severity, "note": note}}

    def outcome(*events: dict[str, Any]) -> tuple[Any, ...]:
        result = Outcome(1)
        for event in events:
            result.add(event)
        found = result.found
        return found["result"], found.get("exception_type"), found.get("exception_severity")

    submit = {"timestamp": 1.0, "name": "submit", "context": {}}
    clean = {"timestamp": 9.0, "name": "clean"}
    finish = {"timestamp": 5.0, "name": "finish", "context": {"status": 0}}
    assert outcome(submit, finish, clean) == (FLUX_JOB_RESULT_COMPLETED, None, None)
    assert outcome(submit, exception(7, "note"), finish, clean) == (FLUX_JOB_RESULT_COMPLETED, "note", 7)
    assert outcome(submit, exception(0, "cancel"), exception(7, "note"), clean) == (
        FLUX_JOB_RESULT_CANCELED,
        "cancel",
        0,
    )
    assert outcome(submit, exception(3, "a"), exception(1, "b"), exception(2, "c"), finish, clean)[1:] == ("b", 1)
    # Status 0, but the job was not well before: as job-list has it.
    assert outcome(submit, exception(0, "exec"), finish, clean) == (FLUX_JOB_RESULT_FAILED, "exec", 0)
    assert outcome(submit, finish, exception(0, "cancel"), clean) == (FLUX_JOB_RESULT_COMPLETED, "cancel", 0)
