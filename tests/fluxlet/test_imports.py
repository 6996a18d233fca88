"""What processes read when they start: reading code is what most of their time goes into.

Not a matter of time here: each list names what is not to be read by who does not need it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fluxlet.testing import Instance

FLUX = str(Path(sys.executable).parent / "flux")
#: Of the standard library and others: read in milliseconds each. (`inspect` is what typing_extensions begins with.)
HEAVY = {
    "argparse",
    "asyncio",
    "concurrent.futures",
    "ctypes",
    "dataclasses",
    "inspect",
    "logging",
    "lz4",
    "parsedatetime",
    "pathlib",
    "rich",
    "secrets",
    "shutil",
    "sqlite3",
    "string",
    "subprocess",
    "tempfile",
    "traceback",
    "urllib.parse",
    "yaml",
    "zmq",
}


def imported(environ: dict[str, str], *words: str) -> set[str]:
    """The modules that the process of a `flux` command imports, in the course of its life."""
    environ = {**environ, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run([FLUX, *words], env=environ, capture_output=True, text=True, check=True)
    lines = [line.split("|") for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {name.strip() for _, _, name in lines}


@pytest.fixture
def environ() -> dict[str, str]:
    """The environment of a user who is in no instance."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("FLUX_", "PMI_", "SLURM_"))}


def test_instance_that_runs_no_job_reads_no_more_than_it_needs(environ: dict[str, str]) -> None:
    # Who asks has all modules loaded, and tells nothing of what it imports itself.
    found = imported(environ, "start", "env", "-u", "PYTHONPROFILEIMPORTTIME", FLUX, "getattr", "size")
    assert "fluxlet.modules.job_exec.job" in found
    unwanted = {"flux.core.dynamic", "fluxlet.modules.cron.entry", "fluxlet.modules.job_list.table", "_sqlite3"}
    unwanted |= {"fluxlet.modules.rexec.server", "fluxlet.broker.test_options"}
    assert sorted(found & (HEAVY | unwanted)) == []


#: What options are read with, and what errors are told with, is read by all commands that submit or list.
USED = {"argparse", "logging", "string", "traceback"}


@pytest.mark.parametrize(
    ("words", "used"),
    [
        (("getattr", "size"), set()),
        (("jobs",), USED),
        (("run", "/bin/true"), USED),
        (("submit", "/bin/true"), USED),
    ],
)
def test_commands_read_no_more_than_they_need(words: tuple[str, ...], used: set[str]) -> None:
    with Instance() as instance:
        found = imported(instance.environ, *words)
    assert "flux.core.handle" in found
    unwanted = HEAVY - used | {"flux.core.dynamic", "fluxlet.broker.main", "msgspec"}
    assert sorted(found & unwanted) == []
