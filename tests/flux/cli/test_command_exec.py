"""flux exec and flux sproc, on two ranks in a process of their own."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_instance import Instance, recording

import flux

pytest_plugins = ["linked_instance"]

VECTORS = Path(__file__).parents[2] / "vectors"
CLI = [json.loads(line) for line in (VECTORS / "exec-cli.jsonl").read_text().splitlines()]
#: What the recorded broker had besides: its own programs.
OWN = "-:R:0:flux module-python-exec\nrc2:R:0:sh\n"
ATTACH_WITHOUT_INPUT = "flux exec -n --attach -r 0 foo"  # fails in the reference; see below


@pytest.fixture
def environ(linked_instance: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of commands, with `flux` on their path."""
    program = tmp_path / "bin" / "flux"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m fluxlet.cmd.driver "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}:/usr/bin:/bin"
    return {"PATH": path, "HOME": "/nonexistent", "FLUX_URI": f"local://{linked_instance}/local-0"}


@pytest.fixture
def run(environ: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run_line(line: str, input: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", line], env=environ, input=input, capture_output=True, text=True, timeout=60, check=False
        )

    return run_line


@pytest.fixture
def start(environ: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started = []

    def start_words(*words: str, **options: Any) -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        started.append(subprocess.Popen(["flux", *words], env=environ, text=True, **pipes))
        return started[-1]

    old = os.environ["PATH"]
    os.environ["PATH"] = environ["PATH"]
    yield start_words
    os.environ["PATH"] = old
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()


def test_all_recorded_commands_print_what_they_printed(
    run: Callable[..., subprocess.CompletedProcess[str]], environ: dict[str, str]
) -> None:
    for recorded in CLI:
        line = recorded["cmd"]
        if line == ATTACH_WITHOUT_INPUT:
            continue
        done = run(line, recorded.get("stdin", ""))
        stdout, stderr = recorded["stdout"].replace(OWN, ""), recorded["stderr"]
        told = done.stderr
        if stderr.startswith("Usage: "):
            stderr, told = stderr[:24], told[:24]  # options are explained in other words
        if stderr.count("Error: rank"):
            # Of several ranks it is chance which one is first.
            stderr, told = "".join(sorted(stderr)), "".join(sorted(told))
        if "-l " in line:
            stdout, done.stdout = sorted(stdout), sorted(done.stdout)  # type: ignore[assignment]
        assert (done.stdout, told, done.returncode) == (stdout, stderr, recorded["rc"]), line


def test_many_ranks_are_fed_the_same(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    text = "".join(f"line {number}\n" for number in range(50_000))
    done = run("flux exec -l md5sum", text)
    sums = {line.split()[1] for line in done.stdout.splitlines()}
    assert (len(done.stdout.splitlines()), len(sums)) == (2, 1)


def test_bytes_that_are_no_text_pass(environ: dict[str, str]) -> None:
    data = bytes(range(256)) * 1000
    words = [sys.executable, "-m", "fluxlet.cmd.driver", "exec", "-r", "1", "cat"]
    done = subprocess.run(words, env=environ, input=data, capture_output=True, timeout=60, check=True)
    assert done.stdout == data


def test_without_flow_control(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    assert run("flux exec --stdin-flow=off -r 0 cat", "hello\n").stdout == "hello\n"


def test_verbose_tells_what_goes_on(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    lines = run("flux exec -nv true").stderr.splitlines()
    assert [re.sub(r"^\d+\.\d{6}ms: ", "", line) for line in lines] == [
        "Starting true on [0-1]",
        "Sent all requests",
        "2 tasks complete with code 0",
    ]


def test_the_environment_goes_along_but_for_what_is_about_the_connection(
    run: Callable[..., subprocess.CompletedProcess[str]], environ: dict[str, str]
) -> None:
    line = "MARK=1 FLUX_PROXY_REMOTE=x flux exec -r 1 sh -c 'echo $MARK.$FLUX_PROXY_REMOTE.$DBUS_SESSION_BUS_ADDRESS'"
    assert run(line).stdout == f"1..unix:path=/run/user/{os.getuid()}/bus\n"
    assert run("flux exec -r 1 sh -c 'echo $FLUX_URI'").stdout == environ["FLUX_URI"].replace("local-0", "local-1\n")


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_handed_on(start: Callable[..., subprocess.Popen[str]], signum: int, code: int) -> None:
    process = start("exec", "sh", "-c", "echo ready; exec sleep 1000")
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    process.send_signal(signum)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (code, f"[0-1]: {signal.strsignal(signum)}\n")


def test_who_insists_leaves_and_takes_the_processes_along(
    start: Callable[..., subprocess.Popen[str]], linked_instance: Path
) -> None:
    process = start("exec", "sh", "-c", "trap 'echo caught' INT; echo ready; while :; do sleep 0.01; done")
    assert process.stdout is not None
    assert process.stderr is not None
    assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    process.send_signal(signal.SIGINT)
    assert [process.stdout.readline() for _ in range(2)] == ["caught\n"] * 2
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "flux-exec: interrupt (Ctrl+C) one more time within 1.00 sec to exit\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (1, "[0-1]: command still running at exit\n")
    with flux.Flux(f"local://{linked_instance}/local-0") as handle:
        wait_until_empty(handle)


def wait_until_empty(handle: flux.Flux) -> None:
    deadline = time.monotonic() + 60.0
    while any(handle.rpc("rexec.list", nodeid=rank).get()["procs"] for rank in (0, 1)):
        assert time.monotonic() < deadline


def _catches(pid: int, signum: int) -> bool:
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return caught is not None and bool(int(caught[1], 16) >> (signum - 1) & 1)


def test_who_is_attached_detaches_by_an_interrupt(
    run: Callable[..., subprocess.CompletedProcess[str]], start: Callable[..., subprocess.Popen[str]]
) -> None:
    line = "flux exec --bg --label=bg -r 1 sh -c 'trap \"echo heard\" USR1; while :; do sleep 0.01; done'"
    pid = run(line).stdout.split()[1]
    process = start("exec", "-n", "--attach", "-r", "1", "bg")
    assert process.stdout is not None
    # It is attached once it hears of the process.
    deadline = time.monotonic() + 60.0
    while not _catches(int(pid), signal.SIGUSR1):
        assert time.monotonic() < deadline
    os.set_blocking(process.stdout.fileno(), False)
    while not process.stdout.readline():
        assert time.monotonic() < deadline
        os.kill(int(pid), signal.SIGUSR1)
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    assert process.stderr is not None
    assert process.stderr.read() == "flux-exec: detached; use 'flux sproc kill bg' to signal it\n"
    assert run("flux sproc kill -r 1 9 bg").returncode == 0


def test_a_reader_that_leaves_ends_it(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    done = run("flux exec yes | head -3")
    assert (done.stdout, done.stderr, done.returncode) == ("y\ny\ny\n", "", 0)


@pytest.mark.parametrize(
    ("line", "stdout"),
    [
        ("flux exec -r 1 cat <&-; echo $?", "0\n"),
        ("flux exec -r 1 echo hi >&-; echo $?", "0\n"),
        ("flux exec -r 1 sh -c 'echo err >&2; echo out' 2>&-; echo $?", "out\n0\n"),
    ],
)
def test_without_a_standard_stream(
    run: Callable[..., subprocess.CompletedProcess[str]], line: str, stdout: str
) -> None:
    assert run(line).stdout == stdout


def test_a_terminal_as_input(environ: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    words = [sys.executable, "-m", "fluxlet.cmd.driver", "exec", "-r", "1", "cat"]
    process = subprocess.Popen(words, env=environ, stdin=theirs, stdout=subprocess.PIPE, start_new_session=True)
    os.write(ours, b"typed\n\x04")
    stdout, _ = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert (stdout, process.returncode) == (b"typed\n", 0)


def test_requests_are_those_of_the_reference() -> None:
    with tempfile.TemporaryDirectory(prefix="flux-", dir="/tmp") as directory:
        instance = Instance(directory, settings={"security.owner": str(os.getuid())})
        try:
            assert instance.run("exec", "-n", "-r", "0", "true").returncode == 0
        finally:
            instance.stop()
    sent = [line for line in instance.take() if line["topic"].startswith("rexec.")]
    wanted = [line for line in recording("exec-true", 0) if line["topic"].startswith("rexec.")]
    for line in (*sent, *wanted):
        if line["topic"] == "rexec.exec":
            line["payload"]["cmd"] = {**line["payload"]["cmd"], "env": {}, "cwd": ""}
        else:
            line["payload"]["matchtag"] = 0
    assert sent == wanted
