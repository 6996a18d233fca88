"""Events of jobs, as they happen (spec 06, 15.4).

for event in flux.job.event_watch(h, jobid):
    print(event.name, event.context)

flux.job.event_wait(h, jobid, "start")
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

from flux.core.handle import Flux
from flux.eventlog import EventLogEvent
from flux.future import Future
from flux.job._requests import cancel_eventlog, core_of, event_of, watch_eventlog, wire_id
from flux.kvs.watching import WatchImplementation

__all__ = [
    "MAIN_EVENTS",
    "EventLogEvent",
    "JobEventWatchFuture",
    "JobException",
    "event_wait",
    "event_watch",
    "event_watch_async",
]

#: The events of a job's main eventlog that callbacks of a FluxExecutorFuture may be registered for.
MAIN_EVENTS = frozenset(
    [
        "submit",
        "depend",
        "priority",
        "flux-restart",
        "urgency",
        "alloc",
        "free",
        "start",
        "release",
        "finish",
        "clean",
        "debug",
        "exception",
    ]
)


class JobException(Exception):
    """A fatal exception of a job: it was canceled, it ran out of time, it could not be started, ...

    Args:
        event: the exception's event.

    Attributes:
        timestamp: when, in seconds since the epoch.
        type: a word: ``cancel``, ``timeout``, ``exec``, ...
        note: a sentence.
        severity: 0.
    """

    def __init__(self, event: EventLogEvent) -> None:
        super().__init__(event)
        self.timestamp: float = event.timestamp
        self.type: str = event.context["type"]
        self.note: str = event.context.get("note", "")
        self.severity: int = event.context["severity"]

    def __str__(self) -> str:
        return f"job.exception: type={self.type}: {self.note}"


class JobEventWatchFuture(WatchImplementation):
    """The future of `event_watch_async`: fulfilled with one event after the other."""

    def __init__(self, future_handle: Any) -> None:
        super().__init__(future_handle)

    def watch_get(self, future: Future) -> EventLogEvent | None:
        """The event that `future` is fulfilled with; None for the sentinel, if that was asked for."""
        return event_of(future._state)

    def watch_cancel(self, future: Future) -> None:
        """Sends job-info.eventlog-watch-cancel."""
        cancel_eventlog(future._state)

    def get_event(self, autoreset: bool = True) -> EventLogEvent | None:
        """Waits for the next event; None at the end of the eventlog.

        Args:
            autoreset: go on to the next; False: another call returns the same.

        Raises FileNotFoundError for a job, or an eventlog, that there is not.
        """
        event: EventLogEvent | None = self.get(autoreset)
        return event


def event_watch_async(flux_handle: Flux, jobid: Any, eventlog: str = "eventlog") -> JobEventWatchFuture:
    """Follows an eventlog of a job: a future that is fulfilled with each event, the past ones first.

    Args:
        eventlog: ``eventlog``, ``guest.exec.eventlog``, ``guest.output``, ...

    The main eventlog ends with the job. A future that is dropped is cancelled.
    """
    ctx = core_of(flux_handle)
    future = JobEventWatchFuture(watch_eventlog(ctx, wire_id(jobid), eventlog))
    future._flux = flux_handle
    return future


def event_watch(flux_handle: Flux, jobid: Any, eventlog: str = "eventlog") -> Iterator[EventLogEvent]:
    """Generates the events of an eventlog of a job, the past ones first, until it ends. See `event_watch_async`."""
    watcher = event_watch_async(flux_handle, jobid, eventlog)
    try:
        while (event := watcher.get_event()) is not None:
            yield event
    finally:
        watcher.cancel(stop=True)


def event_wait(
    flux_handle: Flux, jobid: Any, name: str, eventlog: str = "eventlog", raiseJobException: bool = True
) -> EventLogEvent:
    """Waits for an event of a job, or finds that it has happened: the first of that name.

    Args:
        raiseJobException: raise JobException if the job gets a fatal exception before that.

    Raises OSError(ENODATA) if the eventlog ends without the event, FileNotFoundError for an unknown job.
    """
    watcher = event_watch_async(flux_handle, jobid, eventlog)
    try:
        while (event := watcher.get_event()) is not None:
            if event.name == name:
                return event
            if raiseJobException and event.name == "exception" and event.context["severity"] == 0:
                raise JobException(event)
    finally:
        watcher.cancel(stop=True)
    raise OSError(errno.ENODATA, f"eventlog ended before event='{name}'")
