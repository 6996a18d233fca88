"""flux job attach: the last of the output, events waited for, terminals (spec 08, section 7).

Signals are the subject of test_attach_signals.py.
"""

from __future__ import annotations

import fcntl
import struct
import subprocess
import termios
from collections.abc import Iterator

import pytest
from terminal import Terminal

from flux.job import JobspecV1, result, submit
from fluxlet.testing import Instance


@pytest.fixture(scope="module")
def instance() -> Iterator[Instance]:
    with Instance() as started:
        yield started


@pytest.fixture(scope="module")
def ended(instance: Instance) -> str:
    """A job that has written five lines, a piece of output each, and ended with exit code 3."""
    script = "for i in 1 2 3 4 5; do echo $i; sleep 0.02; done; exit 3"
    jobspec = JobspecV1.from_command(["sh", "-c", script])
    jobspec.setattr_shell_option("output.stdout.buffer.type", "none")
    jobspec.setattr_shell_option("output.batch-timeout", 0.0)
    with instance.handle() as handle:
        jobid = submit(handle, jobspec)
        result(handle, jobid)
    return str(jobid)


def attach(instance: Instance, *words: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["flux", *words], env=instance.environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("option", "output"), [("--tail=2", "4\n5\n"), ("--tail=0", ""), ("--tail", "1\n2\n3\n4\n5\n")]
)
def test_tail_is_the_last_pieces_of_output(instance: Instance, ended: str, option: str, output: str) -> None:
    assert attach(instance, "job", "attach", option, ended)[:2] == (3, output)


def test_what_comes_after_the_event_that_is_waited_for_does_not_count(instance: Instance, ended: str) -> None:
    assert attach(instance, "job", "attach", "-w", "start", ended) == (0, "", "")
    code, output, errors = attach(instance, "job", "attach", "-w", "finish", "-E", ended)
    assert (code, output) == (3, "1\n2\n3\n4\n5\n")
    assert "job.finish" in errors
    assert "job.clean" not in errors


def test_output_is_whole_where_the_end_is_waited_for(instance: Instance) -> None:
    done = attach(instance, "run", "--wait-event=finish", "sh", "-c", "seq 1000; exit 2")
    assert done[0] == 2
    assert done[1] == "".join(f"{number}\n" for number in range(1, 1001))


def test_without_standard_input_the_job_gets_none(instance: Instance) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", "flux run sh -c 'cat; echo end' <&-"],
        env=instance.environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_in_the_background_nothing_is_read(instance: Instance) -> None:
    environ = {**instance.environ, "PS1": "ready> ", "TERM": "dumb"}
    with Terminal(["bash", "--norc", "--noprofile", "-i"], environ) as terminal:
        terminal.expect("ready> ")
        terminal.type("flux run sh -c 'sleep 0.2; echo has ended' &\n")
        terminal.expect("ready> ")
        terminal.type("echo typed $((1+1))\n")
        terminal.expect("typed 2\r\n")
        terminal.expect("has ended\r\n")
        terminal.type("wait; exit\n")
        terminal.expect("Done")
        assert terminal.end()[0] == 0


def test_a_terminal_that_is_resized_is_so_for_the_job(instance: Instance) -> None:
    script = 'while ! test "$(stty size)" = "30 99"; do stty size; sleep 0.05; done'
    with Terminal(["flux", "run", "-o", "pty.interactive", "sh", "-c", script], instance.environ) as terminal:
        terminal.expect("40 200")
        fcntl.ioctl(terminal._fd, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 99, 0, 0))
        assert terminal.end()[0] == 0
