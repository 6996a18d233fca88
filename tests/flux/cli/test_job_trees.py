"""Instances in jobs of instances, as flux pstree shows them (spec 08, 10.5).

The instance here has a job `outer`, an instance that has finished a job `done`, runs one `inner` and has three `wait`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fluxlet.testing import Instance

FLUX = str(Path(sys.executable).parent / "flux")

#: What `outer` does; a line of output says that all is as it should be.
OUTER = """
flux run --job-name=done true
flux submit --quiet --job-name=inner sleep inf
flux submit --quiet --cc=1-3 --job-name=wait true
flux job wait-event -q $(flux jobs -no '{id}' --name=inner) start
echo ready
sleep inf
"""


class Nested(NamedTuple):
    """The instance, and the id of the job that is one as well."""

    instance: Instance
    outer: str

    def run(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Runs ``flux WORDS``."""
        env = {**self.instance.environ, "LC_ALL": "C.UTF-8", "COLUMNS": "132", **environ}
        return subprocess.run([FLUX, *words], env=env, capture_output=True, text=True, timeout=60, check=False)

    def lines(self, *words: str, **environ: str) -> list[str]:
        """What the command prints, when it works."""
        done = self.run(*words, **environ)
        assert (done.stderr, done.returncode) == ("", 0)
        return done.stdout.splitlines()


@pytest.fixture(scope="module")
def nested() -> Iterator[Nested]:
    config = {"resource": {"noverify": True, "config": [{"hosts": "here", "cores": "0-3", "gpus": "0"}]}}
    with Instance(config=config) as instance:
        words = [FLUX, "submit", "--job-name=outer", "-n1", FLUX, "start", "sh", "-c", OUTER]
        environ = {**instance.environ, "PATH": f"{Path(FLUX).parent}:{os.environ['PATH']}"}
        outer = subprocess.run(words, env=environ, capture_output=True, text=True, check=True).stdout.strip()
        watch = [FLUX, "job", "attach", outer]
        with subprocess.Popen(watch, env=instance.environ, stdout=subprocess.PIPE, text=True) as attached:
            assert attached.stdout is not None
            assert attached.stdout.readline() == "ready\n"
            attached.kill()
        yield Nested(instance, outer)


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ([], [".", "└── outer", "    └── inner"]),
        (["-a"], [".", "└── outer", "    ├── 3*[wait:S]", "    ├── inner:R", "    └── done:CD"]),
        (["-a", "-c1"], [".", "└── outer", "    └── wait:S"]),
        (["-L0", "--ascii"], [".", "`-- outer"]),
        (["-p", "-C"], [". .", "└─ƒ outer", "  └─inner"]),
        (["-f", "pending,running", "-X", "-C"], [".", "└─outer", *["  ├─wait"] * 3, "  └─inner"]),
        (["--parent-label={ntasks}", "-o{name}?", "--skip-root=yes"], ["1", "└── inner?"]),
        (["-n", "--detail-format={name:>6}"], [" outer outer", " inner └── inner"]),
        (
            ["-d", "stats", "--detail-format={name:<6} {instance.stats}"],
            ["NAME   STATS", "outer  PD:3 R:1 CD:1 F:0 outer", "inner  └── inner"],
        ),
    ],
)
def test_the_tree(nested: Nested, words: list[str], lines: list[str]) -> None:
    found = [line.replace(nested.outer, "ƒ") for line in nested.lines("pstree", *words)]
    assert [" ".join(line.split()) for line in found] == [" ".join(line.split()) for line in lines]


def test_details_stand_before_the_tree(nested: Nested) -> None:
    assert nested.lines("pstree", "-d", "resources") == [
        "       JOBID NODES  USED CORES  USED  GPUS  USED",
        f"{nested.outer:>12}     1     1     1     1     0     0 outer",
        nested.lines("pstree", "-nd", "resources")[1],
    ]
    header, root, *rest = nested.lines("pstree", "-x", "--skip-root=no")
    assert header.split() == ["JOBID", "USER", "ST", "NTASKS", "NNODES", "RUNTIME"]
    assert root == " " * len(header) + " ."
    assert [line[-5:] for line in rest] == ["outer", "inner"]


def test_lines_are_cut_to_the_terminal(nested: Nested) -> None:
    assert nested.lines("pstree", COLUMNS="8")[1:] == ["└── out+", "    └──+"]
    assert nested.lines("pstree", "-l", COLUMNS="8")[1:] == ["└── outer", "    └── inner"]


def test_an_instance_knows_which_job_it_is(nested: Nested) -> None:
    found = nested.lines("proxy", nested.outer, FLUX, "pstree", "-p", FLUX_URI_RESOLVE_LOCAL="t")
    assert found == [f"{nested.outer} outer", "└── inner"]


def test_jobs_by_their_ids(nested: Nested) -> None:
    assert nested.lines("pstree", nested.outer) == ["outer", "└── inner"]
    done = nested.run("pstree", nested.outer, "ƒ1")
    assert (done.stdout, done.returncode) == ("outer\n└── inner\n", 0)
    assert done.stderr == "flux-pstree: ERROR: JobID ƒ1 unknown\n"
    assert nested.run("pstree", "ƒ1").returncode == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-d", "bogus"], "Unknown --details format 'bogus'"),
        (["-o", "{bogus}"], "Error in user format: Unknown format field: bogus"),
        (["-f", "bogus"], "Invalid filter specified: bogus"),
    ],
)
def test_errors(nested: Nested, words: list[str], text: str) -> None:
    done = nested.run("pstree", *words)
    assert (done.stdout, done.stderr, done.returncode) == ("", f"flux-pstree: ERROR: {text}\n", 1)
