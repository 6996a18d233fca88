"""flux job: eventlog, wait-event (spec 08, 8.1)."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator

from flux.cli.commands.job.common import Failure, compact, duration, handle, jobid, number, show, text_of
from flux.cli.options import Parsed
from flux.cli.tool import use_color
from flux.constants import FLUX_JOB_EVENT_WATCH_WAITCREATE
from flux.core.handle import Flux
from flux.eventlog import EventLogEvent, EventLogFormatter
from flux.job._requests import watch_eventlog, wire_id
from flux.job.event import JobEventWatchFuture

_PATHS = {"exec": "guest.exec.eventlog", "output": "guest.output", "input": "guest.input"}
#: The events that end eventlogs.
_LAST = {"eventlog": "clean", "guest.exec.eventlog": "done"}
_TIMES = ("raw", "iso", "offset", "human", "reltime")


class _Printer(EventLogFormatter):
    """Prints events as the options ask."""

    def __init__(self, parsed: Parsed) -> None:
        form = "text" if parsed.has("human") else (parsed.value("format") or "text")
        times = "human" if parsed.has("human") else (parsed.value("time-format") or "raw")
        if form.lower() not in ("text", "json"):
            raise Failure(f"invalid format type '{form}'")
        if times.lower() not in _TIMES:
            raise Failure(f"invalid time-format type '{times}'")
        color = "always" if use_color(parsed) else "never"
        super().__init__(form.lower(), times.lower(), color)

    def _raw(self, timestamp: float) -> str:
        return self._paint("time", f"{timestamp:f}")

    def _offset(self, timestamp: float) -> str:
        if self._first is None:
            self._first = timestamp
        return self._paint("time", f"{timestamp - self._first:f}")

    def show(self, event: EventLogEvent) -> None:
        """Prints an event."""
        show(self.format(event))


def _path(parsed: Parsed) -> str:
    given = parsed.value("path") or "eventlog"
    return _PATHS.get(given, given)


def _not_found(word: str, parsed: Parsed, path: str) -> Failure:
    if path == "eventlog":
        return Failure(f"job {word} not found")
    return Failure(f"eventlog path {parsed.value('path')} not found")


def _missing(handle: Flux, word: str, parsed: Parsed, path: str) -> Failure:
    """Why there is no such eventlog: there is no such job, or it has none of that name."""
    try:
        handle.rpc("job-info.lookup", {"id": wire_id(jobid(word)), "keys": [], "flags": 0}).get()
    except OSError:
        return _not_found(word, parsed, "eventlog")
    return _not_found(word, parsed, path)


def _events(watch: JobEventWatchFuture, timeout: float = -1.0) -> Iterator[EventLogEvent]:
    """The events of a watch. Raises TimeoutError after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        if timeout >= 0:
            watch.wait_for(max(0.0, deadline - time.monotonic()))
        event = watch.get_event()
        if event is None:
            return
        yield event


def eventlog_command(parsed: Parsed) -> int:
    """Prints an eventlog."""
    (word,) = parsed.words
    number_of = jobid(word)
    printer, path = _Printer(parsed), _path(parsed)
    with handle() as h:
        try:
            if parsed.has("follow"):
                for event in _events(JobEventWatchFuture(watch_eventlog(h.core, wire_id(number_of), path))):
                    printer.show(event)
                    if event.name == _LAST.get(path):
                        break
            else:
                request = {"id": wire_id(number_of), "keys": [path], "flags": 0}
                for line in h.rpc("job-info.lookup", request).get()[path].splitlines():
                    printer.show(EventLogEvent(line))
        except FileNotFoundError:
            raise _missing(h, word, parsed, path) from None
        except OSError as exc:
            raise Failure(text_of(exc)) from None
    return 0


class _Match:
    """What event is waited for."""

    def __init__(self, parsed: Parsed) -> None:
        self.name = parsed.words[1]
        self.left = number(parsed, "count", 1)
        if self.left <= 0:
            raise Failure("count must be > 0")
        self._key: str | None = None
        self._value = ""
        test = parsed.value("match-context")
        if test is not None:
            self._key, equals, self._value = test.partition("=")
            if not equals:
                raise Failure("must specify a context test as key=value")

    def found(self, event: EventLogEvent) -> bool:
        """True if that was it."""
        if event.name != self.name:
            return False
        if self._key is not None:
            value = event.context.get(self._key)
            if self._key not in event.context or self._value not in (compact(value), value):
                return False
        self.left -= 1
        return self.left == 0


def wait_event_command(parsed: Parsed) -> int:
    """Waits for an event, and prints it."""
    word = parsed.words[0]
    number_of = jobid(word)
    printer, path, match = _Printer(parsed), _path(parsed), _Match(parsed)
    flags = FLUX_JOB_EVENT_WATCH_WAITCREATE if parsed.has("waitcreate") else 0
    with handle() as h:
        watch = JobEventWatchFuture(watch_eventlog(h.core, wire_id(number_of), path, flags))
        try:
            for event in _events(watch, duration(parsed, "timeout")):
                found = match.found(event)
                if not parsed.has("quiet") and (found or parsed.has("verbose")):
                    printer.show(event)
                if found:
                    return 0
        except TimeoutError:
            raise Failure(f"wait-event timeout on event '{match.name}'") from None
        except FileNotFoundError:
            raise _missing(h, word, parsed, path) from None
        except OSError as exc:
            if exc.errno != errno.ENODATA:
                raise Failure(text_of(exc)) from None
        finally:
            watch.cancel(stop=True)
    raise Failure(f"event '{match.name}' never received")
