"""Queues, defaults and limits."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from in_process import BrokerThread, error_of
from job_player import Player
from job_recordings import eventually
from managed_jobs import events, names

import flux
from flux.job import JobspecV1
from fluxlet.modules.job_manager.limits import duration_text
from fluxlet.modules.job_manager.policy import read

CONFIG: dict[str, Any] = {
    "queues": {
        "batch": {"requires": ["big"], "policy": {"limits": {"duration": "1h"}}},
        "debug": {"policy": {"limits": {"duration": "30m", "job-size": {"max": {"ncores": 1}}}}},
        "standby": {"parent": "debug", "policy": {"limits": {"duration": "10m"}}},
    },
    "policy": {"jobspec": {"defaults": {"system": {"duration": "1m", "queue": "batch"}}}},
}


@pytest.fixture
def handle(start_broker: Callable[..., BrokerThread]) -> flux.Flux:
    return start_broker(config=CONFIG).open()


def submit(handle: flux.Flux, cores: int = 1, **system: Any) -> flux.job.JobID:
    jobspec = JobspecV1.from_command(["true"], cores_per_task=cores)
    for key, value in system.items():
        jobspec.setattr(f"system.{key}", value)
    return flux.job.submit(handle, jobspec)


def system_of(handle: flux.Flux, jobid: int) -> dict[str, Any]:
    answer = handle.rpc("job-manager.getattr", {"id": jobid, "attrs": ["jobspec"]}).get()
    found: dict[str, Any] = answer["jobspec"]["attributes"]["system"]
    return found


def test_what_jobspecs_do_not_say_is_filled_in(handle: flux.Flux) -> None:
    system = system_of(handle, submit(handle))
    assert (system["duration"], system["queue"]) == (60.0, "batch")
    assert system["constraints"] == {"properties": ["big"]}
    given = {"properties": ["small"]}
    assert system_of(handle, submit(handle, constraints=given))["constraints"] == {"properties": ["small", "big"]}
    given = {"ranks": ["0"]}
    system = system_of(handle, submit(handle, constraints=given, duration=3.0))
    assert system["constraints"] == {"and": [given, {"properties": ["big"]}]}
    assert system["duration"] == 3.0
    assert "constraints" not in system_of(handle, submit(handle, queue="standby"))


@pytest.mark.parametrize(
    ("cores", "system", "error"),
    [
        (1, {"queue": "nope"}, (errno.EPERM, "Invalid queue 'nope' specified")),
        (
            1,
            {"duration": 7200.0},
            (errno.EINVAL, "requested duration (2h) exceeds policy limit of 1h for queue batch"),
        ),
        (
            1,
            {"queue": "standby", "duration": 1200.0},
            (errno.EINVAL, "requested duration (20m) exceeds policy limit of 10m for queue standby"),
        ),
        (2, {"queue": "debug"}, (errno.EINVAL, "requested ncores (2) exceeds policy limit of 1 for queue debug")),
        (2, {"queue": "standby"}, (errno.EINVAL, "requested ncores (2) exceeds policy limit of 1 for queue standby")),
    ],
)
def test_limits(handle: flux.Flux, cores: int, system: dict[str, Any], error: tuple[int, str]) -> None:
    assert error_of(lambda: submit(handle, cores, **system)) == error


def status(handle: flux.Flux, name: str) -> dict[str, Any]:
    answer: dict[str, Any] = handle.rpc("job-manager.queue-status", {"name": name}).get()
    return answer


def test_named_queues_start_stopped_and_run_their_jobs_when_started(handle: flux.Flux) -> None:
    assert status(handle, "batch") == {"enable": True, "start": False}
    with Player(handle.attr_get("local-uri")) as player:
        jobid, virtual = submit(handle), submit(handle, queue="standby")
        assert names(handle, jobid)[-1] == "priority"
        handle.rpc("job-manager.queue-start", {"start": True, "all": True}).get()
        handle.rpc("job-manager.drain").get()
        assert player.started == [jobid, virtual]
        payload = {"start": False, "name": "debug", "all": False, "reason": "maintenance"}
        handle.rpc("job-manager.queue-start", payload).get()
        assert status(handle, "standby") == {
            "enable": True,
            "start": False,
            "parent": "debug",
            "blocked": "parent",
            "stop_reason": "parent queue 'debug' is stopped",
        }
        assert status(handle, "debug") == {"enable": True, "start": False, "stop_reason": "maintenance"}
        waiting = submit(handle, queue="standby")
        assert names(handle, waiting)[-1] == "priority"
        handle.rpc("job-manager.queue-start", {"start": True, "name": "debug", "all": False}).get()
        handle.rpc("job-manager.drain").get()
        assert player.started[-1] == waiting
    assert status(handle, "batch")["blocked"] == "scheduler"


def test_stopping_a_queue_takes_back_what_was_asked_for_its_jobs(handle: flux.Flux) -> None:
    handle.rpc("job-manager.queue-start", {"start": True, "all": True}).get()
    with Player(handle.attr_get("local-uri"), cores=0) as player:
        jobid = submit(handle)
        assert handle.rpc("job-manager.alloc-query").get()["alloc_pending"] == 1
        handle.rpc("job-manager.queue-start", {"start": False, "all": True}).get()
        handle.rpc("job-manager.idle").get()
        assert handle.rpc("job-manager.alloc-query").get() == {"queue_length": 0, "alloc_pending": 0, "running": 0}
        assert not player.waiting
        assert names(handle, jobid)[-1] == "priority"


def test_a_disabled_queue_takes_no_jobs(handle: flux.Flux) -> None:
    payload = {"enable": False, "name": "debug", "all": False, "reason": "closed"}
    handle.rpc("job-manager.queue-enable", payload).get()
    refused = error_of(lambda: submit(handle, queue="debug"))
    assert refused == (errno.EINVAL, "job submission to debug is disabled: closed")
    submit(handle, queue="standby")
    assert status(handle, "debug")["disable_reason"] == "closed"
    handle.rpc("job-manager.queue-enable", {"enable": True, "name": "debug", "all": False}).get()
    submit(handle, queue="debug")


@pytest.mark.parametrize(
    ("method", "payload", "text"),
    [
        ("queue-status", {}, "a named queue is required"),
        ("queue-status", {"name": "foo"}, "'foo' is not a valid queue"),
        ("queue-start", {"start": True, "all": False}, "Use --all to apply this command to all queues"),
        ("queue-start", {"start": True, "all": False, "name": "foo"}, "'foo' is not a valid queue"),
        ("queue-enable", {"enable": False, "all": True}, "reason is required for disable"),
    ],
)
def test_errors(handle: flux.Flux, method: str, payload: object, text: str) -> None:
    assert error_of(lambda: handle.rpc(f"job-manager.{method}", payload).get()) == (errno.EINVAL, text)


def test_a_job_moves_to_another_queue(handle: flux.Flux) -> None:
    jobid = submit(handle)
    update = {"id": jobid, "updates": {"attributes.system.queue": "debug"}}
    handle.rpc("job-manager.update", update).get()
    system = system_of(handle, jobid)
    assert (system["queue"], system["constraints"]) == ("debug", {})
    assert error_of(lambda: handle.rpc("job-manager.update", update).get())[1] == "job queue is already set to debug"
    update["updates"] = {"attributes.system.queue": "nope"}
    assert error_of(lambda: handle.rpc("job-manager.update", update).get())[1] == "'nope' is not a valid queue"


BAD = [
    (
        {"policy": {"limits": {"duration": "x"}}},
        "error parsing [policy.limits] config table: 'duration' is not a valid FSD",
    ),
    (
        {"policy": {"limits": {"job-size": {"max": {"ncores": -2}}}}},
        "error parsing [policy.limits.max] config table: values must be >= -1",
    ),
    (
        {"policy": {"jobspec": {"defaults": {"system": {"duration": "x"}}}}},
        "error parsing [policy.jobspec] config table: 'defaults.system.duration' is not a valid FSD",
    ),
    (
        {"policy": {"jobspec": {"defaults": {"system": {"queue": "nope"}}}}},
        "the [policy] config table defines a default queue nope that is not in [queues] table",
    ),
    (
        {"policy": {"access": {"allow-user": 3}}},
        "error parsing [policy.access] config table: 'allow-user' must be a string array",
    ),
    ({"policy": {"foo": 1}}, "error parsing [policy] config table: 1 object item(s) left unpacked: foo"),
    ({"queues": 1}, "error parsing [queues] config table: not a table"),
    ({"queues": {"a": {"foo": 1}}}, "error parsing [queues.a] config table: 1 object item(s) left unpacked: foo"),
    (
        {"queues": {"a": {"requires": ["x y"]}}},
        "error parsing [queues.a] config table: 'requires' must be an array of property strings (RFC 20)",
    ),
    (
        {"queues": {"a": {"policy": {"jobspec": {"defaults": {"system": {"queue": "a"}}}}}}},
        "error parsing [queues.a] config table: 'policy' must not define a default queue!",
    ),
    ({"queues": {"a": {"parent": "b"}}}, "error parsing [queues.a] config table: parent queue 'b' is not configured"),
    ({"queues": {"a": {"parent": "a"}}}, "error parsing [queues.a] config table: parent queue is itself"),
    (
        {"queues": {"a": {"parent": "b"}, "b": {"parent": "c"}, "c": {}}},
        "error parsing [queues.a] config table: parent queue 'b' is itself a virtual queue",
    ),
    (
        {"queues": {"a": {"parent": "b", "requires": ["x"]}, "b": {}}},
        "error parsing [queues.a] config table: a virtual queue must not set 'requires'",
    ),
    (
        {"queues": {"a": {"parent": "b", "policy": {"scheduler": {}}}, "b": {}}},
        "error parsing [queues.a] config table: a virtual queue must not set 'policy.scheduler'",
    ),
]


@pytest.mark.parametrize(("config", "text"), BAD)
def test_configurations_that_will_not_do(config: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=r"config table") as error:
        read(config)
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.05, "50ms"), (7200, "2h"), (3599, "60m"), (100000, "1.2d"), (1e7, "1.2e+02d"), (59, "59s"), (300, "5m")],
)
def test_durations_as_limits_print_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("table", "text"),
    [
        (3, "error parsing [job-manager] config table: not a table"),
        ({"plugins": 3}, "[job-manager]: plugins must be an array of tables"),
        ({"plugins": [{"lod": "x"}]}, "[job-manager.plugins]: unknown key lod: there are load, conf and remove"),
    ],
)
def test_a_table_that_is_none_is_refused_and_no_end(handle: flux.Flux, table: object, text: str) -> None:
    reload = handle.rpc("job-manager.config-reload", {"job-manager": table})
    assert error_of(reload.get) == (errno.EINVAL, text)
    assert "max_jobid" in handle.rpc("job-manager.getinfo").get()


def test_jobs_whose_queue_is_stopped_say_so(start_broker: Callable[..., BrokerThread]) -> None:
    broker = start_broker(config={"queues": {"a": {}, "b": {"parent": "a"}}})
    with broker.open() as handle, Player(broker.uri) as player:

        def start(name: str, **more: object) -> None:
            payload = {"start": True, "all": False, "name": name, **more}
            handle.rpc("job-manager.queue-start", payload).get()

        def annotations(jobid: int) -> object:
            answer = handle.rpc("job-list.list-id", {"id": jobid, "attrs": ["all"]}).get()
            return flux.job.JobInfo(answer["job"]).contextual_info

        jobs = []
        for name in ("a", "b"):
            jobspec = JobspecV1.from_command(["true"])
            jobspec.setattr("system.queue", name)
            jobs.append(int(flux.job.submit(handle, jobspec)))
        assert [annotations(jobid) for jobid in jobs] == ["queue a is stopped", "queue b is stopped"]
        start("b")
        start("a", start=False, reason="maintenance")
        eventually(lambda: annotations(jobs[0]) == "queue a is stopped: maintenance")
        assert annotations(jobs[1]) == "queue a is stopped: maintenance"
        assert player.started == []
        start("a")
        handle.rpc("job-manager.drain").get()
        assert [names(handle, jobid)[-1] for jobid in jobs] == ["clean", "clean"]
        for jobid in jobs:
            alloc = next(event for event in events(handle, jobid) if event["name"] == "alloc")
            assert alloc["context"]["annotations"].keys() == {"sched"}
            assert alloc["context"]["annotations"]["sched"].keys() == {"resource_summary"}
