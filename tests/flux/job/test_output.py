"""The output of jobs: events, chunks, lines, all of it; while a job runs and afterwards."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from typing import Any

import pytest
from in_process import BrokerThread, error_of
from job_kvs import SUBMIT, event, finish, happen, start, write

import flux
import flux.aio
import flux.job
from flux.job.output import (
    LOG_NOTICE,
    LOG_WARN,
    JobExceptionEvent,
    LogEvent,
    OutputEvent,
    OutputHeaderEvent,
    RedirectEvent,
    Taskset,
)


@pytest.fixture(scope="module")
def thread() -> Iterator[BrokerThread]:
    started = BrokerThread()
    yield started
    started.stop()


@pytest.fixture
def h(thread: BrokerThread) -> Iterator[flux.Flux]:
    with thread.open() as opened:
        yield opened


HEADER = event("header", version=1, encoding={"stdout": "UTF-8", "stderr": "UTF-8"}, count={}, options={})
INIT = event("shell.init", service="x", size=1)


def data(rank: int, text: str, stream: str = "stdout", **context: Any) -> dict[str, Any]:
    return event("data", stream=stream, rank=str(rank), data=text, **context)


def eof(rank: int, stream: str = "stdout") -> dict[str, Any]:
    return event("data", stream=stream, rank=str(rank), eof=True)


WRITTEN = [
    HEADER,
    data(0, "zero\n"),
    event("log", level=4, component="c", message="careful", rank=0, file="x.c", line=7),
    data(1, "one"),
    data(1, " and a half\nrest"),
    data(0, "/w==", "stderr", encoding="base64"),
    data(0, "x", repeat=3),
    event("redirect", stream="stderr", rank="[0-1]", path="err.txt"),
    event("log", level=7, message="traced", rank=1),
    *(eof(rank, stream) for rank in (0, 1) for stream in ("stdout", "stderr")),
]


def run(h: flux.Flux, jobid: int) -> None:
    """A job from its submission to where it has written all that it writes."""
    happen(h, jobid, SUBMIT, event("alloc"))
    start(h, jobid)
    write(h, jobid, "exec.eventlog", event("init"), INIT)
    write(h, jobid, "output", *WRITTEN)


def end(h: flux.Flux, jobid: int) -> None:
    finish(h, jobid)
    happen(h, jobid, event("clean"))


ALL = (
    "zero\none and a half\nrestxxx",
    "flux-shell[0]:  WARN: c: careful\n\udcff[0-1]: stderr redirected to err.txt\nflux-shell[1]: TRACE: traced\n",
    "",
)


def test_all_output_of_a_job_that_has_ended(h: flux.Flux) -> None:
    run(h, 1)
    end(h, 1)
    assert flux.job.job_output(h, 1) == ALL
    assert flux.job.job_output(h, flux.job.JobID(1).f58, tasks="1").stdout == "one and a half\nrest"
    some = flux.job.job_output(h, 1, log_stderr_level=LOG_WARN)
    assert some.log == "flux-shell[1]: TRACE: traced\n"
    labelled = flux.job.job_output(h, 1, labelio=True, tasks="0")
    assert labelled.stdout == "0: zero\n0: xxx"


def test_what_there_is_now_of_one_that_runs(h: flux.Flux) -> None:
    run(h, 2)
    assert flux.job.job_output(h, 2, nowait=True) == ALL
    happen(h, 3, SUBMIT)
    for jobid in (3, 999):
        refused = error_of(lambda jobid=jobid: flux.job.job_output(h, jobid, nowait=True))  # type: ignore[misc]
        assert refused == (errno.ENOENT, f"job {flux.job.JobID(jobid)} does not exist or output not ready")


def test_events_are_of_the_classes_of_their_names(h: flux.Flux) -> None:
    run(h, 4)
    end(h, 4)
    events = list(flux.job.output_event_watch(h, 4))
    kinds = [type(entry) for entry in events]
    assert kinds[0] is OutputHeaderEvent
    assert kinds.count(OutputEvent) == 9
    assert (kinds.count(LogEvent), kinds.count(RedirectEvent)) == (2, 1)
    log = next(entry for entry in events if isinstance(entry, LogEvent))
    assert log.render(include_file_and_line=True) == "flux-shell[0]:  WARN: x.c:7: c: careful"
    assert (log.levelstr, log.level) == (" WARN", LOG_WARN)
    last = events[-1]
    assert isinstance(last, OutputEvent)
    assert (last.eof, last.data, str(last.rank)) == (True, "", "1")


def test_lines_are_put_together_task_by_task(h: flux.Flux) -> None:
    run(h, 5)
    end(h, 5)
    lines = [line for stream, line in flux.job.output_watch_lines(h, 5) if stream == "stdout"]
    assert lines == ["zero", "one and a half", "rest", "xxx"]
    kept = [
        line for stream, line in flux.job.output_watch_lines(h, 5, keepends=True, labelio=True) if stream == "stdout"
    ]
    assert kept == ["0: zero\n", "1: one and a half\n", "1: rest", "0: xxx"]


def test_chunks_come_as_they_are_written(h: flux.Flux, thread: BrokerThread) -> None:
    happen(h, 6, SUBMIT)
    future = flux.job.output_watch_async(h, 6)
    got: list[tuple[str | None, str | None]] = []

    def more(future: Any) -> None:
        got.append(future.get_output())
        with thread.open() as other:
            if got[-1] == ("stdout", "first\n"):
                write(other, 6, "output", data(0, "second\n"), eof(0))
                end(other, 6)
        if got[-1] == (None, None):
            h.reactor_stop()

    future.then(more)
    with thread.open() as other:
        start(other, 6)
        write(other, 6, "exec.eventlog", INIT)
        write(other, 6, "output", HEADER, data(0, "first\n"))
    h.reactor_run()
    assert got == [("stdout", "first\n"), ("stdout", "second\n"), (None, None)]
    assert future.get_output() == (None, None)


def exception(severity: int = 0, kind: str = "exec", note: str = "no such program") -> dict[str, Any]:
    return event("exception", type=kind, severity=severity, note=note)


def test_jobs_that_never_run(h: flux.Flux) -> None:
    name = flux.job.JobID(7).f58
    happen(h, 7, SUBMIT, exception(0, "cancel", "bye"), event("clean"))
    with pytest.raises(flux.job.JobException, match=r"job.exception: type=cancel: bye"):
        flux.job.job_output(h, 7)
    watched = flux.job.output_event_watch_async(h, 7)
    first = watched.get_event()
    assert isinstance(first, JobExceptionEvent)
    assert first.render() == "job.exception: type=cancel severity=0 bye"
    assert error_of(watched.get_event) == (errno.EIO, f"job {name} never started")
    lines = flux.job.output_watch_lines_async(h, 7)
    assert lines.getline() == ("stderr", "job.exception: type=cancel severity=0 bye")
    unknown = flux.job.JobID(998)
    assert error_of(lambda: flux.job.job_output(h, 998)) == (errno.ENOENT, f"job {unknown} not found")


def test_an_exception_of_a_job_that_writes_is_part_of_its_stderr(h: flux.Flux) -> None:
    run(h, 8)
    happen(h, 8, exception(0, "timeout", "resource allocation expired"))
    end(h, 8)
    output = flux.job.job_output(h, 8)
    assert output.stdout == ALL[0]
    assert "job.exception: type=timeout severity=0 resource allocation expired\n" in output.stderr


def test_a_shell_that_fails_early_may_have_said_why(h: flux.Flux) -> None:
    happen(h, 9, SUBMIT)
    start(h, 9)
    write(h, 9, "exec.eventlog", event("init"), event("done"))
    write(h, 9, "output", HEADER, event("log", level=0, message="cannot", rank=0))
    end(h, 9)
    assert flux.job.job_output(h, 9).stderr == "flux-shell[0]: FATAL: cannot\n"
    happen(h, 10, SUBMIT)
    start(h, 10)
    write(h, 10, "exec.eventlog", event("done"))
    happen(h, 10, exception())
    end(h, 10)
    with pytest.raises(flux.job.JobException, match="no such program"):
        flux.job.job_output(h, 10)


def test_under_asyncio(thread: BrokerThread, h: flux.Flux) -> None:
    run(h, 11)
    end(h, 11)
    happen(h, 12, SUBMIT, exception(), event("clean"))

    async def main() -> None:
        async with flux.aio.connect(thread.uri) as a:
            assert await a.job.output(11) == ALL
            lines = [line async for stream, line in a.job.output_lines(11) if stream == "stdout"]
            assert lines == ["zero", "one and a half", "rest", "xxx"]
            chunks = [data async for stream, data in a.job.output_chunks(11) if stream == "stdout"]
            assert "".join(chunks) == ALL[0]
            with pytest.raises(flux.job.JobException):
                await a.job.output(12)
            with pytest.raises(FileNotFoundError):
                await a.job.output(997)
            names = [entry.name async for entry in a.job.watch(11)]
            assert names[0] == "submit"
            assert names[-1] == "clean"
            assert (await a.job.wait_event(11, "start")).name == "start"
            with pytest.raises(flux.job.JobException):
                await a.job.wait_event(12, "start")
            with pytest.raises(OSError, match="eventlog ended before event='start'") as info:
                await a.job.wait_event(12, "start", raise_exception=False)
            assert info.value.errno == errno.ENODATA

    asyncio.run(main())


def test_sets_of_tasks() -> None:
    assert str(Taskset("all")) == str(Taskset("*")) == "*"
    assert (str(Taskset("3")), str(Taskset("0-2,5"))) == ("3", "[0-2,5]")
    assert str(Taskset("0-3").intersect("2-9")) == "[2-3]"
    assert str(Taskset("*").intersect("7")) == "7"
    assert str(Taskset("7").intersect("*")) == "7"
    assert not Taskset("0").intersect("1")
    assert Taskset("*")
    with pytest.raises(ValueError, match=r"."):
        Taskset("x")


def test_a_notice_has_no_level_in_front() -> None:
    entry = event("log", level=LOG_NOTICE, message="hello", rank=3)
    assert LogEvent(entry).render() == "flux-shell[3]: hello"


def test_a_watcher_hands_over_output_and_tells_how_jobs_have_ended(h: flux.Flux) -> None:
    told: list[tuple[int, Any, Any]] = []
    watcher = flux.job.JobWatcher(h, output_callback=lambda *args: told.append(args))
    for jobid, status in ((50, 0), (51, 9), (52, 3 << 8)):
        happen(h, jobid, SUBMIT, event("alloc"))
        start(h, jobid)
        write(h, jobid, "exec.eventlog", event("init"), INIT)
        write(h, jobid, "output", HEADER, data(0, f"{jobid}\n"), eof(0), eof(0, "stderr"))
        happen(h, jobid, event("finish", status=status))
        end(h, jobid)
        watcher.add_jobid(jobid)  # nothing else has to be started
    h.reactor_run()
    for jobid in (50, 51, 52):
        assert [args[1:] for args in told if args[0] == jobid] == [("stdout", f"{jobid}\n"), (None, None)]
    ends = {int(jobid): (status.status, status.exitcode) for jobid, status in watcher.progress.jobs.items()}
    assert ends == {50: ("complete", 0), 51: ("failed", 137), 52: ("failed", 3)}
    assert watcher.exitcode == 137
