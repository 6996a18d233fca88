"""Schedules and entries of the module cron, as far as they are pure."""

from __future__ import annotations

import errno
from typing import Any

import msgspec
import pytest
from in_process import error_of

from fluxlet.modules.cron.entry import CreateRequest, Entry, Task
from fluxlet.modules.cron.schedules import EventArgs, EventSchedule, parse_schedule


@pytest.mark.parametrize(
    ("args", "times", "waits"),
    [
        ({}, [1, 2, 3], [0, 0, 0]),
        ({"nth": 2}, [1, 2, 3, 4, 5], [None, 0, None, 0, None]),
        ({"after": 3}, [1, 2, 3, 4], [None, None, 0, 0]),
        ({"after": 1, "nth": 2}, [1, 2, 3, 4], [0, None, 0, None]),
        ({"after": 3, "nth": 2}, [1, 2, 3, 4, 5], [None, None, 0, None, 0]),
        ({"nth": 3, "after": 2}, [1, 2, 3, 4, 5], [None, 0, None, None, 0]),
        # Those that come too early are one run, as soon as it may be.
        ({"min_interval": 5.0}, [10, 11, 14, 15.5, 16, 20, 30], [0, 4, None, 4.5, None, 5, 0]),
        ({"min_interval": 5.0}, [10, 15], [0, 0]),
    ],
)
def test_events_that_make_an_entry_run(args: dict[str, Any], times: list[float], waits: list[float | None]) -> None:
    schedule = EventSchedule(EventArgs(topic="foo", **args))
    assert [schedule.event(time) for time in times] == waits
    assert schedule.counter == len(times)
    schedule.restart()
    assert schedule.counter == 0
    assert [schedule.event(100 + time) for time in times] == waits


@pytest.mark.parametrize(
    ("kind", "args", "errnum", "text"),
    [
        ("interval", {}, errno.EPROTO, "args of type interval: Object missing required field `interval`"),
        ("interval", {"interval": "1s"}, errno.EPROTO, "args of type interval: Expected `float`, got `str`"),
        ("interval", {"interval": 0}, errno.EINVAL, "interval must be greater than zero"),
        ("interval", {"interval": 1, "after": -1}, errno.EINVAL, "and after not be negative"),
        ("event", {}, errno.EPROTO, "missing required field `topic`"),
        ("event", {"topic": ""}, errno.EINVAL, "topic is empty"),
        ("event", {"topic": "a", "nth": -1}, errno.EINVAL, "nth, after and min_interval must not be negative"),
        ("event", {"topic": "a", "nth": 1.5}, errno.EPROTO, "Expected `int`, got `float`"),
        ("datetime", {"minute": 60}, errno.EINVAL, "minute: '60' is not within 0-59"),
        ("datetime", {"minute": None}, errno.EPROTO, "Expected `int | str`, got `null`"),
        ("weekly", {}, errno.ENOSYS, "unknown type of cron entry 'weekly': there are interval, event and datetime"),
    ],
)
def test_schedules_that_are_none(kind: str, args: dict[str, Any], errnum: int, text: str) -> None:
    number, found = error_of(lambda: parse_schedule(kind, args))
    assert number == errnum
    assert text in found


def entry(**fields: Any) -> Entry:
    request = {"type": "interval", "name": "x", "command": "x y", "args": {"interval": 2}, **fields}
    return Entry(1, msgspec.convert(request, CreateRequest), 100.0)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"rank": -1}, "rank -1 is none"),
        ({"repeat": -1}, "repeat must not be negative"),
        ({"stop-on-failure": -1}, "stop-on-failure must not be negative"),
        ({"task-history-count": 0}, "task-history-count must be at least 1"),
    ],
)
def test_entries_that_are_none(fields: dict[str, Any], text: str) -> None:
    assert error_of(lambda: entry(**fields)) == (errno.EINVAL, text)


def run(ours: Entry, status: int, now: float = 100.0) -> str | None:
    task = ours.new_task(now)
    ours.start_task(task, now + 1)
    task.running(77, now + 2)
    task.finished(status, now + 3)
    return ours.end_task(task)


def test_an_entry_as_clients_see_it() -> None:
    ours = entry(timeout=3.5, repeat=9)
    assert run(ours, 3 << 8) is None
    assert ours.to_dict(107.5) == {
        "id": 1,
        "rank": 0,
        "name": "x",
        "command": "x y",
        "repeat": 9,
        "stopped": False,
        "type": "interval",
        "timeout": 3.5,
        "stats": {
            "ctime": 100.0,
            "starttime": 100.0,
            "lastrun": 101.0,
            "count": 1,
            "failcount": 1,
            "total": 1,
            "success": 0,
            "failure": 1,
            "deferred": 0,
        },
        "typedata": {"interval": 2.0, "after": 2.0, "next_wakeup": 107.5},
        "tasks": [
            {
                "rank": 0,
                "pid": 77,
                "status": 768,
                "state": "Failed",
                "create-time": 100.0,
                "code": 3,
                "start-time": 101.0,
                "running-time": 102.0,
                "end-time": 103.0,
            }
        ],
    }


def test_it_stops_after_so_many_runs_and_counts_anew_when_it_is_started_again() -> None:
    ours = entry(repeat=2)
    assert run(ours, 0) is None
    assert run(ours, 256) == "has run 2 times: stopped"
    ours.stopped = True
    ours.begin(200.0)
    assert not ours.stopped
    assert run(ours, 0) is None
    stats = ours.stats
    assert (stats.count, stats.failcount, stats.total, stats.success, stats.failure) == (1, 0, 3, 2, 1)
    assert stats.starttime == 200.0


def test_it_stops_after_so_many_failures() -> None:
    ours = entry(**{"stop-on-failure": 2})
    assert [run(ours, 9), run(ours, 0), run(ours, 256)] == [None, None, "failed 2 times: stopped"]


def test_it_shows_the_last_tasks_newest_first() -> None:
    ours = entry(**{"task-history-count": 2})
    for status in (256, 512, 768):
        run(ours, status)
    assert [task.code for task in ours.tasks] == [3, 2]


@pytest.mark.parametrize(
    ("status", "timed_out", "state", "code", "reason"),
    [
        (0, False, "Exited", 0, "Exit 0"),
        (3 << 8, False, "Failed", 3, "Exit 3"),
        (15, False, "Failed", 143, "Terminated"),
        (139, False, "Failed", 139, "Segmentation Fault"),
        (40, False, "Failed", 168, "signal 40"),
        (15, True, "Timeout", 143, "Terminated"),
        (0, True, "Timeout", 1, "Exit 0"),
    ],
)
def test_how_tasks_end(status: int, timed_out: bool, state: str, code: int, reason: str) -> None:
    task = Task(0, 1.0)
    task.timed_out = timed_out
    task.finished(status, 2.0)
    assert (task.state, task.code, task.reason, task.ended) == (state, code, reason, True)


@pytest.mark.parametrize(
    ("errnum", "code"), [(errno.ENOENT, 127), (errno.EACCES, 126), (errno.EHOSTUNREACH, 68), (errno.ENOSYS, 1)]
)
def test_tasks_that_cannot_be_started(errnum: int, code: int) -> None:
    task = Task(0, 1.0)
    task.lost(errnum, "why", 2.0)
    assert (task.state, task.code, task.reason, task.failed) == ("Exec Failed", code, "why", True)
