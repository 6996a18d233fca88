"""flux exec over many ranks, and what becomes of it when ranks are lost (spec 04, section 8)."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flux
import flux.job
import flux.subprocess
from flux.idset import IDset
from fluxlet.testing import Instance

SIZE = 8
PATIENCE = 60.0


def wait_until(condition: Callable[[], Any], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def make() -> Instance:
    return Instance(SIZE, attributes={"tbon.topo": "kary:2"}, env={"SHELL": "/bin/sh"})


@pytest.fixture(scope="module")
def tree() -> Iterator[Instance]:
    """Eight brokers in a binary tree: leave them as you have found them."""
    with make() as instance:
        yield instance


@pytest.fixture
def own_tree() -> Iterator[Instance]:
    """Eight brokers in a binary tree, for one test alone."""
    with make() as instance:
        yield instance


def run(instance: Instance, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return instance.run("flux", "exec", *words, capture_output=True, text=True, timeout=PATIENCE, **options)


def start(instance: Instance, *words: str, uri: str | None = None) -> subprocess.Popen[str]:
    environ = instance.environ | ({"FLUX_URI": uri} if uri is not None else {})
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(["/usr/bin/env", "flux", "exec", *words], env=environ, text=True, **pipes)  # type: ignore[call-overload,no-any-return]


def cmds(handle: flux.Flux, rank: int) -> list[str]:
    return [entry.cmd for entry in flux.subprocess.list(handle, nodeid=rank).get_processes() if entry.label != "rc2"]


@pytest.mark.parametrize("size", [1, 3, 16, pytest.param(32, marks=pytest.mark.nightly)])
def test_a_command_runs_on_all_ranks(size: int) -> None:
    words = ["flux", "start", f"--test-size={size}", "flux", "exec", "-l", "sh", "-c", "echo $(flux getattr rank)"]
    if size > 16:
        words[-1] = "echo here"  # that many at once take their time
    with Instance(1, env={"SHELL": "/bin/sh"}) as outer:
        done = outer.run(*words, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    lines = sorted(done.stdout.splitlines(), key=lambda line: int(line.split(":")[0]))
    assert lines == [f"{rank}: {rank if size <= 16 else 'here'}" for rank in range(size)]


def test_ranks_are_chosen_and_their_exit_codes_told(tree: Instance) -> None:
    done = run(tree, "-n", "-r", "1-3,7", "-x", "2", "sh", "-c", "exit $(flux getattr rank)")
    assert (done.returncode, done.stderr) == (7, "1: Exit 1\n3: Exit 3\n7: Exit 7\n")
    assert run(tree, "-n", "false").stderr == "[0-7]: Exit 1\n"


def test_input_goes_to_all_and_output_comes_from_all(tree: Instance) -> None:
    text = "".join(f"{number}\n" for number in range(100_000))
    done = run(tree, "-l", "md5sum", input=text)
    digest = hashlib.md5(text.encode()).hexdigest()
    assert sorted(done.stdout.splitlines()) == [f"{rank}: {digest}  -" for rank in range(SIZE)]
    done = run(tree, "-r", "7", "seq", "1", "20000")
    assert done.stdout == "".join(f"{number}\n" for number in range(1, 20_001))


def test_the_nodes_of_a_job_by_its_shells(tree: Instance) -> None:
    submitted = tree.run("flux", "submit", "-N2", "-n2", "sleep", "1000", capture_output=True, text=True, check=True)
    job = submitted.stdout.strip()
    jobid = int(flux.job.JobID(job))
    with tree.handle() as handle:
        asked = {"id": jobid, "attrs": ["state", "ranks"]}
        wait_until(lambda: handle.rpc("job-list.list-id", asked).get()["job"]["state"] == 16, "the job")
        ranks = list(IDset(handle.rpc("job-list.list-id", asked).get()["job"]["ranks"]))

        def runs() -> bool:
            return run(tree, "-n", "-l", "-j", job, "echo", "here").stdout.count("here") == 2

        wait_until(runs, "the shells")
        done = run(tree, "-n", "-l", "-r", "1", "-j", job, "sh", "-c", "flux getattr rank")
        assert done.stdout == f"{ranks[1]}: {ranks[1]}\n"
        done = run(tree, "-n", "-r", "2", "-j", job, "true")
        assert (done.returncode, done.stderr) == (1, "flux-exec: One or more invalid --ranks specified: 2\n")
        flux.job.cancel(handle, jobid)
        wait_until(lambda: handle.rpc("job-list.list-id", asked).get()["job"]["state"] == 64, "its end")
    done = run(tree, "-n", "-j", job, "true")
    assert (done.returncode, done.stderr) == (1, f"flux-exec: job {job} is not currently running\n")


def test_a_signal_reaches_all_ranks(tree: Instance) -> None:
    process = start(tree, "sh", "-c", "echo ready; exec sleep 1000")
    with process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(SIZE)] == ["ready\n"] * SIZE
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (143, "[0-7]: Terminated\n")


def test_processes_end_with_a_client_that_is_killed(tree: Instance) -> None:
    process = start(tree, "sh", "-c", "echo ready; exec sleep 1000")
    with process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(SIZE)] == ["ready\n"] * SIZE
        process.kill()
    with tree.handle() as handle:
        wait_until(lambda: not any(cmds(handle, rank) for rank in range(SIZE)), "the end of the processes")


def test_a_process_that_floods_a_reader_far_away_stops(tree: Instance) -> None:
    process = start(tree, "-r", "7", "sh", "-c", "echo $$; exec yes 1234567890123456789012345678901234567890")
    with process, tree.handle() as handle:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        # Nobody reads. Everybody else is served all the time,
        spent: list[str] = []
        while len(spent) < 5 or len(set(spent[-5:])) > 1:
            assert handle.rpc("broker.ping", {}, 7).get()
            # and in the end the process waits: it spends no time any more.
            spent.append(" ".join(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
            time.sleep(0.05)
        assert flux_memory(tree.rank_pid(7)) < 100
        process.kill()
        wait_until(lambda: not cmds(handle, 7), "the end of the process")


def flux_memory(pid: int) -> int:
    """What a process takes, in MB."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) // 1024


