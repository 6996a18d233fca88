"""Workflow tools, as they are on PyPI, on an instance of ours: executorlib, PSI/J, Parsl, Maestro, Snakemake.

`./run interop` installs them beside Fluxlet, and runs these. A tool that is not installed is left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = pytest.mark.nightly

BIN = Path(sys.executable).parent

EXECUTORLIB = """
from executorlib import FluxJobExecutor

def add(a, b):
    return a + b

if __name__ == "__main__":
    with FluxJobExecutor(max_workers=2) as executor:
        print([future.result() for future in [executor.submit(add, n, 1) for n in range(4)]])
    with FluxJobExecutor(max_cores=2, max_workers=1, block_allocation=True) as executor:
        print(executor.submit(add, 1, 1).result())
"""

CLUSTER = """
from executorlib import FluxClusterExecutor, FluxJobExecutor

def level(_):
    import flux
    return int(flux.Flux().attr_get("instance-level"))

if __name__ == "__main__":
    with FluxClusterExecutor(resource_dict={"cores": 1}, cache_directory="cache") as executor:
        print([future.result() for future in [executor.submit(level, n) for n in range(2)]])
    with FluxJobExecutor(flux_executor_nesting=True, max_workers=1) as executor:
        print(executor.submit(level, 0).result())
"""

PSIJ = """
import psij

executor = psij.JobExecutor.get_instance("flux")
resources = psij.ResourceSpecV1(process_count=1, cpu_cores_per_process=1)
job = psij.Job(psij.JobSpec(executable="/bin/echo", arguments=["hello"], resources=resources, stdout_path="out"))
executor.submit(job)
print(job.wait().state.name, open("out").read().strip())
"""

PARSL = """
import parsl
from parsl.app.app import python_app
from parsl.config import Config
from parsl.executors import FluxExecutor

parsl.load(Config(executors=[FluxExecutor(flux_path={flux!r})], run_dir="runinfo"))

@python_app
def square(x):
    return x * x

print([future.result() for future in [square(n) for n in range(5)]])
parsl.dfk().cleanup()
"""

STUDY = """
description: {name: hello, description: two steps}
batch: {type: flux, host: local, bank: none, queue: none, nodes: 1, procs: 1}
study:
  - name: first
    description: writes
    run: {cmd: "echo hello > hello.txt", nodes: 1, procs: 1}
  - name: second
    description: writes as a job of the first one's kind
    run: {cmd: "$(LAUNCHER) sh -c 'echo bye > bye.txt'", nodes: 1, procs: 1, depends: [first]}
"""

SNAKEFILE = """
rule all:
    input: "a.out", "b.out"
rule each:
    output: "{n}.out"
    shell: "echo {wildcards.n} > {output}"
"""


def in_an_instance(directory: Path, *command: str, start: bool = True) -> str:
    environ = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    words = [str(BIN / "flux"), "start", *command] if start else list(command)
    done = subprocess.run(words, cwd=directory, env=environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def program(directory: Path, text: str) -> str:
    (directory / "program.py").write_text(text)
    return str(directory / "program.py")


def needs(module: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(module) is None, reason=f"{module} is not installed: ./run interop")


@needs("executorlib")
def test_executorlib_runs_functions_as_jobs(tmp_path: Path) -> None:
    printed = in_an_instance(tmp_path, sys.executable, program(tmp_path, EXECUTORLIB))
    assert printed.splitlines() == ["[1, 2, 3, 4]", "2"]


@needs("pysqa")
def test_executorlib_runs_functions_in_batch_jobs(tmp_path: Path) -> None:
    printed = in_an_instance(tmp_path, sys.executable, program(tmp_path, CLUSTER))
    assert printed.splitlines() == ["[1, 1]", "1"]


@needs("psij")
def test_psij_submits_and_follows_a_job(tmp_path: Path) -> None:
    printed = in_an_instance(tmp_path, sys.executable, program(tmp_path, PSIJ))
    assert printed.splitlines() == ["COMPLETED hello"]


@needs("parsl")
def test_parsl_starts_an_instance_of_its_own(tmp_path: Path) -> None:
    text = PARSL.format(flux=str(BIN / "flux"))
    printed = in_an_instance(tmp_path, sys.executable, program(tmp_path, text), start=False)
    assert printed.splitlines()[-1] == "[0, 1, 4, 9, 16]"


@needs("maestrowf")
def test_maestro_runs_a_study(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    in_an_instance(tmp_path, "maestro", "run", "-y", "-fg", "-s", "1", "-o", "out", "study.yaml")
    assert (tmp_path / "out" / "first" / "hello.txt").read_text() == "hello\n"
    assert (tmp_path / "out" / "second" / "bye.txt").read_text() == "bye\n"


@needs("snakemake_executor_plugin_flux")
def test_snakemake_runs_its_rules_as_jobs(tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    in_an_instance(tmp_path, "snakemake", "--executor", "flux", "--jobs", "2")
    assert [(tmp_path / f"{n}.out").read_text() for n in "ab"] == ["a\n", "b\n"]
