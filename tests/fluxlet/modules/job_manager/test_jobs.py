"""What becomes of jobs: events in order, waiting, urgency, exceptions, with a scheduler that is played."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest
from in_process import BrokerThread, error_of
from job_player import Player, resources
from job_recordings import eventually
from managed_jobs import WHOLE, events, lookup, names, stored, wait

import flux
from flux.job import JobID

Submit = Callable[..., JobID]


def test_a_job_runs(handle: flux.Flux, player: Player, submit: Submit) -> None:
    jobid = submit("true", waitable=True)
    assert wait(handle, jobid) == {"id": jobid, "success": True, "errstr": ""}
    assert names(handle, jobid) == WHOLE
    handle.rpc("job-manager.drain").get()
    assert [line.split('"')[5] for line in stored(handle, jobid)] == WHOLE
    jobspec = handle.rpc("job-manager.getattr", {"id": jobid, "attrs": ["jobspec"]}).get()["jobspec"]
    assert "environment" not in jobspec["attributes"]["system"]


def test_submission_is_answered_when_its_first_events_are_stored(handle: flux.Flux, submit: Submit) -> None:
    jobid = submit("true")
    assert stored(handle, jobid)[0].startswith('{"timestamp":')
    for key in ("J", "jobspec"):
        assert lookup(handle, f"{jobid.kvs}.{key}")


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (["false"], "task(s) exited with exit code 1"),
        (["exit", "7"], "task(s) exited with exit code 7"),
        (["exit", "137"], "task(s) Killed"),
        (["exit", "255"], "task(s) exited with exit code 255"),
        (["exit", "193"], "task(s) exited with exit code 193"),
        (["kill", "9"], "job shell Killed"),
        (["kill", "100"], "job shell killed by signal 100"),
        (["kill", "127"], "job shell killed by signal 127"),
        (["missing"], "Fatal exception type=exec missing: No such file or directory"),
    ],
)
def test_what_waiting_tells_of_failures(
    handle: flux.Flux, player: Player, submit: Submit, command: list[str], text: str
) -> None:
    jobid = submit(*command, waitable=True)
    assert wait(handle, jobid) == {"id": jobid, "success": False, "errstr": text}


def test_who_waits_for_what(handle: flux.Flux, broker_thread: BrokerThread, player: Player, submit: Submit) -> None:
    assert error_of(lambda: wait(handle, -1)) == (errno.ECHILD, "there are no more waitable jobs")
    plain = submit("sleep")
    assert error_of(lambda: wait(handle, plain)) == (errno.ECHILD, "job was not submitted with FLUX_JOB_WAITABLE")
    unknown = "invalid job id, or job may be inactive and not waitable"
    assert error_of(lambda: wait(handle, 17)) == (errno.ECHILD, unknown)
    first, second = submit("sleep", waitable=True), submit("sleep", waitable=True)
    waiting = handle.rpc("job-manager.wait", {"id": first})
    assert error_of(lambda: wait(handle, first)) == (errno.ECHILD, "job id already has a waiter")
    anyone = handle.rpc("job-manager.wait", {"id": -1})
    eventually(lambda: second in player.running)
    player.finish(first)
    player.finish(second)
    assert waiting.get()["id"] == first
    assert anyone.get()["id"] == second
    assert error_of(lambda: wait(handle, first)) == (errno.ECHILD, unknown)


def test_waiters_that_have_gone_leave_their_jobs_to_others(
    handle: flux.Flux, broker_thread: BrokerThread, player: Player, submit: Submit
) -> None:
    jobid = submit("sleep", waitable=True)
    with broker_thread.open() as other:
        other.rpc("job-manager.wait", {"id": jobid})
        other.rpc("broker.ping", {}).get()
    eventually(lambda: jobid in player.running)
    player.finish(jobid, 0)
    assert wait(handle, jobid)["success"]


def test_cancel_of_a_job_that_waits_and_of_one_that_runs(handle: flux.Flux, player: Player, submit: Submit) -> None:
    held = submit("true", urgency=0)
    assert names(handle, held) == WHOLE[:4]
    flux.job.cancel(handle, held, "no need")
    assert names(handle, held) == [*WHOLE[:4], "exception", "clean"]
    assert events(handle, held)[4]["context"]["note"] == "no need"
    running = submit("sleep", waitable=True)
    eventually(lambda: running in player.running)
    flux.job.cancel(handle, running)
    assert wait(handle, running)["errstr"] == "Fatal exception type=cancel "
    assert names(handle, running) == [*WHOLE[:6], "exception", *WHOLE[6:]]


def test_urgency_holds_releases_and_orders(handle: flux.Flux, broker_thread: BrokerThread, submit: Submit) -> None:
    held = submit("true", urgency=0)
    low, high = submit("true", urgency=1), submit("true", urgency=31)
    jobs = handle.rpc("job-manager.list", {"max_entries": 0}).get()["jobs"]
    assert [(job["id"], job["priority"]) for job in jobs] == [(high, 4294967295), (low, 1), (held, 0)]
    answer = handle.rpc("job-manager.urgency", {"id": held, "urgency": 5}).get()
    assert answer == {"old_urgency": 0}
    assert names(handle, held)[-2:] == ["urgency", "priority"]
    with Player(broker_thread.uri, cores=1) as player:
        handle.rpc("job-manager.drain").get()
        assert player.started == [high, held, low]


def test_exceptions_that_are_not_fatal_are_only_logged(handle: flux.Flux, player: Player, submit: Submit) -> None:
    jobid = submit("sleep")
    eventually(lambda: jobid in player.running)
    flux.job.job_raise(handle, jobid, "odd", severity=3, note="so what")
    assert names(handle, jobid)[-1] == "exception"
    player.finish(jobid)
    eventually(lambda: names(handle, jobid)[-1] == "clean")


@pytest.mark.parametrize(
    ("method", "payload", "error"),
    [
        ("raise", {"id": 1, "type": "x", "severity": 0}, (errno.ENOENT, "unknown job id")),
        ("raise", {"id": 1, "type": "x", "severity": 8}, (errno.EPROTO, "invalid exception severity")),
        ("raise", {"id": 1, "type": "a b", "severity": 0}, (errno.EPROTO, "invalid exception type")),
        ("raise", {"id": 1, "type": "", "severity": 0}, (errno.EPROTO, "invalid exception type")),
        ("kill", {"id": 1, "signum": 0}, (errno.EINVAL, "Invalid signal number")),
        ("kill", {"id": 1, "signum": 9}, (errno.EINVAL, "unknown job id")),
        ("urgency", {"id": 1, "urgency": 32}, (errno.EINVAL, "urgency value is out of range")),
        ("urgency", {"id": 1, "urgency": 3}, (errno.EINVAL, "unknown job")),
        ("memo", {"id": 1, "memo": {}}, (errno.ENOENT, "unknown job id")),
        ("getattr", {"id": 1, "attrs": []}, (errno.EINVAL, "unknown job")),
        ("update", {"id": 1, "updates": {}}, (errno.ENOENT, "unknown job id")),
        ("purge-id", {"id": 1, "force": 1}, (errno.ENOENT, "id not found")),
        ("purge", {"age_limit": -1, "num_limit": 1, "batch": 0, "force": True}, (errno.EINVAL, None)),
        ("history.get", {"slice": "[0]"}, (errno.EINVAL, "could not parse python-style slice expression")),
        ("queue-status", {"name": "foo"}, (errno.EINVAL, "'foo' is not a valid queue")),
        ("queue-enable", {"enable": False, "all": False}, (errno.EINVAL, "reason is required for disable")),
        ("list", {"max_entries": -1}, (errno.EPROTO, None)),
        ("wait", {}, (errno.EPROTO, "malformed wait request")),
        ("nosuch", {}, (errno.ENOSYS, "Unknown service method 'job-manager.nosuch'")),
    ],
)
def test_errors(handle: flux.Flux, method: str, payload: object, error: tuple[int, str | None]) -> None:
    found = error_of(lambda: handle.rpc(f"job-manager.{method}", payload).get())
    assert found[0] == error[0]
    if error[1] is not None:
        assert found[1] == error[1]


def test_a_job_may_bring_its_resources(handle: flux.Flux, player: Player, submit: Submit) -> None:
    jobid = submit("true", **{"alloc-bypass": {"R": resources(7)}})
    handle.rpc("job-manager.drain").get()
    assert names(handle, jobid) == ["submit", "set-flags", *WHOLE[1:]]
    assert events(handle, jobid)[5]["context"] == {"bypass": True}
    assert '"core":"7"' in lookup(handle, f"{jobid.kvs}.R").replace(" ", "")
    assert not player.held
    found = error_of(lambda: submit("true", **{"alloc-bypass": {"R": {}}}))
    assert found == (errno.EINVAL, "alloc-bypass: invalid R: it has no execution.R_lite")


def test_events_of_any_name_may_be_posted(handle: flux.Flux, submit: Submit) -> None:
    jobid = submit("true", urgency=0)

    def post(name: str, context: object = None) -> None:
        handle.rpc("job-manager.post-event.post", {"id": jobid, "name": name, "context": context}).get()

    post("mine", {"x": 1})
    assert events(handle, jobid)[-1]["context"] == {"x": 1}
    for name, context in (('a"b', None), ("", None), ("priority", {}), ("clean", None), ("alloc", {}), ("submit", {})):
        assert error_of(lambda name=name, context=context: post(name, context))[0] == errno.EINVAL
    assert names(handle, jobid)[-1] == "mine"


def test_what_has_ended_is_not_updated(handle: flux.Flux, player: Player, submit: Submit) -> None:
    jobid = submit("true")
    handle.rpc("job-manager.drain").get()
    update = handle.rpc("job-manager.update", {"id": jobid, "updates": {"attributes.system.duration": 1}})
    assert error_of(update.get) == (errno.EINVAL, "job is inactive")


def test_drain_and_idle(handle: flux.Flux, player: Player, submit: Submit) -> None:
    handle.rpc("job-manager.drain").get()
    jobid = submit("sleep")
    held = submit("true", urgency=0)
    drain, idle = handle.rpc("job-manager.drain"), handle.rpc("job-manager.idle")
    eventually(lambda: jobid in player.running)
    player.finish(jobid)
    assert idle.get() == {"pending": 1}
    assert not drain.is_ready()
    flux.job.cancel(handle, held)
    drain.get()
    assert "clean" in stored(handle, held)[-1]


def test_many_jobs_are_canceled_at_once(handle: flux.Flux, submit: Submit) -> None:
    jobspec = flux.job.JobspecV1.from_command(["true"])
    futures = [flux.job.submit_async(handle, jobspec, urgency=0) for _ in range(250)]
    ids = [future.get_id() for future in futures]
    request = {"dry_run": False, "userid": 0xFFFFFFFF, "states": 62, "severity": 0, "type": "cancel", "note": "all"}
    assert handle.rpc("job-manager.raiseall", {**request, "dry_run": True}).get() == {"count": 250, "errors": 0}
    assert handle.rpc("job-manager.raiseall", request).get() == {"count": 250, "errors": 0}
    assert {names(handle, jobid)[-1] for jobid in ids} == {"clean"}
    assert error_of(lambda: handle.rpc("job-manager.raiseall", {**request, "severity": 9}).get())[0] == errno.EPROTO
