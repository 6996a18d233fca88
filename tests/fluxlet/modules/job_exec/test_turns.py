"""One process runs the tasks of all jobs of a rank: none of them has to wait for another."""

from __future__ import annotations

import os
import signal
import tty
from pathlib import Path
from typing import Any

import pytest
from exec_player import JobPlayer, Played

#: More tasks than are started in one go.
MANY = 200

#: A task tells when it was started: the 22nd field, in ticks.
TELL = "cat /proc/$$/stat; "


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def start_ticks(player: JobPlayer, job: Played) -> list[int]:
    return [int(line.rpartition(")")[2].split()[19]) for line in player.output(job).splitlines()]


# Many tasks.


def test_a_job_starts_while_the_many_tasks_of_another_are_being_started(player: JobPlayer) -> None:
    large = player.start(sh(TELL), slots=MANY)
    small = player.start(sh(TELL))
    player.wait(large)
    player.wait(small)
    (ticks,) = start_ticks(player, small)
    of_large = start_ticks(player, large)
    assert len(of_large) == MANY
    assert min(of_large) <= ticks < max(of_large)


def test_tasks_that_end_before_the_last_is_started_do_not_end_the_job(player: JobPlayer) -> None:
    job = player.run(sh("exit {{taskid}}"), slots=MANY)
    assert job.kinds == ["start", "finish", "release"]
    assert job.status == (MANY - 1) << 8
    names = [event["name"] for event in player.events(job)]
    assert names.index("shell.init") < names.index("shell.start") < names.index("shell.task-exit")
    assert names.count("shell.task-exit") == 1
    output = player.events(job, "output")
    ended = [(event["context"]["stream"], int(event["context"]["rank"])) for event in output if event["name"] == "data"]
    assert sorted(ended) == sorted((stream, rank) for stream in ("stdout", "stderr") for rank in range(MANY))


def test_a_signal_for_a_job_reaches_tasks_that_are_not_started_yet(player: JobPlayer, tmp_path: Path) -> None:
    first = tmp_path / "first"
    job = player.start(sh(f"[ {{{{taskid}}}} = 0 ] && : > {first}; exec sleep 60"), slots=MANY)
    player.until(first.exists)
    player.kill(job.id, signal.SIGTERM)
    assert player.wait(job).status == 143 << 8


def test_a_failure_among_the_first_keeps_the_others_from_being_started(player: JobPlayer) -> None:
    job = player.run(sh("[ {{taskid}} = 0 ] && exit 3; sleep 60"), {"exit-on-error": 1}, slots=MANY)
    assert job.status == 3 << 8
    job = player.run(["/nosuch"], slots=MANY)
    assert job.status == 127 << 8


def test_input_that_comes_early_is_for_all_tasks(player: JobPlayer) -> None:
    job = player.start(["cat"], slots=MANY)
    payload = {"stream": "stdin", "rank": "all", "data": "early\n", "eof": True}

    def accepted() -> bool:
        try:
            player.handle.rpc(f"{player.service(job)}.stdin", payload, 0).get()
        except OSError:
            return False  # nobody has heard of the job yet
        return True

    player.until(accepted)
    assert player.wait(job).status == 0
    assert player.output(job) == "early\n" * MANY


# Readers of output.


def to_file(path: Path | str, **more: Any) -> dict[str, Any]:
    return {"output": {"stdout": {"type": "file", "path": str(path), **more}}}


def read_all(player: JobPlayer, fd: int, job: Played) -> bytes:
    """What comes from `fd`, until the job is over and nothing more does."""
    data = b""

    def over() -> bool:
        nonlocal data
        ended = job.released
        while piece := read():
            data += piece
        return ended

    def read() -> bytes:
        try:
            return os.read(fd, 1 << 20)
        except (BlockingIOError, OSError):
            return b""  # nothing yet; or the last that had the other end of a terminal has gone

    player.until(over)
    return data


