"""flux terminus: programs on terminals that stay, on any rank."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Terminal

from fluxlet.testing import Instance

FLUX = str(Path(sys.executable).parent / "flux")


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with Instance(size=2) as started:
        yield started


def environ(instance: Instance) -> dict[str, str]:
    return {**instance.environ, "TERM": "vt100", "PATH": os.environ["PATH"], "SHELL": "/bin/sh", "PS1": "$ "}


def terminus(instance: Instance, *words: str, input: str | None = None) -> tuple[list[str], str, int]:
    done = subprocess.run(
        [FLUX, "terminus", *words],
        env=environ(instance),
        input=input,
        stdin=subprocess.DEVNULL if input is None else None,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.splitlines(), done.stderr, done.returncode


def attached(instance: Instance, *words: str) -> Terminal:
    return Terminal([FLUX, "terminus", *words], environ(instance))


def until_no_server(instance: Instance, *options: str) -> None:
    deadline = time.monotonic() + 30.0
    while terminus(instance, "list", *options)[2] == 0:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_session_stays_when_its_client_leaves(instance: Instance) -> None:
    with attached(instance, "start", "-r1", "-n", "mine", "sh", "-c", 'read a; echo "got $a"; read b; exit $b') as one:
        one.type("first\r")
        one.expect("got first")
        one.type("\x02d")
        one.expect("[detached]")
        assert one.end()[0] == 0
    (header, line), err, status = terminus(instance, "list", "-r", "1")
    assert (header.split(), err, status) == (["ID", "CLIENTS", "CREATED", "NAME"], "", 0)
    assert [line.split()[at] for at in (0, 1, -1)] == ["0", "0", "mine"]
    with attached(instance, "attach", "-r1", "0") as two:
        two.type("7\r")
        assert two.end()[0] == 7
    until_no_server(instance, "-r1")


def test_the_program_has_the_terminal_for_its_own(instance: Instance) -> None:
    script = 'trap "stty size" WINCH; trap "exit 5" INT; tty; stty size; while :; do sleep 0.05; done'
    with attached(instance, "start", "sh", "-c", script) as program:
        program.expect("/dev/")
        program.resize(30, 100)
        program.expect("30 100")
        program.type("\x03")
        assert program.end()[0] == 5
    until_no_server(instance)
    with attached(instance, "start") as shell:
        shell.type("echo $((40+2))\r")
        shell.expect("42\r\n")
        shell.type("exit 6\r")
        assert shell.end()[0] == 6
    until_no_server(instance)


def test_what_is_written_waits_for_a_client(instance: Instance) -> None:
    assert terminus(instance, "start", "-d", "-w", "sh", "-c", "echo early; exit 3") == (["0"], "", 0)
    assert terminus(instance, "start", "-d", "cat") == (["1"], "", 0)
    out, err, status = terminus(instance, "attach", "-p", "0")
    assert (out, err, status) == (["early"], "", 3)
    out, err, status = terminus(instance, "attach", "-p", "1", input="typed\n")
    assert (sorted(out), err, status) == (["typed", "typed"], "", 0)
    until_no_server(instance)


def test_sessions_are_ended(instance: Instance) -> None:
    for number in ("0", "1"):
        assert terminus(instance, "start", "-d", "-s", "other", "sleep", "inf") == ([number], "", 0)
    assert terminus(instance, "kill", "-s", "other", "0") == ([], "", 0)
    deadline = time.monotonic() + 30.0
    while len(terminus(instance, "list", "-s", "other")[0]) > 2:
        assert time.monotonic() < deadline
    assert terminus(instance, "kill-server", "-s", "other") == ([], "", 0)
    until_no_server(instance, "-s", "other")


def test_errors(instance: Instance) -> None:
    def error(*words: str) -> str:
        out, err, status = terminus(instance, *words)
        assert (out, status) == ([], 1)
        return err.removeprefix("flux-terminus: ").rstrip("\n")

    assert "on rank 0: start a session first" in error("list")
    assert error("start") == "stdin is not a terminal: use --detach"
    assert error("start", "-d", "/no/such") == "/no/such: No such file or directory"
    until_no_server(instance)
    assert error("attach", "0") == "stdin is not a terminal: use --pipe, or start --detach"
    assert error("attach", "-p", "0") == "there is no session 0"
    assert error("kill", "x") == "'x' is not the id of a session"
    assert error("list", "-r", "x") == "Option 'rank' requires an integer argument"
