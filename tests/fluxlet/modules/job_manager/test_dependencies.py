"""Dependencies: on other jobs, on time, and on being alone."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from typing import Any

import pytest
from in_process import BrokerThread, error_of
from job_player import Player
from job_recordings import eventually
from managed_jobs import WHOLE, events, names

import flux
from flux.job import JobID

Submit = Callable[..., JobID]


def on(scheme: str, value: object) -> list[dict[str, Any]]:
    return [{"scheme": scheme, "value": str(value)}]


def notes(handle: flux.Flux, jobid: int) -> list[str]:
    return [event["context"]["note"] for event in events(handle, jobid) if event["name"] == "exception"]


OUTCOMES = [
    ("afterany", "true", True),
    ("afterany", "false", True),
    ("afterok", "true", True),
    ("afterok", "false", False),
    ("afternotok", "true", False),
    ("afternotok", "false", True),
    ("afterexcept", "true", False),
    ("afterexcept", "missing", True),
    ("afterstart", "true", True),
]

DESCRIPTIONS = {
    "afterany": "after-finish",
    "afterok": "after-success",
    "afternotok": "after-failure",
    "afterexcept": "after-except",
    "afterstart": "after-start",
}


@pytest.mark.parametrize(("scheme", "command", "satisfied"), OUTCOMES)
def test_on_a_job_that_is_active(
    handle: flux.Flux, broker_thread: BrokerThread, submit: Submit, scheme: str, command: str, satisfied: bool
) -> None:
    first = submit(command)
    second = submit("true", dependencies=on(scheme, first.f58))
    description = f"{DESCRIPTIONS[scheme]}={first.f58}"
    assert names(handle, second) == ["submit", "dependency-add", "validate"]
    listed = handle.rpc("job-manager.list", {"max_entries": 0}).get()["jobs"]
    assert [job["dependencies"] for job in listed if job["id"] == second] == [[description]]
    with Player(broker_thread.uri):
        handle.rpc("job-manager.drain").get()
    if satisfied:
        assert names(handle, second) == ["submit", "dependency-add", "validate", "dependency-remove", *WHOLE[2:]]
    else:
        assert names(handle, second) == ["submit", "dependency-add", "validate", "exception", "clean"]
        assert notes(handle, second) == [f"dependency {description} can never be satisfied"]


@pytest.mark.parametrize(("scheme", "command", "satisfied"), OUTCOMES)
def test_on_a_job_that_has_ended(
    handle: flux.Flux, player: Player, submit: Submit, scheme: str, command: str, satisfied: bool
) -> None:
    first = submit(command)
    handle.rpc("job-manager.drain").get()
    if satisfied:
        second = submit("true", dependencies=on(scheme, int(first)), urgency=0)
        assert names(handle, second)[:4] == ["submit", "dependency-add", "dependency-remove", "validate"]
    else:
        found = error_of(lambda: submit("true", dependencies=on(scheme, int(first))))
        assert found[0] == errno.EINVAL
        assert found[1].startswith(f"dependency: {scheme}: job {int(first)}")


def test_on_a_job_that_never_starts(handle: flux.Flux, submit: Submit) -> None:
    first = submit("true", urgency=0)
    dependents = [submit("true", dependencies=on(scheme, first.f58)) for scheme in ("afterok", "afternotok")]
    anyway = submit("true", dependencies=on("afterany", first.f58), urgency=0)
    flux.job.cancel(handle, first)
    for dependent in dependents:
        assert notes(handle, dependent)[0].endswith("job never started")
    assert names(handle, anyway)[-1] == "priority"
    refused = error_of(lambda: submit("true", dependencies=on("afterok", first.f58)))
    assert refused == (errno.EINVAL, f"dependency: after: {first.f58} never started")


@pytest.mark.parametrize(
    ("scheme", "value", "text"),
    [
        ("afterok", "f0-", 'dependency: afterok: "f0-" is not a valid jobid'),
        ("afterany", "123", "dependency: afterany: id 123: job not found"),
        ("begin-time", "x", "Invalid begin-time=x"),
        ("begin-time", "-1", "Invalid begin-time=-1"),
        ("begin-time", "nan", "Invalid begin-time=nan"),
        ("begin-time", "inf", "Invalid begin-time=inf"),
        ("singleton", "", "singleton jobs require a job name"),
        ("string", "x", 'dependency scheme "string" not supported'),
    ],
)
def test_what_is_refused(submit: Submit, scheme: str, value: str, text: str) -> None:
    assert error_of(lambda: submit("true", dependencies=on(scheme, value))) == (errno.EINVAL, text)


def test_the_same_dependency_twice_is_one(handle: flux.Flux, player: Player, submit: Submit) -> None:
    first = submit("sleep")
    second = submit("true", dependencies=on("afterany", first.f58) * 2)
    eventually(lambda: first in player.running)
    player.finish(first)
    handle.rpc("job-manager.drain").get()
    assert names(handle, second) == ["submit", "dependency-add", "validate", "dependency-remove", *WHOLE[2:]]


def test_a_job_that_waits_for_two_waits_for_both(handle: flux.Flux, player: Player, submit: Submit) -> None:
    first, second = submit("sleep"), submit("sleep")
    third = submit("true", dependencies=on("afterany", first.f58) + on("afterok", second.hex))
    eventually(lambda: len(player.running) == 2)
    player.finish(first)
    eventually(lambda: names(handle, third)[-1] == "dependency-remove")
    player.finish(second)
    handle.rpc("job-manager.drain").get()
    assert names(handle, third)[-1] == "clean"


def test_the_deprecated_scheme_says_so(handle: flux.Flux, submit: Submit) -> None:
    first = submit("true", urgency=0)
    second = submit("true", dependencies=on("after", first.f58))
    assert names(handle, second) == ["submit", "exception", "dependency-add", "validate"]
    assert notes(handle, second) == ["dependency scheme 'after' is deprecated, use 'afterstart'"]


def test_not_before_a_time(handle: flux.Flux, player: Player, submit: Submit) -> None:
    when = time.time() + 0.3
    later = submit("true", dependencies=on("begin-time", when))
    canceled = submit("true", dependencies=on("begin-time", when + 3600))
    past = submit("true", dependencies=on("begin-time", 17))
    flux.job.cancel(handle, canceled)
    handle.rpc("job-manager.drain").get()
    assert names(handle, past)[-1] == names(handle, later)[-1] == "clean"
    log = events(handle, later)
    assert log[1]["context"] == {"description": f"begin-time={when:.3f}"}
    assert next(event for event in log if event["name"] == "dependency-remove")["timestamp"] >= when


def test_singletons_run_one_after_the_other(handle: flux.Flux, player: Player, submit: Submit) -> None:
    named = {"job.name": "only", "dependencies": on("singleton", "")}
    first, second, third = (submit("sleep", **named) for _ in range(3))
    other = submit("true", **{**named, "job.name": "another"})
    eventually(lambda: first in player.running and names(handle, other)[-1] == "clean")
    assert names(handle, second) == names(handle, third) == ["submit", "dependency-add", "validate"]
    query = handle.rpc("job-manager.jobtap-query", {"name": ".dependency-singleton"}).get()
    assert [group["singletons"] for key, group in query.items() if key.endswith(":only")] == [[second, third]]
    flux.job.cancel(handle, second)
    player.finish(first)
    eventually(lambda: third in player.running)
    player.finish(third)
    handle.rpc("job-manager.drain").get()
    assert names(handle, second)[-2:] == ["exception", "clean"]
