"""Entries and their tasks, as far as they are numbers and texts (spec 03, 13.8). Pure: times are given.

Rules:
- An entry has one task at a time. A task is `Deferred`, then `Started`, then `Running`, and ends once: `Exited`,
  `Failed`, `Timeout`, or `Exec Failed` if it could not be started.
- `count` and `failcount` are since the entry was started the last time; `total`, `success`, `failure` and
  `deferred` since it was created.
- An entry stops when the last of its runs, or one failure too many, has ended.
"""

from __future__ import annotations

import errno
import os
from typing import Any

import msgspec

from flux.compat36 import strsignal
from fluxlet.modules.cron.schedules import Schedule, parse_schedule

#: Exit codes for commands that could not be started, as a shell has them.
_EXEC_CODES = {errno.ENOENT: 127, errno.EACCES: 126, errno.EPERM: 126, errno.EHOSTUNREACH: 68}


class CreateRequest(msgspec.Struct):
    """Payload of cron.create.

    `repeat`: runs until it stops, 0 for no end; `stop-on-failure`: failures until it stops; `timeout`: seconds, 0
    for none; `task-history-count`: tasks it shows, the last ones.
    """

    type: str
    name: str
    command: str
    args: dict[str, Any]
    repeat: int = 0
    rank: int = 0
    cwd: str | None = None
    environ: dict[str, str] | None = None
    history: int = msgspec.field(name="task-history-count", default=1)
    stop_on_failure: int = msgspec.field(name="stop-on-failure", default=0)
    timeout: float = 0.0

    def check(self) -> None:
        """Raises OSError(EINVAL) for numbers that will not do."""
        if not 0 <= self.rank < 0xFFFFFFFD:
            raise OSError(errno.EINVAL, f"rank {self.rank} is none")
        for name, value in (("repeat", self.repeat), ("stop-on-failure", self.stop_on_failure)):
            if value < 0:
                raise OSError(errno.EINVAL, f"{name} must not be negative")
        if self.history < 1:
            raise OSError(errno.EINVAL, "task-history-count must be at least 1")


class Task:
    """One run of a command.

    Args:
        rank: where it runs.
        now: seconds since the epoch.
    """

    def __init__(self, rank: int, now: float) -> None:
        self.rank = rank
        self.pid = 0
        self.status = 0
        self.state = "Deferred"
        self.code: int | None = None
        self.reason = ""
        self.timed_out = False
        self._times = {"create-time": now}

    @property
    def ended(self) -> bool:
        """True once it has."""
        return self.code is not None

    @property
    def failed(self) -> bool:
        """True if it has ended, and not well."""
        return bool(self.code)

    def start(self, now: float) -> None:
        """It is sent on its way."""
        self.state = "Started"
        self._times["start-time"] = now

    def running(self, pid: int, now: float) -> None:
        """It is a process."""
        self.state = "Running"
        self.pid = pid
        self._times["running-time"] = now

    def finished(self, status: int, now: float) -> None:
        """Its process has ended; `status` as of wait(2)."""
        self.status = status
        code = os.waitstatus_to_exitcode(status)
        if code < 0:
            self.code = 128 - code
            self.reason = _signal_text(-code)
        else:
            self.code = code
            self.reason = f"Exit {code}"
        self.state = "Failed" if self.code else "Exited"
        if self.timed_out:
            # Ended in time after all, or by its own handler of the signal: it has not done what it was to do.
            self.state = "Timeout"
            self.code = self.code or 1
        self._times["end-time"] = now

    def lost(self, errnum: int, text: str, now: float) -> None:
        """It could not be started, or nobody knows what has become of it."""
        self.state = "Failed" if self.pid else "Exec Failed"
        self.code = _EXEC_CODES.get(errnum, 1)
        self.reason = text
        self._times["end-time"] = now

    def to_dict(self) -> dict[str, Any]:
        """As in the payload of an entry."""
        times = dict(self._times)
        shown: dict[str, Any] = {"rank": self.rank, "pid": self.pid, "status": self.status, "state": self.state}
        shown["create-time"] = times.pop("create-time")
        if self.code is not None:
            shown["code"] = self.code
        return shown | times


def _signal_text(signum: int) -> str:
    try:
        return strsignal(signum)
    except ValueError:
        return f"signal {signum}"


class Stats(msgspec.Struct):
    """Of an entry; times in seconds since the epoch."""

    ctime: float
    starttime: float
    lastrun: float = 0.0
    count: int = 0
    failcount: int = 0
    total: int = 0
    success: int = 0
    failure: int = 0
    deferred: int = 0


class Entry:
    """One entry.

    Args:
        number: its id.
        request: what it was created with.
        now: seconds since the epoch.

    Raises OSError as `parse_schedule` and `CreateRequest.check`.
    """

    def __init__(self, number: int, request: CreateRequest, now: float) -> None:
        request.check()
        self.number = number
        self.request = request
        self.schedule: Schedule = parse_schedule(request.type, request.args)
        self.stats = Stats(ctime=now, starttime=now)
        self.stopped = False
        self.tasks: list[Task] = []
        """The last ones, newest first."""

    @property
    def task(self) -> Task | None:
        """The one that has not ended yet."""
        return self.tasks[0] if self.tasks and not self.tasks[0].ended else None

    @property
    def last_run(self) -> bool:
        """True once the last of its runs has begun."""
        return 0 < self.request.repeat <= self.stats.count

    def begin(self, now: float) -> None:
        """It is started again."""
        self.stopped = False
        self.stats.starttime = now
        self.stats.count = self.stats.failcount = 0

    def new_task(self, now: float) -> Task:
        """The entry is due: its next task, which is not started yet."""
        task = Task(self.request.rank, now)
        self.tasks = [task, *self.tasks][: self.request.history]
        return task

    def drop_task(self) -> None:
        """The task that is not started yet will not be."""
        if self.tasks and self.tasks[0].state == "Deferred":
            del self.tasks[0]

    def start_task(self, task: Task, now: float) -> None:
        """A task is sent on its way."""
        task.start(now)
        self.stats.lastrun = now
        self.stats.count += 1
        self.stats.total += 1

    def end_task(self, task: Task) -> str | None:
        """A task has ended. Returns why the entry is to stop now, None if it goes on."""
        stats, request = self.stats, self.request
        if task.failed:
            stats.failcount += 1
            stats.failure += 1
        else:
            stats.success += 1
        if self.stopped:
            return None
        if 0 < request.stop_on_failure <= stats.failcount:
            return f"failed {stats.failcount} times: stopped"
        if self.last_run:
            return f"has run {stats.count} times: stopped"
        return None

    def label(self) -> str:
        """What messages call it."""
        return f"cron-{self.number}"

    def to_dict(self, next_wakeup: float) -> dict[str, Any]:
        """The entry as clients get it; `next_wakeup`: seconds since the epoch, 0 if it does not wait for a time."""
        request = self.request
        shown: dict[str, Any] = {
            "id": self.number,
            "rank": request.rank,
            "name": request.name,
            "command": request.command,
            "repeat": request.repeat,
            "stopped": self.stopped,
            "type": request.type,
        }
        if request.timeout > 0:
            shown["timeout"] = request.timeout
        shown["stats"] = msgspec.to_builtins(self.stats)
        shown["typedata"] = self.schedule.typedata(next_wakeup)
        shown["tasks"] = [task.to_dict() for task in self.tasks]
        return shown
