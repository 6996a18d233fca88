"""The resolvers of flux.uri: pid, slurm, lsf (spec 04, section 6). Slurm and CSM are played by scripts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flux.uri import FluxURIResolver

HERE = socket.gethostname()

#: Names itself, starts children with the FLUX_URIs of the arguments, and waits for the end of its input.
PROCESS = """
import subprocess, sys
with open("/proc/self/comm", "w") as file:
    file.write(sys.argv[1])
children = [
    subprocess.Popen(["sleep", "1000"], env={"FLUX_URI": uri} if uri else {}) for uri in sys.argv[2:]
]
print(flush=True)
sys.stdin.read()
for child in children:
    child.kill()
    child.wait()
"""


@pytest.fixture(autouse=True)
def no_preference(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FLUX_URI_RESOLVE_LOCAL", "SLURM_JOB_ID", "SLURMD_NODENAME"):
        monkeypatch.delenv(name, raising=False)


def resolve(target: str) -> str:
    return str(FluxURIResolver().resolve(target))


@pytest.fixture
def process() -> Iterator[Callable[..., int]]:
    """Starts a process: its name, the FLUX_URI of its environment, those of its children. Returns its pid."""
    running = []

    def start(name: str, uri: str | None, *children: str) -> int:
        environ = {key: value for key, value in os.environ.items() if key != "FLUX_URI"}
        if uri is not None:
            environ["FLUX_URI"] = uri
        pipe = subprocess.PIPE
        started = subprocess.Popen(
            [sys.executable, "-c", PROCESS, name, *children], env=environ, stdin=pipe, stdout=pipe
        )
        running.append(started)
        assert started.stdout is not None
        started.stdout.readline()
        return started.pid

    yield start
    for each in running:
        each.communicate(timeout=60)


def test_the_instance_of_a_process_is_that_of_its_environment(process: Callable[..., int]) -> None:
    assert resolve(f"pid:{process('program', 'local:///a', 'local:///b')}") == "local:///a"


def test_the_instance_of_a_broker_is_that_of_the_first_child_with_another(process: Callable[..., int]) -> None:
    pid = process("flux-broker-0", "local:///outer", "", "local:///outer", "local:///own", "local:///other")
    assert resolve(f"pid:{pid}") == "local:///own"


def test_a_process_without_instance(process: Callable[..., int]) -> None:
    for pid in (process("program", None, "local:///b"), process("flux-broker-0", "local:///outer", "")):
        with pytest.raises(ValueError, match=f"^PID {pid} doesn't seem to have a FLUX_URI$"):
            resolve(f"pid:{pid}")


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("pid:4194305", "PID 4194305 not found"),  # more than Linux gives
        ("pid:x", "x is not a process id"),
        ("pid:-1", "-1 is not a process id"),
        ("slurm:x", "x is not a Slurm job id"),
        ("lsf:x", "x is not an LSF job id"),
    ],
)
def test_what_is_no_process_or_job(target: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        resolve(target)


def test_a_broker_that_runs(instance_uri: str) -> None:
    import flux

    with flux.Flux(instance_uri) as handle:
        pid = handle.attr_get("broker.pid")
    assert resolve(f"pid:{pid}") == instance_uri


# Other job managers.


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a shell script into PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")

    def write(name: str, script: str) -> None:
        file = tmp_path / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)

    return write


LISTPIDS = """cat <<EOT
PID      JOBID    STEPID   LOCALID GLOBALID
{other}  42       0        1       1
-1       42       extern   0       0
{none}   42       batch    0       0
{pid}    42       0        0       0
EOT"""


def test_a_slurm_job_of_this_host(process: Callable[..., int], program: Callable[[str, str], None]) -> None:
    pid, none, other = process("p", "local:///a"), process("p", None), process("p", "local:///b")
    program("scontrol", LISTPIDS.format(pid=pid, none=none, other=other))
    assert resolve("slurm:42") == "local:///a"


def test_a_slurm_job_elsewhere_is_asked_there(program: Callable[[str, str], None]) -> None:
    program("scontrol", "echo slurm_load_jobs error >&2; exit 1")
    program("squeue", 'test "$*" = "--noheader --jobs=42 --format=%N" && echo "node[7-9]"')
    program(
        "srun",
        'test "$*" = "--overlap --jobid=42 -w node7 -n1 -N1 flux uri --remote slurm:42" && echo ssh://node7/tmp/x',
    )
    assert resolve("slurm:42") == "ssh://node7/tmp/x"


def test_a_slurm_job_without_instance(program: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    program("scontrol", "exit 1")
    program("squeue", "echo node7")
    program("srun", "echo nothing here >&2; exit 1")
    with pytest.raises(ValueError, match=r"^srun: nothing here$"):
        resolve("slurm:42")
    # There, the question ends.
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("SLURMD_NODENAME", "node7")
    with pytest.raises(ValueError, match=r"^no Flux instance found in Slurm job 42$"):
        resolve("slurm:42")


def test_a_slurm_job_that_waits(program: Callable[[str, str], None]) -> None:
    program("scontrol", "exit 1")
    program("squeue", "echo")
    with pytest.raises(ValueError, match=r"^Slurm job 42 has no hosts: it is not running$"):
        resolve("slurm:42")


def test_without_slurm_the_missing_program_is_named(program: Callable[[str, str], None]) -> None:
    with pytest.raises(FileNotFoundError, match="scontrol"):
        resolve("slurm:42")


def test_an_lsf_job(program: Callable[[str, str], None]) -> None:
    program("csm_allocation_query", "printf 'state: running\\ncompute_nodes:\\n - node1\\n - node2\\nuser: me\\n'")
    program("ssh", 'test "$1" = node2 && echo ssh://node2/tmp/x')
    assert resolve("lsf:42") == "ssh://node2/tmp/x"
    program("ssh", "exit 1")
    with pytest.raises(ValueError, match=r"^no Flux instance found in LSF job 42$"):
        resolve("lsf:42")