@pytest.fixture
def fifo(tmp_path: Path) -> Any:
    """A FIFO that is open for reading: (path, descriptor)."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, fd
    os.close(fd)


WRITE = "i=0; while [ $i -lt 20000 ]; do echo line $i of many; i=$((i+1)); done"
WRITTEN = "".join(f"line {number} of many\n" for number in range(20000)).encode()


def test_a_slow_reader_of_output_keeps_its_job_waiting_and_no_other(player: JobPlayer, fifo: tuple[Path, int]) -> None:
    path, fd = fifo
    job = player.start(sh(WRITE + "; echo end >&2"), to_file(path))
    player.started(job)
    assert player.run(["true"]).status == 0
    assert player.output(player.run(["echo", "other"])) == "other\n"
    assert not job.released
    data = read_all(player, fd, job)
    assert b"end\n" in data  # of stderr: anywhere among the lines of stdout
    assert data.replace(b"end\n", b"") == WRITTEN
    assert job.status == 0


def test_output_of_several_tasks_to_one_slow_reader(player: JobPlayer, fifo: tuple[Path, int]) -> None:
    path, fd = fifo
    job = player.start(sh(WRITE), to_file(path, label=True), slots=3)
    player.started(job)
    assert player.run(["true"]).status == 0
    lines = read_all(player, fd, job).splitlines(keepends=True)
    for rank in range(3):
        label = f"{rank}: ".encode()
        own = [line.removeprefix(label) for line in lines if line.startswith(label)]
        assert b"".join(own) == WRITTEN
    assert job.status == 0


def test_a_job_whose_output_nobody_reads_can_be_canceled(player: JobPlayer, fifo: tuple[Path, int]) -> None:
    job = player.start(["yes"], to_file(fifo[0]))
    player.started(job)
    player.exception(job.id)
    assert player.wait(job).status == 143 << 8


def test_a_reader_that_goes_is_the_end_of_the_job(player: JobPlayer, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    job = player.start(["yes"], to_file(path))
    player.started(job)
    os.close(fd)
    assert player.wait(job).status == 256
    assert player.raised[-1]["note"] == "error writing to an output file: Broken pipe"


def test_output_to_a_terminal_that_nobody_reads_from(player: JobPlayer) -> None:
    ours, theirs = os.openpty()
    try:
        tty.setraw(theirs)
        job = player.start(sh(WRITE), to_file(os.ttyname(theirs)))
        player.started(job)
        assert player.run(["true"]).status == 0
        assert not job.released
        # It has not become the terminal of the shell, whose tasks would get its signals.
        keeper = player.handle.rpc("job-shell.stats-get").get()["pid"]
        (shell,) = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        assert Path(f"/proc/{shell}/stat").read_text().rpartition(")")[2].split()[4] == "0"
        os.set_blocking(ours, False)
        assert read_all(player, ours, job) == WRITTEN
        assert job.status == 0
    finally:
        os.close(ours)
        os.close(theirs)


def test_output_to_a_device(player: JobPlayer) -> None:
    assert player.run(sh(WRITE), to_file("/dev/null")).status == 0
    job = player.run(["echo", "x"], to_file("/dev/full"))
    assert player.raised[-1]["note"] == "error writing to an output file: No space left on device"
    assert job.status == 256


@pytest.mark.parametrize("options", [{}, {"pty": 1}])
def test_who_writes_waits_for_a_slow_reader(
    player: JobPlayer, fifo: tuple[Path, int], tmp_path: Path, options: dict[str, Any]
) -> None:
    path, fd = fifo
    written = tmp_path / "written"
    job = player.start(sh(f"{WRITE}; : > {written}"), to_file(path) | options)
    player.started(job)
    for _ in range(2):  # by then, the other one would have written all as well
        assert player.run(sh(WRITE), to_file("/dev/null") | options).status == 0
    assert not written.exists()
    assert read_all(player, fd, job).replace(b"\r\n", b"\n") == WRITTEN
    assert (job.status, written.exists()) == (0, True)


# Writers of input.


def from_file(path: Path) -> dict[str, Any]:
    return {"input": {"stdin": {"type": "file", "path": str(path)}}}


def test_input_from_a_fifo_that_nobody_writes_to_yet(player: JobPlayer, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    job = player.start(["cat"], from_file(path), slots=2)
    player.started(job)
    assert player.run(["true"]).status == 0
    assert not job.released
    path.write_text("a line\n")
    assert player.wait(job).status == 0
    assert [player.output(job, rank=rank) for rank in (0, 1)] == ["a line\n", "a line\n"]


def test_a_job_whose_input_never_comes_can_be_canceled(player: JobPlayer, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    job = player.start(["cat"], from_file(tmp_path / "fifo"))
    player.started(job)
    player.exception(job.id)
    assert player.wait(job).status == 143 << 8


def test_much_input_from_a_fifo_comes_as_fast_as_it_is_read(player: JobPlayer, tmp_path: Path) -> None:
    path, go = tmp_path / "fifo", tmp_path / "go"
    os.mkfifo(path)
    job = player.start(sh(f"until [ -e {go} ]; do sleep 0.02; done; wc -c"), from_file(path), slots=2)
    player.started(job)
    fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    sent = stuck = 0
    while stuck < 3:  # a job has come and gone since then, and still it takes no more
        try:
            sent += os.write(fd, b"x" * 65536)
            stuck = 0
        except BlockingIOError:
            stuck += 1
            assert player.run(["true"]).status == 0
    assert sent < 1 << 20
    go.touch()
    os.close(fd)
    assert player.wait(job).status == 0
    assert [int(player.output(job, rank=rank)) for rank in (0, 1)] == [sent, sent]
