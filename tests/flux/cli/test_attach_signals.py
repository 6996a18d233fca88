"""Signals to a program that is attached to a job, and what becomes of its input and output (spec 08, section 7)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from goldens import BIN
from started import StartedInstance

Start = Callable[..., "subprocess.Popen[str]"]

MORE = "flux-job: one more ctrl-C within 2s to cancel or ctrl-Z to detach\n"


@pytest.fixture(scope="module")
def instance() -> Iterator[StartedInstance]:
    instance = StartedInstance()
    yield instance
    instance.stop()


@pytest.fixture
def start(instance: StartedInstance) -> Iterator[Start]:
    processes: list[subprocess.Popen[str]] = []

    def started(*words: str, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(BIN / "flux"), *words],
            env={**os.environ, "FLUX_URI": instance.uri},
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield started
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.wait(timeout=60)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    subprocess.run(
        [str(BIN / "flux"), "cancel", "--all", "-q"], env={**os.environ, "FLUX_URI": instance.uri}, check=True
    )


def listening(start: Start) -> subprocess.Popen[str]:
    """A job of one task, with `flux run` attached to it."""
    process = start("run", "sh", "-c", "echo $FLUX_JOB_ID; exec sleep 1000")
    assert process.stdout is not None
    process.jobid = process.stdout.readline().strip()  # type: ignore[attr-defined]
    return process


def line(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline()


def test_the_second_interrupt_cancels_the_job(start: Start) -> None:
    process = listening(start)
    process.send_signal(signal.SIGINT)
    assert line(process) == MORE
    process.send_signal(signal.SIGINT)
    assert "type=cancel severity=0 interrupted by ctrl-C" in line(process)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM


def test_stop_after_an_interrupt_detaches(start: Start) -> None:
    process = listening(start)
    process.send_signal(signal.SIGINT)
    assert line(process) == MORE
    process.send_signal(signal.SIGTSTP)
    assert line(process) == "flux-job: detaching...\n"
    assert process.wait(timeout=60) == 1
    jobid: str = process.jobid  # type: ignore[attr-defined]
    state = start("jobs", "-no", "{state}", jobid).communicate(timeout=60)[0]
    assert state == "RUN\n"
    assert start("cancel", jobid).wait(timeout=60) == 0


def test_other_signals_are_the_jobs(start: Start) -> None:
    process = listening(start)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(timeout=60) == 128 + signal.SIGUSR1


def test_who_only_reads_is_interrupted_at_once(start: Start) -> None:
    job = listening(start)
    process = start("job", "attach", "-r", "-E", job.jobid)  # type: ignore[attr-defined]
    assert "job.submit" in line(process)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == -signal.SIGINT
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=60) == 128 + signal.SIGTERM


def test_who_writes_for_nobody_ends(start: Start) -> None:
    process = start("run", "yes")
    assert process.stdout is not None
    assert process.stdout.readline() == "y\n"
    process.stdout.close()
    assert process.wait(timeout=60) == -signal.SIGPIPE


def test_input_that_the_tasks_do_not_read_harms_nobody(start: Start, tmp_path: Path) -> None:
    (tmp_path / "input").write_text("of the file\n")
    os.mkfifo(tmp_path / "go")
    script = f"echo ready; read line < {tmp_path / 'go'}; cat"
    process = start("run", f"--input={tmp_path / 'input'}", "sh", "-c", script, stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("typed\n")
    process.stdin.close()
    assert process.stdout.readline() == "ready\n"
    (tmp_path / "go").write_text("\n")
    assert process.stdout.read() == "of the file\n"
    assert process.wait(timeout=60) == 0
