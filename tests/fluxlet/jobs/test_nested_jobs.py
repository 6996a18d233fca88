"""Jobs that are instances: flux batch, flux alloc, and what users do with these (spec 07, section 7; spec 08, 6.4)."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from terminal import Terminal

from fluxlet.testing import Instance


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with Instance(3, env={"SHELL": "/bin/sh"}) as started:
        yield started


class User:
    """Types commands in a directory."""

    def __init__(self, instance: Instance, directory: Path) -> None:
        self.environ = {**instance.environ, "SHELL": "/bin/sh", "ENV": "/dev/null"}
        self.directory = directory

    def start(self, command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["/bin/sh", "-c", command],
            env=self.environ,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        child = self.start(command)
        stdout, stderr = child.communicate(timeout=60)
        return subprocess.CompletedProcess(command, child.returncode, stdout, stderr)

    def get(self, command: str) -> str:
        done = self.run(command)
        assert done.returncode == 0, done
        return done.stdout.strip()


@pytest.fixture
def user(instance: Instance, tmp_path: Path) -> Iterator[User]:
    typing = User(instance, tmp_path)
    yield typing
    typing.run("flux cancel --all --quiet; flux queue drain")


def marked(word: str) -> list[int]:
    """The processes with a word in their environment."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            try:
                environ = Path("/proc", name, "environ").read_bytes()
            except OSError:
                continue  # it has ended, or is not ours
            if f"MARK={word}".encode() in environ.split(b"\0"):
                found.append(int(name))
    return found


def test_a_batch_job_over_several_nodes(user: User) -> None:
    (user.directory / "job.sh").write_text(
        "#!/bin/sh\n"
        "#FLUX: -N2 --job-name=nested\n"
        "#FLUX: --output=out\n"
        "#FLUX: --conf=user.word='\"ours\"'\n"
        "echo $0 $@\n"
        "flux getattr size\n"
        "flux resource list -s up -no '{nnodes}'\n"
        "flux run -N2 flux getattr rank | sort\n"
        "flux config get user.word\n"
        "test $(flux getattr jobid) = $FLUX_ENCLOSING_ID && env | grep -c '^FLUX_JOB\\|^PMI_\\|^FLUX_KVS'\n"
        "exit 7\n"
    )
    name = user.get("flux batch job.sh one 'two three'")
    # The script is the job's.
    (user.directory / "job.sh").unlink()
    done = user.run(f"flux job attach -q {name}")
    assert done.returncode == 7
    first, *rest = (user.directory / "out").read_text().splitlines()
    assert first.endswith("/script one two three")
    # Which is the second of these lines depends on which broker is whose.
    assert rest[:-1] == ["2", "2", "0", "1", "ours", "0"]
    assert "script one two three Exited (rc=7)" in rest[-1]
    assert user.get("flux jobs -ano '{name} {returncode}'").splitlines()[0] == "nested 7"


def test_instances_in_instances_and_the_ways_between_them(user: User, instance: Instance) -> None:
    outer = user.get("flux alloc -N2 --bg")
    inner = user.get(f"flux proxy {outer} flux alloc -N1 --bg")
    memo = user.get(f"flux job wait-event -f json {outer} memo | grep -o 'ssh://[^\"]*'")
    assert user.get(f"flux uri {outer}") == memo
    asked = (
        "getattr instance-level",
        "getattr jobid-path",
        "getattr parent-uri",
        "-p getattr jobid",
        "-r getattr size",
    )
    words = "; ".join(f"flux {question}" for question in (*asked, "-p -p getattr local-uri", "uri /"))
    level, path, parent, above, size, *root = user.get(f"flux proxy {outer}/{inner} '{words}'").splitlines()
    assert (level, path, above, size) == ("2", f"/{outer}/{inner}", outer, "3")
    assert parent == f"local:///{memo.split('/', 3)[3]}"
    assert root == [instance.uri, instance.uri]
    tree = user.get("flux jobs -R -no '{id.f58}'").split()
    assert tree == [outer, f"{outer}:", inner, f"{outer}/{inner}:"]
    # The way down is also the way to end it.
    user.get(f"flux shutdown --quiet {outer}/{inner} && flux shutdown --quiet {outer}")
    user.get(f"flux job wait-event {outer} clean")
    assert user.get(f"flux jobs -no '{{status}}' {outer}") == "COMPLETED"


