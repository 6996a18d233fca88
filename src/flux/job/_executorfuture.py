"""The futures of a FluxExecutor (spec 06, 15.9).

Order of what happens to one, for one job: its id becomes known; then for each event of the job, callbacks for that
event, and completion if it is `finish` or a fatal exception.
"""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from collections.abc import Callable
from typing import Any, Self

from flux.eventlog import EventLogEvent
from flux.job.event import MAIN_EVENTS
from flux.job.JobID import JobID

_log = logging.getLogger("flux.job.executor")


class FluxExecutorFuture(concurrent.futures.Future[int]):
    """The future of a job, as those of `concurrent.futures`; its result is the job's exit code.

    Args:
        owning_thread_id: of the thread that completes it, in which waiting for it would be for ever.

    The result is -N if the job's shell was ended by signal N. An exception: JobException after a fatal exception of
    the job, OSError if the job was refused.
    """

    #: What `add_event_callback` takes.
    EVENTS = MAIN_EVENTS

    def __init__(self, owning_thread_id: int | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._owner = owning_thread_id
        # Guards what is below. Callbacks are called without it.
        self._known = threading.Condition()
        self._jobid: Any = None
        self._jobid_error: BaseException | None = None
        self._jobid_set = False
        self._jobid_callbacks: list[Callable[[Self], Any]] = []
        self._events: dict[str, list[EventLogEvent]] = {}
        self._event_callbacks: dict[str, list[Callable[[Self, EventLogEvent], Any]]] = {}

    def _call(self, callback: Callable[..., Any], *args: Any) -> None:
        try:
            callback(self, *args)
        except Exception:  # noqa: BLE001  # a callback's failure is nobody's here: logged, as by `concurrent.futures`
            _log.exception("exception calling callback for %r", self)

    def _check_waiting(self, done: bool) -> None:
        if not done and threading.get_ident() == self._owner:
            raise RuntimeError("Cannot wait for future from inside callback")

    # The id.

    def _set_jobid(self, jobid: Any, exc: BaseException | None = None) -> None:
        """Makes the id known, or why there is none. Raises RuntimeError the second time."""
        with self._known:
            if self._jobid_set:
                raise RuntimeError("the job id of the future has been set before")
            self._jobid, self._jobid_error, self._jobid_set = jobid, exc, True
            self._known.notify_all()
            callbacks, self._jobid_callbacks = self._jobid_callbacks, []
        for callback in callbacks:
            self._call(callback)

    def jobid(self, timeout: float | None = None) -> Any:
        """Waits for the job's id.

        Args:
            timeout: seconds; None: no limit.

        Raises TimeoutError; CancelledError if the future was cancelled before the job was submitted; RuntimeError,
        saying why, if there is no job.
        """
        self._check_waiting(self._jobid_set)
        with self._known:
            self._known.wait_for(lambda: self._jobid_set, timeout)
            if not self._jobid_set:
                raise concurrent.futures.TimeoutError
            if self._jobid_error is None:
                return self._jobid
            if isinstance(self._jobid_error, concurrent.futures.CancelledError):
                raise concurrent.futures.CancelledError
            raise RuntimeError(f"job could not be submitted due to {self._jobid_error!r}")

    def add_jobid_callback(self, callback: Callable[[Self], Any]) -> Self:
        """Has ``callback(future)`` called when the id is known, or known not to be; returns self."""
        with self._known:
            if not self._jobid_set:
                self._jobid_callbacks.append(callback)
                return self
        self._call(callback)
        return self

    # Events.

    def _set_event(self, event: EventLogEvent) -> None:
        """Takes in an event of the job, and calls back. Raises ValueError for one that there is not."""
        name = event["name"]
        if name not in self.EVENTS:
            raise ValueError(name)
        with self._known:
            self._events.setdefault(name, []).append(event)
            callbacks = list(self._event_callbacks.get(name, ())) if self._event_callbacks else ()
        for callback in callbacks:
            self._call(callback, event)

    def add_event_callback(self, event: str, callback: Callable[[Self, EventLogEvent], Any]) -> Self:
        """Has ``callback(future, event)`` called for each event of that name, past ones at once; returns self.

        Raises ValueError for a name not in EVENTS.
        """
        if event not in self.EVENTS:
            raise ValueError(event)
        with self._known:
            past = list(self._events.get(event, ()))
            self._event_callbacks.setdefault(event, []).append(callback)
        for entry in past:
            self._call(callback, entry)
        return self

    # As of every future.

    def add_done_callback(self, *args: Any, **kwargs: Any) -> Self:  # type: ignore[override]  # returns self
        """Has ``callback(future)`` called when it is done; returns self."""
        super().add_done_callback(*args, **kwargs)
        return self

    def result(self, *args: Any, **kwargs: Any) -> int:
        """Waits for the exit code. Arguments and errors as of `concurrent.futures.Future`."""
        self._check_waiting(self.done())
        return super().result(*args, **kwargs)

    def exception(self, *args: Any, **kwargs: Any) -> BaseException | None:
        """Waits for the exception, None if there is none. Arguments and errors as of `concurrent.futures.Future`."""
        self._check_waiting(self.done())
        return super().exception(*args, **kwargs)

    def set_exception(self, exception: BaseException | None) -> None:
        """Completes it with an exception; if its job has no id by now it will have none."""
        if not self._jobid_set:
            self._set_jobid(None, exception)
        super().set_exception(exception)

    def cancel(self, *args: Any, **kwargs: Any) -> bool:
        """Cancels it, if the job was not submitted yet; True if it is cancelled. Never cancels the job."""
        if not super().cancel(*args, **kwargs):
            return False
        if not self._jobid_set:
            self._set_jobid(None, concurrent.futures.CancelledError())
        return True


def as_passed(jobid: Any) -> Any:
    """The id of a job that is attached to. Raises TypeError, ValueError, OverflowError for what is none."""
    if isinstance(jobid, str | bytes):
        return JobID(jobid)
    if isinstance(jobid, bool) or not isinstance(jobid, int):
        raise TypeError(f"expected a job id, not {type(jobid)}")
    return jobid
