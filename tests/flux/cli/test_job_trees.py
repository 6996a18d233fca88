"""Instances in jobs of instances, as flux pstree and flux top show them (spec 08, 10.5 and 10.6).

The instance here has a job `outer`, an instance that has finished a job `done`, runs one `inner` and has three `wait`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from terminal import Terminal

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


# flux top.


def top(nested: Nested, *words: str, **environ: str) -> Terminal:
    env = {"PATH": os.environ["PATH"], "TERM": "vt100", "LC_ALL": "C.UTF-8", "FLUX_URI": nested.instance.uri, **environ}
    return Terminal([FLUX, "top", *words], env)


def see(terminal: Terminal, *texts: str) -> None:
    """Waits until the screen has some texts: it is drawn anew (Ctrl-L) and looked at until then."""
    deadline = time.monotonic() + 60.0
    while True:
        terminal.seen = ""
        terminal.type("\x0c")
        terminal.quiet(0.2)
        if all(text in terminal.seen for text in texts):
            return
        assert time.monotonic() < deadline, f"no {texts} in {terminal.seen!r}"


def test_top_goes_into_an_instance_and_comes_back(nested: Nested) -> None:
    with top(nested) as terminal:
        see(terminal, "outer")
        terminal.type("\r")
        see(terminal, "1/1]", "3 pending", "inner")
        terminal.type("\r")
        see(terminal, "is not an instance")
        terminal.type("q")
        see(terminal, "outer")
        terminal.type("q")
        assert terminal.end()[0] == 0


def test_top_counts_what_has_ended_in_one_or_by_result(nested: Nested) -> None:
    with top(nested, nested.outer, FLUX_URI_RESOLVE_LOCAL="t") as terminal:
        see(terminal, "1 complete,  0 failed")
        terminal.type("d")
        see(terminal, "1 inactive")
        terminal.type("\x03")
        assert terminal.end()[0] == -signal.SIGINT


def test_top_follows_the_size_of_the_terminal(nested: Nested) -> None:
    with top(nested, LC_ALL="C") as terminal:
        see(terminal, "outer")
        for lines, columns in ((1, 1), (3, 20), (50, 300)):
            terminal.resize(lines, columns)
        see(terminal, "outer")
        terminal.type("q")
        assert terminal.end()[0] == 0


def test_top_writes_what_it_knows_to_a_file(nested: Nested, tmp_path: Path) -> None:
    with top(nested, f"--test-exit-dump={tmp_path / 'dump'}") as terminal:
        assert terminal.end()[0] == 0
    user = nested.lines("jobs", "-no", "{username}")[0]
    assert (tmp_path / "dump").read_text().splitlines() == [
        *("0 pending", "1 running", "0 complete", "0 failed", "nodes 1/1", "cores 1/4", "gpus 0/1"),
        f"{nested.outer} {user} R 1 1 outer",
    ]


@pytest.mark.parametrize(
    ("words", "environ", "text"),
    [
        (["nosuch"], {}, "failed to resolve target to a Flux URI"),
        (["-q", "nosuch"], {}, "No such queue: nosuch"),
        (["--color=loud"], {}, "invalid argument for --color: 'loud': use always, never or auto"),
        ([], {"TERM": "nosuch"}, "this terminal cannot be used"),
        ([], {"TERM": "dumb"}, "this terminal cannot be used: dumb cannot move the cursor"),
        ([], {"FLUX_URI": "local:///no/such"}, "flux_open: No such file or directory"),
    ],
)
def test_what_top_refuses(nested: Nested, words: list[str], environ: dict[str, str], text: str) -> None:
    with top(nested, *words, **environ) as terminal:
        terminal.expect(f"flux-top: {text}")
        assert terminal.end()[0] == 1


def test_top_wants_a_terminal(nested: Nested) -> None:
    done = subprocess.run(
        [FLUX, "top"], env=nested.instance.environ, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert (done.stderr, done.returncode) == ("flux-top: stdin is not a terminal\n", 1)