@pytest.mark.parametrize("how", ["cancel", "limit", "kill"])
def test_the_end_of_a_batch_job_leaves_nothing_behind(user: User, how: str) -> None:
    word = f"{how}-{os.getpid()}"
    (user.directory / "job.sh").write_text(
        "#!/bin/sh\n"
        f"#FLUX: -n2 --output=out --env=MARK={word}\n"
        "flux submit --quiet sleep 300\n"
        "flux batch -n1 --output=none --quiet --wrap 'touch ready; sleep 300'\n"
        "sleep 300\n"
    )
    name = user.get(f"flux batch {'-t 2s' if how == 'limit' else ''} job.sh")
    if how != "limit":
        user.get("while ! test -e ready; do sleep 0.05; done")
        assert len(marked(word)) > 5
        user.get(f"flux cancel {name}" if how == "cancel" else f"flux job kill -s KILL {name}")
    user.get(f"flux job wait-event {name} clean")
    # The guardians of brokers that were killed clean up behind them.
    deadline = time.monotonic() + 60.0
    while marked(word) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert marked(word) == []
    status = {"cancel": "CANCELED", "limit": "TIMEOUT", "kill": "FAILED"}[how]
    assert user.get(f"flux jobs -no '{{status}}' {name}") == status


def test_a_batch_job_leaves_a_dump(user: User) -> None:
    name = user.get("flux batch -n1 --output=none --dump --wrap flux kvs put left=behind")
    user.get(f"flux job attach {name}")
    assert user.get(f"tar xOf flux-{name}-dump.tgz left") == "behind"


def test_alloc_on_a_terminal(user: User) -> None:
    with Terminal(["flux", "alloc", "-n1"], user.environ, user.directory) as terminal:
        # What is typed before there is an instance is for its shell.
        terminal.type("echo mark$((40+2)); stty size; flux getattr instance-level\n")
        terminal.expect("mark42\r\n")
        terminal.expect("40 200\r\n1\r\n")
        fcntl.ioctl(terminal._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        terminal.type("while test \"$(stty size)\" != '30 100'; do :; done; echo re'sized'; sleep 300\n")
        terminal.expect("resized\r\n")
        # Ctrl-C is for what runs there.
        terminal.type("\x03")
        terminal.type("flux run sh -c 'echo in a job; exit 3'; echo left with $?\n")
        terminal.expect("in a job\r\n")
        terminal.expect("left with 3\r\n")
        terminal.type("exit 5\n")
        status, seen = terminal.end()
    assert status == 5
    assert "task(s) exited with exit code 5" in seen


def test_a_terminal_may_be_left_and_come_back_to_and_its_end_is_that_of_the_instance(user: User) -> None:
    with Terminal(["flux", "alloc", "-n1"], user.environ, user.directory) as terminal:
        terminal.type("word=kept; echo sh'ell'\n")
        terminal.expect("shell\r\n")
        # The keys for that are the job's: these are the signals of who types them elsewhere.
        os.kill(terminal.pid, signal.SIGINT)
        terminal.expect("one more ctrl-C")
        os.kill(terminal.pid, signal.SIGTSTP)
        status, seen = terminal.end()
    assert (status, "detaching..." in seen) == (1, True)
    name = user.get("flux job last")
    with Terminal(["flux", "job", "attach", name], user.environ, user.directory) as terminal:
        terminal.type("echo $word'!'\n")
        terminal.expect("kept!\r\n")
    # That client was killed; the next one finds all as it was. SIGHUP, as of a terminal that is closed, is for the job.
    with Terminal(["flux", "job", "attach", name], user.environ, user.directory) as terminal:
        terminal.type("echo $word'!'\n")
        terminal.expect("kept!\r\n")
        os.kill(terminal.pid, signal.SIGHUP)
        terminal.expect("task(s) Hangup")
    assert user.get(f"flux job wait-event {name} clean && flux jobs -no '{{returncode}}' {name}").endswith("129")


def test_alloc_in_the_background_says_why_there_is_no_instance(user: User) -> None:
    done = user.run("flux alloc -n1 --bg --broker-opts=--nosuch")
    assert (done.returncode, done.stdout) == (1, "")
    first, *_, last = done.stderr.splitlines()
    assert first == "flux-job: task(s) exited with exit code 1"
    assert "flux-broker: unrecognized option '--nosuch'" in done.stderr
    assert re.fullmatch(r"ƒ\w+: unexpectedly exited", last)
    done = user.run("flux alloc -n1000 --bg")
    assert (done.returncode, done.stdout) == (1, "")
    assert "type=alloc severity=0 unsatisfiable request" in done.stderr


def test_alloc_in_the_background_is_given_up_with_ctrl_c(user: User) -> None:
    user.get("flux queue stop --quiet")
    waiting = user.start("exec flux alloc -n1 --bg -v")
    assert waiting.stderr is not None
    assert waiting.stderr.readline().endswith(": waiting for resources\n")
    waiting.send_signal(signal.SIGINT)
    stdout, stderr = waiting.communicate(timeout=60)
    user.get("flux queue start --quiet")
    name = user.get("flux job last")
    assert (waiting.returncode, stdout, stderr) == (1, "", f"{name}: Interrupt: canceling job\n")
    assert user.get(f"flux job wait-event {name} clean && flux jobs -no '{{status}}' {name}").endswith("CANCELED")
