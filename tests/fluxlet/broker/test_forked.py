"""Processes that begin as copies of the broker: what they have of it, and what they do not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import flux
from fluxlet.testing import Instance

#: Forks from within a callback of a loop that watches signals, as the broker does.
PROGRAM = """
import json, os, signal, sys
from flux.reactor import Reactor
from fluxlet.broker.forked import fork

kept = open(os.devnull)
reactor = Reactor()
reactor.signal(signal.SIGTERM, lambda signum: print("handled", flush=True)).start()
reactor.signal(signal.SIGUSR1, lambda signum: None).start()

def main():
    {main}

def go():
    pid = fork(main, {{"A": "1"}})
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(json.dumps(["parent", code, pid]), flush=True)
    reactor.stop()

reactor.timer(0.0, 0.0, go).start()
reactor.run()
"""


def run(main: str) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(main=main)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, input="input")


def test_copy_has_its_own_environment_group_and_descriptors() -> None:
    descriptors = "sorted(map(int, os.listdir('/dev/fd')))"
    told = f"[dict(os.environ), os.getpgrp() == os.getpid(), {descriptors}, os.read(0, 9).decode()]"
    done = run(f"print(json.dumps({told}), flush=True); return 7")
    copy, parent = (json.loads(line) for line in done.stdout.splitlines())
    environ, leads, opened, read = copy
    assert (environ, leads, read) == ({"A": "1"}, True, "")
    assert opened[:3] == [0, 1, 2]
    assert len(opened) <= 4  # the directory itself
    assert parent[:2] == ["parent", 7]


def test_copy_does_not_handle_signals_as_its_parent_does() -> None:
    done = run("os.kill(os.getpid(), signal.SIGTERM); return 0")
    assert [json.loads(line)[:2] for line in done.stdout.splitlines()] == [["parent", -15]]


def test_signals_that_a_loop_of_the_copy_watches_are_its_own() -> None:
    code = "r = Reactor(); r.signal(signal.SIGUSR1, lambda signum: r.stop()).start(); "
    done = run(code + "os.kill(os.getpid(), signal.SIGUSR1); r.run(); return 5")
    assert [json.loads(line)[:2] for line in done.stdout.splitlines()] == [["parent", 5]]
    assert done.stderr == ""


def test_error_ends_the_copy_alone() -> None:
    done = run("raise KeyError('mine')")
    assert [json.loads(line)[:2] for line in done.stdout.splitlines()] == [["parent", 1]]
    assert "KeyError: 'mine'" in done.stderr


def test_copy_can_fork_again() -> None:
    done = run("pid = os.fork(); pid or os._exit(3); return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])")
    assert [json.loads(line)[:2] for line in done.stdout.splitlines()] == [["parent", 3]]
    assert done.stderr == ""


def test_how_large_the_starter_of_a_broker_is_does_not_matter() -> None:
    asked = [sys.executable, "-c", "from fluxlet.broker.forked import may_fork; print(may_fork())"]
    large = "large = b'x' * (300 << 20); from fluxlet.broker.forked import may_fork; print(may_fork(), flush=True)"
    program = f"import subprocess; {large}; subprocess.run({asked!r}, check=True)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


def test_nobody_is_warned_of_the_threads_of_a_broker() -> None:
    with Instance(size=2, env={"PYTHONWARNINGS": "always"}) as instance:
        instance.run("flux", "run", "-N2", "-n2", "true", check=True)
        with instance.handle() as handle:
            broker = int(handle.attr_get("broker.pid"))
        assert "flux-shell" in {Path(f"/proc/{pid}/comm").read_text().strip() for pid in below(broker)}
    assert "Warning" not in instance.output


def targets(pid: int) -> set[str]:
    """What the descriptors of a process lead to, apart from the standard streams."""
    directory = Path(f"/proc/{pid}/fd")
    return {os.readlink(entry) for entry in directory.iterdir() if int(entry.name) > 2}


def test_job_shell_holds_nothing_of_the_broker() -> None:
    with Instance() as instance:
        instance.run("flux", "run", "true", check=True)
        with instance.handle() as handle:
            broker = int(handle.attr_get("broker.pid"))
            assert isinstance(handle, flux.Flux)
        children = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in below(broker)}
        (shell,) = (pid for pid, comm in children.items() if comm == "flux-shell")
        (keeper,) = (pid for pid, comm in children.items() if comm == "flux-keeper")
        shared = {target for target in targets(broker) if not target.startswith(("anon_inode:", "/dev/"))}
        assert len(shared) > 2
        assert not shared & (targets(shell) | targets(keeper))


def below(pid: int) -> set[int]:
    """The descendants of a process."""
    found: set[int] = set()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found |= {int(child)} | below(int(child))
    return found
