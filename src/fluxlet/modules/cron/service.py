"""The service of the module `cron`: its requests, and the timers and events that make entries run.

Rules:
- With a sync event, entries that are due run when it comes, all at once, so that they disturb programs that run in
  step no more than they must; but at once within `sync_epsilon` seconds after it.
- An entry that is due while its last task still runs is left out this time.
- A stopped entry does not run, whatever it was waiting for; a task that runs goes on.
"""

from __future__ import annotations

import errno
import math
import os
import re
import time
from collections.abc import Callable
from syslog import LOG_ERR, LOG_INFO
from typing import Any

import msgspec

from flux.brokermod import request_handler
from flux.cli.crontab import parse_crontab
from flux.constants import FLUX_MSGTYPE_EVENT
from flux.core.handle import Flux
from flux.message import Message
from flux.util.durations import parse_fsd
from fluxlet.broker.broker import Broker
from fluxlet.modules.cron.entry import CreateRequest, Entry, Task
from fluxlet.modules.cron.process import Process
from fluxlet.modules.cron.schedules import DateSchedule, EventSchedule
from fluxlet.payload import cut, decode
from fluxlet.service import Service

#: Seconds after the sync event in which entries still run at once.
_EPSILON = 0.015
#: The clock may be set while we wait for a date: for so many seconds we go without looking at it.
_LONGEST_WAIT = 60.0


class IdRequest(msgspec.Struct):
    """Payload of cron.stop and cron.start; `kill` is of cron.delete: its task is ended, too."""

    id: int
    kill: bool = False


class SyncRequest(msgspec.Struct):
    """Payload of cron.sync: what is to change."""

    topic: str | None = None
    disable: bool = False
    sync_epsilon: float | None = None


