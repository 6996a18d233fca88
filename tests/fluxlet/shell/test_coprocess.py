"""The shell option coprocess: programs beside the tasks of a job (spec 07, 5.13)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxlet.testing import Instance

FLUX = str(Path(sys.executable).parent / "flux")


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    config = {"resource": {"noverify": True, "config": [{"hosts": "a,b", "cores": "0-1"}]}}
    with Instance(size=2, config=config) as started:
        yield started


def run(instance: Instance, directory: Path, coprocess: object, *words: str) -> tuple[str, int]:
    option = f"-ocoprocess={json.dumps(coprocess)}"
    done = subprocess.run(
        [FLUX, "run", option, *words],
        env=instance.environ,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stderr, done.returncode


#: Goes on until there is a file `seen`.
UNTIL_SEEN = ("sh", "-c", "until [ -e seen ]; do sleep 0.02; done")


def test_coprocesses_run_beside_the_tasks_until_these_have_ended(instance: Instance, tmp_path: Path) -> None:
    script = 'trap "echo ended; exit" TERM; echo "job $FLUX_JOB_ID" >&2; touch seen; while :; do sleep 0.02; done'
    beside = {"mon": {"command": ["sh", "-c", script]}}
    assert run(instance, tmp_path, beside, "-N1", *UNTIL_SEEN) == ("", 0)
    (log,) = tmp_path.glob("coproc-mon-*.log")
    job = log.name.removeprefix("coproc-mon-").removesuffix(".log")
    assert [line for line in log.read_text().splitlines() if line != "Terminated"] == [f"job {job}", "ended"]


def test_they_run_on_the_ranks_that_are_named(instance: Instance, tmp_path: Path) -> None:
    beside = {
        name: {"command": ["sh", "-c", "echo here; touch seen"], "ranks": ranks, "output": name}
        for name, ranks in (("one", "1"), ("none", "2"))
    }
    assert run(instance, tmp_path, beside, "-N2", *UNTIL_SEEN) == ("", 0)
    assert (tmp_path / "one").read_text() == "here\n"
    assert not (tmp_path / "none").exists()


def test_who_does_not_end_is_killed(instance: Instance, tmp_path: Path) -> None:
    beside = {"stays": {"command": ["sh", "-c", 'trap "" TERM; touch seen; while :; do sleep 0.02; done']}}
    assert run(instance, tmp_path, beside, "-ocoprocess-kill-timeout=50ms", *UNTIL_SEEN) == ("", 0)


@pytest.mark.parametrize("value", [1, {"a": 1}, {"a": {"command": []}}, {"a": {"command": ["true"], "ranks": "x"}}])
def test_what_is_no_coprocess_ends_the_job(instance: Instance, tmp_path: Path, value: object) -> None:
    err, status = run(instance, tmp_path, value, "true")
    assert status == 1
    assert "type=exec severity=0 coprocess: " in err
