"""flux pmi, under the job shell and alone (spec 04, 3.2)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fluxlet.testing import Instance

FLUX = str(Path(sys.executable).parent / "flux")


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with Instance(config={"resource": {"noverify": True, "config": [{"hosts": "a", "cores": "0-3"}]}}) as started:
        yield started


def flux(environ: dict[str, str], *words: str) -> tuple[list[str], str, int]:
    done = subprocess.run(
        [FLUX, *words], env=environ, capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL
    )
    return done.stdout.splitlines(), done.stderr, done.returncode


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        (["barrier"], r"ƒ\w+: completed barrier on 3 tasks\."),
        (["barrier", "--test-timing", "--test-count=5"], r"ƒ\w+: completed barrier on 3 tasks in \d+\.\d{3}s\."),
        (["exchange", "--count=2"], r"ƒ\w+: completed exchange on 3 tasks in \d+\.\d{3}s\."),
    ],
)
def test_one_task_tells_for_all_of_them(instance: Instance, words: list[str], pattern: str) -> None:
    (line,), err, status = flux(instance.environ, "run", "-ocpu-affinity=off", "-n3", FLUX, "pmi", *words)
    assert (err, status) == ("", 0)
    assert re.fullmatch(pattern, line)


def test_values_are_printed_by_the_ranks_that_are_named(instance: Instance) -> None:
    get = (
        "run",
        "-ocpu-affinity=off",
        "-l",
        "-n3",
        FLUX,
        "pmi",
        "get",
        "--ranks=1-2",
        "flux.taskmap",
        "flux.instance-level",
    )
    out, err, status = flux(instance.environ, *get)
    assert (err, status) == ("", 0)
    values = ('{"version":1,"map":[[0,1,3,1]]}', "1")
    assert sorted(out) == sorted(f"{rank}: {value}" for rank in (1, 2) for value in values)


def test_a_rank_aborts_all_of_them(instance: Instance) -> None:
    _, err, status = flux(
        instance.environ, "run", "-ocpu-affinity=off", "-n3", FLUX, "pmi", "barrier", "--test-abort=2"
    )
    assert "PMI_Abort: flux-pmi: rank 2 is aborting" in err
    assert status != 0


def test_who_waits_for_others_may_have_had_enough(instance: Instance) -> None:
    alone = 'test $FLUX_TASK_RANK = 0 || exec sleep inf; exec "$0" pmi --timeout=50ms barrier'
    _, err, status = flux(instance.environ, "run", "-oexit-on-error", "-n2", "sh", "-c", alone, FLUX)
    assert "flux-pmi: timed out\n" in err
    assert status != 0


def test_alone() -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("PMI_", "SLURM_", "FLUX_"))}
    assert flux(environ, "pmi", "barrier") == (["single: completed barrier on 1 task."], "", 0)
    for words, text in (
        (["get", "foo"], "get foo: there is no such key"),
        (["--method=simple", "barrier"], "no method works here of: simple"),
        (["--method=libpmi", "barrier"], "libpmi: there is no such method here"),
        (["--timeout=1x", "barrier"], "Invalid argument for option 'timeout': '1x'"),
    ):
        assert flux(environ, "pmi", *words) == ([], f"flux-pmi: {text}\n", 1)
