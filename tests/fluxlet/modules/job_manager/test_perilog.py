"""Prologs, epilogs and housekeeping: commands around jobs."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_process import BrokerThread, error_of
from job_player import Player
from job_recordings import eventually
from managed_jobs import WHOLE, events, names

import flux
from flux.job import JobID, JobspecV1
from fluxlet.modules.job_manager.base import Base

Start = Callable[..., BrokerThread]


def submit(handle: flux.Flux, *command: str) -> JobID:
    return flux.job.submit(handle, JobspecV1.from_command(list(command)))


def run(start: Start, config: dict[str, Any], command: str = "true") -> tuple[list[str], list[dict[str, Any]]]:
    """Runs one job with a [job-manager] table; returns the names of its events, and the events."""
    broker = start(config={"job-manager": config})
    with broker.open() as handle, Player(broker.uri):
        jobid = submit(handle, command)
        handle.rpc("job-manager.drain").get()
        return names(handle, jobid), events(handle, jobid)


def test_a_prolog_comes_before_the_start_and_an_epilog_before_the_end(start_broker: Start, tmp_path: Path) -> None:
    script = f"echo $0 $FLUX_JOB_ID $FLUX_JOB_USERID >>{tmp_path}/log"
    config = {kind: {"command": ["sh", "-c", script, kind]} for kind in ("prolog", "epilog")}
    found, log = run(start_broker, config)
    assert found == [
        *WHOLE[:5],
        "prolog-start",
        "prolog-finish",
        "start",
        "finish",
        "epilog-start",
        *WHOLE[7:8],
        "epilog-finish",
        "free",
        "clean",
    ]
    assert log[6]["context"] == {"description": "job-manager.prolog", "status": 0}
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["prolog", "epilog"]
    assert lines[0].split()[1:] == lines[1].split()[1:]


def test_a_prolog_that_fails_ends_the_job_after_its_epilog(start_broker: Start) -> None:
    config = {"prolog": {"command": ["sh", "-c", "exit 3"]}, "epilog": {"command": ["true"]}}
    found, log = run(start_broker, config)
    assert found[5:] == [
        "prolog-start",
        "exception",
        "epilog-start",
        "prolog-finish",
        "epilog-finish",
        "free",
        "clean",
    ]
    context = log[6]["context"]
    assert (context["type"], context["severity"]) == ("prolog", 0)
    assert context["note"].startswith("prolog exited with code=3")
    assert log[8]["context"]["status"] == 3 << 8


def test_a_prolog_that_cannot_be_run_says_why(start_broker: Start) -> None:
    found, log = run(start_broker, {"prolog": {"command": ["/nowhere/prolog"]}})
    assert found[5:] == ["prolog-start", "exception", "prolog-finish", "free", "clean"]
    assert (
        log[6]["context"]["note"]
        == "prolog could not be run: error launching process: No such file or directory (rank 0)"
    )


def test_an_epilog_that_fails_is_told_of(start_broker: Start) -> None:
    found, log = run(start_broker, {"epilog": {"command": ["false"]}})
    assert "exception" in found
    context = log[found.index("exception")]["context"]
    assert (context["type"], context["severity"]) == ("epilog", 2)
    assert found[-2:] == ["free", "clean"]


def test_a_prolog_that_takes_too_long_is_ended(start_broker: Start) -> None:
    found, log = run(start_broker, {"prolog": {"command": ["sleep", "60"], "timeout": "50ms"}})
    assert log[found.index("exception")]["context"]["note"].startswith("prolog timed out after 0.050s")


def test_canceling_a_job_ends_its_prolog(start_broker: Start) -> None:
    broker = start_broker(config={"job-manager": {"prolog": {"command": ["sleep", "60"]}}})
    with broker.open() as handle, Player(broker.uri) as player:
        jobid = submit(handle, "true")
        eventually(lambda: "prolog-start" in names(handle, jobid))
        flux.job.cancel(handle, jobid)
        handle.rpc("job-manager.drain").get()
        assert names(handle, jobid)[5:] == ["prolog-start", "exception", "prolog-finish", "free", "clean"]
        assert not player.started


def test_housekeeping_keeps_resources_from_others(start_broker: Start, tmp_path: Path) -> None:
    script = f"echo $FLUX_JOB_RANKS >{tmp_path}/ranks; while ! test -e {tmp_path}/go; do sleep 0.01; done"
    broker = start_broker(config={"job-manager": {"housekeeping": {"command": ["sh", "-c", script]}}})
    with broker.open() as handle, Player(broker.uri, cores=1) as player:
        first, second = submit(handle, "true"), submit(handle, "true")
        eventually(lambda: names(handle, first)[-1] == "clean" and (tmp_path / "ranks").exists())
        stats = handle.rpc("job-manager.stats-get").get()["housekeeping"]
        assert [house["pending"] for house in stats["running"].values()] == ["0"]
        allocated = handle.rpc("job-manager.resource-status").get()["allocated"]
        assert allocated["execution"]["R_lite"] == [{"rank": "0", "children": {"core": "0"}}]
        assert names(handle, second)[-1] == "priority"
        (tmp_path / "go").touch()
        handle.rpc("job-manager.drain").get()
        assert player.started == [first, second]


def test_housekeeping_can_be_killed(start_broker: Start) -> None:
    broker = start_broker(config={"job-manager": {"housekeeping": {"command": ["sleep", "60"]}}})
    with broker.open() as handle, Player(broker.uri, cores=1) as player:
        submit(handle, "true")
        handle.rpc("job-manager.drain").get()
        eventually(lambda: handle.rpc("job-manager.stats-get").get()["housekeeping"]["running"])
        for signum in (0, -1, 65):
            kill = {"signum": signum}
            assert error_of(lambda kill=kill: handle.rpc("job-manager.housekeeping-kill", kill).get()) == (
                errno.EINVAL,
                "Invalid signal number",
            )

        def killed() -> bool:
            handle.rpc("job-manager.housekeeping-kill", {"signum": 15}).get()
            return bool(player.free)

        eventually(killed)


@pytest.mark.parametrize(
    "config",
    [
        {"prolog": {"command": "true"}},
        {"prolog": {}},
        {"epilog": {"command": ["x"], "timeout": "y"}},
        {"epilog": {"command": ["x"], "foo": 1}},
        {"perilog": {"log-ignore": ["("]}},
        {"housekeeping": {"command": []}},
        {"housekeeping": {"command": ["x"], "release-after": "y"}},
        {"inactive-age-limit": "x"},
        {"inactive-num-limit": -1},
    ],
)
def test_configurations_that_will_not_do(start_broker: Start, config: dict[str, Any]) -> None:
    broker = start_broker()
    with broker.open() as handle:
        errno, text = error_of(lambda: handle.rpc("job-manager.config-reload", {"job-manager": config}).get())
        assert errno == 22
        assert "job-manager" in text
        assert isinstance(broker.broker.modules["job-manager"].instance, Base)