def test_a_lost_rank_is_told_and_the_others_run(own_tree: Instance) -> None:
    process = start(own_tree, "-n", "sh", "-c", "echo $(flux getattr rank); exec sleep 1000")
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert sorted(process.stdout.readline() for _ in range(SIZE)) == [f"{rank}\n" for rank in range(SIZE)]
        own_tree.kill_rank(7)
        assert process.stderr.readline() == "flux-exec: Error: rank 7: sh: No route to host\n"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE)
        assert (process.returncode, errors) == (143, "[0-6]: Terminated\n")
    done = run(own_tree, "-n", "-l", "echo", "hello")
    assert (done.returncode, done.stderr) == (68, "flux-exec: Error: rank 7: echo: No route to host\n")
    assert sorted(done.stdout.splitlines()) == [f"{rank}: hello" for rank in range(SIZE - 1)]
    own_tree.kill_rank(1)
    wait_until(lambda: run(own_tree, "-n", "-r", "3", "true").returncode == 68, "the loss of rank 3")
    done = run(own_tree, "-n", "true")
    assert sorted(map(int, re.findall(r"rank (\d): true: No route to host\n", done.stderr))) == [1, 3, 4, 7]


def test_nothing_is_left_of_a_lost_rank(own_tree: Instance, tmp_path: Path) -> None:
    # What it has run ends, by its guardian; and what a client there has started elsewhere, by the others.
    near = start(own_tree, "-n", "-r", "7", "sh", "-c", f"echo $$ > {tmp_path}/near; exec sleep 1000")
    far = start(own_tree, "-n", "-r", "2", "sleep", "1000", uri=own_tree.rank_uri(7))
    with near, far, own_tree.handle() as handle:
        wait_until(lambda: cmds(handle, 2) == ["sleep"] and cmds(handle, 7) == ["sh"], "the processes")
        wait_until(lambda: (tmp_path / "near").exists() and (tmp_path / "near").read_text(), "its word")
        pid = int((tmp_path / "near").read_text())
        own_tree.kill_rank(7)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the process of rank 7")
        wait_until(lambda: not cmds(handle, 2), "the end of the process at rank 2")
        assert near.wait(PATIENCE) == 68
        assert far.wait(PATIENCE) == 1  # its connection is lost
