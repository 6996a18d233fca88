"""Processes of `rexec` in a whole instance: its helpers are listed, and nothing outlives it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import until
from started import StartedInstance

import flux
from flux.constants import FLUX_RPC_STREAMING


@pytest.fixture
def instance(start_instance: Callable[[], StartedInstance]) -> Iterator[StartedInstance]:
    started = start_instance()
    yield started
    started.kill()


def command(*words: str, **fields: Any) -> dict[str, Any]:
    return {"cmdline": list(words), "env": {}, "opts": {}, "channels": [], **fields}


def background(handle: flux.Flux, *words: str, **fields: Any) -> int:
    return int(handle.rpc("rexec.exec", {"cmd": command(*words, **fields), "flags": 0}).get()["pid"])


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def start_family(handle: flux.Flux, directory: Path) -> list[int]:
    """Starts a process in the background with a child; a daemon whose parent has ended; and one in the foreground."""
    pids = [background(handle, "sh", "-c", f"sleep 1000 & echo $! > {directory}/child; wait")]
    background(handle, "sh", "-c", f"(trap '' HUP; exec sleep 1000) >/dev/null 2>&1 & echo $! > {directory}/daemon")
    request = {"cmd": command("sleep", "1000"), "flags": 3}
    ran = handle.rpc("rexec.exec", request, 0, FLUX_RPC_STREAMING)
    pids.append(ran.get()["pid"])
    for name in ("child", "daemon"):
        path = directory / name
        until(lambda path=path: path.exists() and path.read_text().endswith("\n"))  # type: ignore[misc]
        pids.append(int(path.read_text()))
    until(lambda: len(handle.rpc("rexec.list").get()["procs"]) == 3)  # the parent of the daemon has ended
    assert all(map(alive, pids))
    return pids


def test_the_programs_of_the_broker_itself_are_listed_and_can_be_signaled(instance: StartedInstance) -> None:
    with instance.handle() as handle:
        procs = handle.rpc("rexec.list").get()["procs"]
        assert [(entry["label"], entry["state"]) for entry in procs] == [("rc2", "R")]
        assert handle.rpc("rexec.kill", {"pid": -1, "label": "rc2", "signum": int(signal.SIGKILL)}).get() is None
    assert instance.wait() == 137


def test_nothing_outlives_an_instance_that_ends(instance: StartedInstance, tmp_path: Path) -> None:
    with instance.handle() as handle:
        pids = start_family(handle, tmp_path)
        instance.stop()
        assert not any(map(alive, pids))


def test_nothing_outlives_a_broker_that_is_killed(instance: StartedInstance, tmp_path: Path) -> None:
    with instance.handle() as handle:
        pids = start_family(handle, tmp_path)
        instance.kill()
        until(lambda: not any(map(alive, pids)))


def test_a_process_that_ends_is_no_zombie(instance: StartedInstance) -> None:
    with instance.handle() as handle:
        for _ in range(20):
            background(handle, "true")
        until(lambda: len(handle.rpc("rexec.list").get()["procs"]) == 1)
    children = Path(f"/proc/{instance.pid}/task/{instance.pid}/children").read_text().split()
    states = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in children]
    assert "Z" not in states
    assert len(os.listdir(f"/proc/{instance.pid}/fd")) < 40


def test_cron_runs_its_commands_through_it(instance: StartedInstance, tmp_path: Path) -> None:
    path = tmp_path / "ran"
    line = f"echo $FLUX_URI > {path}; echo told"
    words = ("module", "reload", "cron", "sync=heartbeat.pulse", "sync_epsilon=1m")
    assert instance.run("flux", *words, capture_output=True).returncode == 0
    assert instance.run("flux", "cron", "interval", "-c", "1", "0.01s", line, capture_output=True).returncode == 0
    until(lambda: path.exists() and path.read_text() == f"{instance.uri}\n")
    until(lambda: "told" in instance.log())
