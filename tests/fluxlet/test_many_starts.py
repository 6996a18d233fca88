"""Instances that come and go, in good order and killed at any moment: no process, socket or directory is left."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

#: Starts in the normal run, and in that of the night.
FEW, MANY = 15, 200


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """The environment of instances whose directories are all in one place, by which their processes are known, too."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FLUX_")}
    place = tmp_path / "t"
    place.mkdir()
    return {**clean, "TMPDIR": str(place), "SHELL": "/bin/sh"}


def processes(environ: dict[str, str]) -> list[str]:
    """The processes of these instances: what they are called."""
    mark = f"\0TMPDIR={environ['TMPDIR']}\0".encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if mark in b"\0" + Path(f"/proc/{entry}/environ").read_bytes() + b"\0":
                    found.append(f"{entry} {Path(f'/proc/{entry}/comm').read_text().strip()}")
            except OSError:
                continue  # it has just ended
    return found


def left(environ: dict[str, str]) -> list[str]:
    """What there is of these instances: processes, listening sockets, directories."""
    sockets = [line for line in Path("/proc/net/unix").read_text().splitlines() if environ["TMPDIR"] in line]
    return processes(environ) + sockets + os.listdir(environ["TMPDIR"])


def until_nothing_is_left(environ: dict[str, str]) -> None:
    deadline = time.monotonic() + 60.0
    while left(environ):
        assert time.monotonic() < deadline, left(environ)
        time.sleep(0.005)


def start(environ: dict[str, str], *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fluxlet", "start", *words]
    return subprocess.Popen(
        command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def in_good_order(environ: dict[str, str], count: int) -> None:
    for _ in range(count):
        with start(environ, "sh", "-c", "sleep 1000 & echo up") as instance:
            assert instance.communicate(timeout=60) == ("up\n", "")
        assert instance.returncode == 0
        until_nothing_is_left(environ)


def killed(environ: dict[str, str], count: int, signum: int, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(count):
        with start(environ, "sh", "-c", "sleep 1000 & exec sleep 1000") as instance:
            # From before Python has started until the program runs, in even steps and a little more.
            time.sleep((number % 16 + rng.random()) * 0.01)
            instance.send_signal(signum)
            try:
                instance.wait(60)
            except subprocess.TimeoutExpired:
                instance.kill()
                raise
            # What is left must hear of it by itself: nobody reads any more.
        until_nothing_is_left(environ)


def test_started_and_ended_again_and_again(environ: dict[str, str]) -> None:
    in_good_order(environ, FEW)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_killed_at_any_moment(environ: dict[str, str], signum: int) -> None:
    killed(environ, FEW, signum, seed=1)


@pytest.mark.nightly
def test_started_and_ended_two_hundred_times(environ: dict[str, str]) -> None:
    in_good_order(environ, MANY)


@pytest.mark.nightly
@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
def test_killed_two_hundred_times(environ: dict[str, str], signum: int) -> None:
    killed(environ, MANY, signum, seed=random.randrange(1 << 30))


def test_what_nobody_could_clean_up_the_next_start_does(environ: dict[str, str]) -> None:
    with start(environ, "sh", "-c", "echo up; exec sleep 1000") as instance:
        assert instance.stdout is not None
        assert instance.stdout.readline() == "up\n"
        # All at once, the guardian too.
        pids = [int(line.partition(" ")[0]) for line in processes(environ)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    assert len(pids) >= 3
    assert os.listdir(environ["TMPDIR"])
    with start(environ, "true") as instance:
        assert instance.communicate(timeout=60) == ("", "")
    until_nothing_is_left(environ)