class _Alarm:
    """One timer of an entry: waits until a time since the epoch, or for some seconds.

    Args:
        broker: has the loop.
        callback: called when it is time.
    """

    def __init__(self, broker: Broker, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._timer = broker.reactor.timer(0.0, 0.0, self._fired)
        self._due = 0.0  # on the monotonic clock
        self._date: float | None = None

    def wait(self, seconds: float) -> None:
        """Waits for so long."""
        self._date = None
        self._due = time.monotonic() + seconds
        self._timer.reset(seconds, 0.0)

    def wait_again(self, seconds: float) -> None:
        """Waits until so long after the last time, or from now if that is over already."""
        now = time.monotonic()
        self._due += seconds
        if self._due <= now:
            self._due = now + seconds
        self._timer.reset(self._due - now, 0.0)

    def wait_until(self, date: float) -> None:
        """Waits until the clock shows `date`, in seconds since the epoch."""
        self._date = date
        self._timer.reset(min(max(0.0, date - time.time()), _LONGEST_WAIT), 0.0)

    def _fired(self) -> None:
        if self._date is not None and time.time() < self._date:
            self.wait_until(self._date)
        else:
            self._callback()

    @property
    def waiting(self) -> bool:
        """True until it is time."""
        return self._timer.active

    @property
    def wakeup(self) -> float:
        """What it waits for, in seconds since the epoch; 0 if for nothing."""
        if not self.waiting:
            return 0.0
        return self._date if self._date is not None else time.time() + self._due - time.monotonic()

    def stop(self) -> None:
        """Waits no more."""
        self._timer.stop()


class _Active:
    """An entry, and what belongs to it while the module runs."""

    def __init__(self, entry: Entry, alarm: _Alarm, watcher: Any) -> None:
        self.entry = entry
        self.alarm = alarm
        self.watcher = watcher  # of its events; None for other types
        self.process: Process | None = None
        self.late = False  # it has been reported that its task takes longer than it should

    def stop(self) -> None:
        """It is not due any more."""
        self.alarm.stop()
        if self.watcher is not None:
            self.watcher.stop()
        self.entry.drop_task()


def event_prefix(topic: str) -> str:
    """What to subscribe to for the events that match `topic`, which may have wildcards."""
    return re.split(r"[*?\[]", topic, maxsplit=1)[0]


class Cron(Service):
    """The entries of an instance.

    Args:
        args: `sync=TOPIC`, the event to run entries with; `sync_epsilon=FSD`.

    Raises OSError(EINVAL) for other arguments, and for a file of cron.directory that is no crontab.
    """

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        super().__init__(handle, broker, *args)
        self.entries: dict[int, _Active] = {}
        self._last_id = 0
        self._processes: set[Process] = set()
        self._deferred: list[_Active] = []
        self.epsilon = _EPSILON
        self.sync_topic: str | None = None
        self._sync_watcher: Any = None
        self._last_sync = -math.inf
        try:
            self._configure(args)
        except OSError:
            self.stop_service()
            raise

    def _configure(self, args: tuple[str, ...]) -> None:
        for arg in args:
            key, _, value = arg.partition("=")
            if key == "sync" and value:
                self._sync_with(value)
            elif key == "sync_epsilon":
                self.epsilon = _seconds(arg, value)
            else:
                raise OSError(errno.EINVAL, f"unknown argument '{arg}'")
        directory = self.broker.attributes.visible.get("cron.directory")
        if directory is not None:
            self._load_directory(directory)

    def stop_service(self) -> None:
        """Nothing runs any more: `rexec` ends what we have started when it hears that we have gone."""
        for active in self.entries.values():
            active.stop()
        for process in self._processes:
            process.close()

    # Crontabs of the system.

    def _load_directory(self, directory: str) -> None:
        try:
            paths = sorted(entry.path for entry in os.scandir(directory) if entry.is_file())
        except OSError as exc:
            raise OSError(exc.errno or errno.EIO, f"cron.directory: {directory}: {exc.strerror}") from None
        for path in paths:
            try:
                with open(path, encoding="utf-8") as file:
                    lines = parse_crontab(file.read())
                for number, fields, command in lines:
                    self._create_dated(number, fields, command)
            except ValueError as exc:
                raise OSError(errno.EINVAL, f"cron.directory: {path}: {exc}") from None
            except OSError as exc:
                raise OSError(exc.errno or errno.EIO, f"cron.directory: {path}: {exc.strerror}") from None

    def _create_dated(self, number: int, fields: dict[str, int | str], command: str) -> None:
        """Creates the entry of a line of a crontab. Raises OSError that names the line."""
        request = CreateRequest(type="datetime", name=command.split()[0], command=command, args=dict(fields))
        try:
            self._create(request)
        except OSError as exc:
            raise OSError(exc.errno or errno.EIO, f"line {number}: {exc.strerror}") from None

    # Requests.

    @request_handler("create")
    def handle_create(self, msg: Message) -> None:
        """Payload: `CreateRequest`. Answers the entry, which is started."""
        request = decode(msg, CreateRequest)
        request.name, request.command = cut(request.name), cut(request.command)
        self.handle.respond(msg, self._shown(self._create(request)))

    @request_handler("list")
    def handle_list(self, msg: Message) -> None:
        """Answers `{"entries": [...]}`, by id."""
        self.handle.respond(msg, {"entries": [self._shown(active) for active in self.entries.values()]})

    @request_handler("start")
    def handle_start(self, msg: Message) -> None:
        """Payload `{"id": i}`. Answers the entry. EINVAL if it is not stopped."""
        active = self._find(decode(msg, IdRequest))
        if not active.entry.stopped:
            raise OSError(errno.EINVAL, f"{active.entry.label()} is not stopped")
        self._check_future(active.entry)
        active.entry.begin(time.time())
        self._arm(active)
        self.handle.respond(msg, self._shown(active))

    @request_handler("stop")
    def handle_stop(self, msg: Message) -> None:
        """Payload `{"id": i}`. Answers the entry. EINVAL if it is stopped already."""
        active = self._find(decode(msg, IdRequest))
        if active.entry.stopped:
            raise OSError(errno.EINVAL, f"{active.entry.label()} is stopped already")
        self._stop(active)
        self.handle.respond(msg, self._shown(active))

    @request_handler("delete")
    def handle_delete(self, msg: Message) -> None:
        """Payload `{"id": i, "kill"?: b}`. Answers the entry as it was."""
        request = decode(msg, IdRequest)
        active = self._find(request)
        shown = self._shown(active)
        self._stop(active)
        if active.watcher is not None:
            active.watcher.destroy()
            self.handle.event_unsubscribe(event_prefix(shown["typedata"]["topic"]))
        del self.entries[request.id]
        if request.kill and active.process is not None:
            active.process.end()
        self.handle.respond(msg, shown)

    @request_handler("sync")
    def handle_sync(self, msg: Message) -> None:
        """Payload: `SyncRequest`. Answers what is so now: `{"sync_event": s, "sync_epsilon": seconds}`, or
        `{"sync_disabled": true}`."""
        request = decode(msg, SyncRequest)
        if request.sync_epsilon is not None and request.sync_epsilon < 0:
            raise OSError(errno.EINVAL, "sync_epsilon must not be negative")
        if request.topic == "":
            raise OSError(errno.EINVAL, "topic is empty")
        if request.disable:
            self._sync_with(None)
        elif request.topic is not None:
            self._sync_with(cut(request.topic))
        if request.sync_epsilon is not None:
            self.epsilon = request.sync_epsilon
        if self.sync_topic is None:
            self.handle.respond(msg, {"sync_disabled": True})
        else:
            self.handle.respond(msg, {"sync_event": self.sync_topic, "sync_epsilon": self.epsilon})

    def _shown(self, active: _Active) -> dict[str, Any]:
        return active.entry.to_dict(active.alarm.wakeup)

    def _find(self, request: IdRequest) -> _Active:
        try:
            return self.entries[request.id]
        except KeyError:
            raise OSError(errno.ENOENT, None) from None

    # Entries.

    def _create(self, request: CreateRequest) -> _Active:
        entry = Entry(self._last_id + 1, request, time.time())
        self._check_future(entry)
        watcher = None
        alarm = _Alarm(self.broker, lambda: self._due(active))
        if isinstance(entry.schedule, EventSchedule):
            topic = entry.schedule.args.topic = cut(entry.schedule.args.topic)
            self.handle.event_subscribe(event_prefix(topic))
            watcher = self.handle.msg_watcher_create(
                lambda handle, watcher, message, args: self._event(active), FLUX_MSGTYPE_EVENT, topic
            )
        active = _Active(entry, alarm, watcher)
        self._last_id = entry.number
        self.entries[entry.number] = active
        self._arm(active)
        return active

    def _arm(self, active: _Active) -> None:
        """The entry begins to wait for what makes it run."""
        schedule = active.entry.schedule
        if isinstance(schedule, EventSchedule):
            schedule.restart()
            active.watcher.start()
        elif isinstance(schedule, DateSchedule):
            self._wait_for_date(active, schedule)
        else:
            active.alarm.wait(schedule.after)

    def _check_future(self, entry: Entry) -> None:
        """Raises OSError(EINVAL) for an entry whose dates are over."""
        if isinstance(entry.schedule, DateSchedule) and entry.schedule.next_run(time.time()) is None:
            raise OSError(errno.EINVAL, "that date is in the past")

    def _wait_for_date(self, active: _Active, schedule: DateSchedule) -> None:
        date = schedule.next_run(time.time())
        if date is not None:
            active.alarm.wait_until(float(date))

    def _stop(self, active: _Active) -> None:
        active.stop()
        active.entry.stopped = True
        if active in self._deferred:
            self._deferred.remove(active)

    def _due(self, active: _Active) -> None:
        """The time has come."""
        schedule = active.entry.schedule
        self._run_in_step(active)
        if active.entry.stopped:
            return
        if isinstance(schedule, DateSchedule):
            self._wait_for_date(active, schedule)
        elif not isinstance(schedule, EventSchedule):
            active.alarm.wait_again(schedule.interval)

    def _event(self, active: _Active) -> None:
        """An event has come."""
        schedule = active.entry.schedule
        assert isinstance(schedule, EventSchedule)
        wait = schedule.event(time.monotonic())
        if wait is None:
            return
        if wait:
            active.entry.stats.deferred += 1
            active.alarm.wait(wait)
        else:
            self._run_in_step(active)

    # The sync event.

    def _sync_with(self, topic: str | None) -> None:
        if topic == self.sync_topic:
            return
        if self._sync_watcher is not None:
            self._sync_watcher.destroy()
            self._sync_watcher = None
        if self.sync_topic is not None:
            self.handle.event_unsubscribe(self.sync_topic)
        self.sync_topic = topic
        if topic is not None:
            self.handle.event_subscribe(topic)
            self._sync_watcher = self.handle.msg_watcher_create(
                lambda handle, watcher, message, args: self._synced(), FLUX_MSGTYPE_EVENT, topic
            )
            self._sync_watcher.start()
        else:
            self._run_deferred()

    def _synced(self) -> None:
        self._last_sync = time.monotonic()
        self._run_deferred()

    def _run_deferred(self) -> None:
        deferred, self._deferred = self._deferred, []
        for active in deferred:
            task = active.entry.task
            if task is not None:
                self._run(active, task)

    def _run_in_step(self, active: _Active) -> None:
        """Runs an entry that is due, now or with the next sync event."""
        entry = active.entry
        if entry.task is not None:
            if entry.task.state != "Deferred" and not active.late and not entry.last_run:
                active.late = True
                self._log(LOG_INFO, f'{entry.label()}: "{entry.request.command}": due again, and its task still runs')
            return
        task = entry.new_task(time.time())
        if self.sync_topic is not None and time.monotonic() - self._last_sync > self.epsilon:
            entry.stats.deferred += 1
            self._deferred.append(active)
        else:
            self._run(active, task)

    # Tasks.

    def _run(self, active: _Active, task: Task) -> None:
        entry = active.entry
        request = entry.request
        prefix = f'{entry.label()}[{request.name}]: rank={request.rank}: command="{request.command}"'
        timer = self.broker.reactor.timer(request.timeout, 0.0, lambda: self._timed_out(task, process))

        def started(pid: int) -> None:
            task.running(pid, time.time())
            if request.timeout > 0:
                timer.start()

        def line(stream: str, text: str) -> None:
            self._log(LOG_ERR if stream == "stderr" else LOG_INFO, f'{prefix}: "{text}"')

        def finished(status: int) -> None:
            task.finished(status, time.time())
            ended()

        def lost(errnum: int, text: str) -> None:
            task.lost(errnum, text, time.time())
            ended()

        def ended() -> None:
            timer.stop()
            self._processes.discard(process)
            active.process = None
            active.late = False
            self._ended(active, task)

        entry.start_task(task, time.time())
        process = Process(
            self.handle,
            self.broker.reactor,
            request.rank,
            request.command,
            request.cwd,
            request.environ,
            on_started=started,
            on_line=line,
            on_finished=finished,
            on_lost=lost,
        )
        active.process = process
        self._processes.add(process)

    def _timed_out(self, task: Task, process: Process) -> None:
        task.timed_out = True
        process.end()

    def _ended(self, active: _Active, task: Task) -> None:
        entry = active.entry
        if task.failed:
            self._log(LOG_ERR, f'{entry.label()}: "{entry.request.command}": {task.state}: {task.reason}')
        why = entry.end_task(task)
        if why is None and isinstance(entry.schedule, DateSchedule) and not active.alarm.waiting:
            why = "there are no more dates: stopped"
        if why is not None and not entry.stopped:
            self._stop(active)
            self._log(LOG_INFO, f"{entry.label()}: {why}")

    def _log(self, severity: int, text: str) -> None:
        self.broker.log.write(severity, text, self.name)


def _seconds(arg: str, value: str) -> float:
    try:
        return parse_fsd(value)
    except ValueError:
        raise OSError(errno.EINVAL, f"{arg}: '{value}' is no duration") from None
