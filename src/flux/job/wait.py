"""Waiting for jobs, and what became of them (spec 06, 15.2 and 5.4).

`wait` is for jobs submitted with `waitable=True`, each of which tells once that it has ended: the way to collect
whichever ends next. `result` works for any job, any number of times: it reads the job's eventlog.
"""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from flux.constants import (
    FLUX_JOB_RESULT_CANCELED,
    FLUX_JOB_RESULT_COMPLETED,
    FLUX_JOB_RESULT_FAILED,
    FLUX_JOB_RESULT_TIMEOUT,
    FLUX_JOB_STATE_INACTIVE,
    FLUX_JOBID_ANY,
)
from flux.core.arguments import is_null
from flux.core.codec import load_line, load_text
from flux.core.future_state import RpcState
from flux.core.handle import Flux
from flux.future import Future
from flux.job._requests import StreamState, core_of, event_text, request, watch_eventlog, wire_id
from flux.job.JobID import JobID
from flux.wrapper import local_error

if TYPE_CHECKING:
    from flux.job.info import JobInfo

__all__ = [
    "JobResultFuture",
    "JobWaitFuture",
    "JobWaitResult",
    "result",
    "result_async",
    "wait",
    "wait_async",
    "wait_get_status",
]

_BY_EXCEPTION = {"cancel": FLUX_JOB_RESULT_CANCELED, "timeout": FLUX_JOB_RESULT_TIMEOUT}


class JobWaitResult(NamedTuple):
    """How a job ended: its id, whether it was a success, and if not, a sentence (as bytes)."""

    jobid: int
    success: bool
    errstr: bytes


class JobWaitFuture(Future):
    """The future of `wait_async`."""

    def __init__(self, future_handle: Any) -> None:
        super().__init__(future_handle)

    def get_status(self) -> JobWaitResult:
        """Waits; how the job ended."""
        return wait_get_status(self)


def wait_async(flux_handle: Flux, jobid: Any = FLUX_JOBID_ANY) -> JobWaitFuture:
    """Asks to be told when a waitable job ends; see `wait`."""
    ctx = core_of(flux_handle)
    return JobWaitFuture(request(ctx, b"job-manager.wait", {"id": wire_id(jobid)}))


def wait_get_status(future: Future) -> JobWaitResult:
    """Waits for the future of `wait_async`; how the job ended."""
    if is_null(future):
        raise OSError(errno.EINVAL, "future must not be None/NULL")
    message = future._result()
    try:
        told = load_text(message.text_bytes())
        return JobWaitResult(told["id"], told["success"], told["errstr"].encode("utf-8", "surrogateescape"))
    except (AttributeError, ValueError, LookupError, TypeError):
        raise local_error(errno.EPROTO) from None


def wait(flux_handle: Flux, jobid: Any = FLUX_JOBID_ANY) -> JobWaitResult:
    """Waits until a waitable job has ended.

    Args:
        jobid: by default whichever waitable job ends next, or has ended already.

    Raises OSError(ECHILD) for a job that is not waitable, was waited for already or has a waiter, and where no
    waitable job is left.
    """
    return wait_get_status(wait_async(flux_handle, jobid))


class Outcome:
    """What the events of a job say of how it went: those of its main eventlog, added in their order.

    Attributes:
        found: ``id``, ``exception_occurred`` and, as they become known, ``t_submit``, ``t_run``, ``t_cleanup``,
            ``waitstatus``, ``exception_type``, ``exception_severity``, ``exception_note``, ``result``.

    The first fatal exception decides; among others the most severe is shown (spec 06, 5.4).
    """

    def __init__(self, jobid: int) -> None:
        self.found: dict[str, Any] = {"id": jobid, "exception_occurred": False}
        self._fatal_before_finish = False

    def add(self, event: dict[str, Any]) -> None:
        """Takes an event in. Raises KeyError, TypeError for what is no event."""
        name, found = event["name"], self.found
        if name == "submit":
            found["t_submit"] = event["timestamp"]
        elif name == "alloc":
            found["t_run"] = event["timestamp"]
        elif name == "finish":
            found.setdefault("t_cleanup", event["timestamp"])
            found["waitstatus"] = event["context"]["status"]
        elif name == "exception":
            context = event["context"]
            self._exception(event["timestamp"], context["type"], context["severity"], context.get("note", ""))
        elif name == "clean":
            found["result"] = self._result()

    def _exception(self, when: float, kind: str, severity: int, note: str) -> None:
        found = self.found
        if severity == 0 and "waitstatus" not in found:
            found.setdefault("t_cleanup", when)
            self._fatal_before_finish = True
        if not found["exception_occurred"] or severity < found["exception_severity"]:
            found.update(exception_occurred=True, exception_type=kind, exception_severity=severity, exception_note=note)

    def _result(self) -> int:
        found = self.found
        if found.get("waitstatus") == 0 and not self._fatal_before_finish:
            return FLUX_JOB_RESULT_COMPLETED
        if found.get("exception_severity") == 0:
            return _BY_EXCEPTION.get(found["exception_type"], FLUX_JOB_RESULT_FAILED)
        return FLUX_JOB_RESULT_FAILED


#: What is in the text of the events that `Outcome` looks at. More than half of a job's events are others.
_TELLING = (b"submit", b"alloc", b"finish", b"exception", b"clean", b"\\u")


def _tells(raw: bytes) -> bool:
    """False if the event in a response is one that says nothing of the outcome: it need not be decoded."""
    return any(word in raw for word in _TELLING)


class JobResultFuture(Future):
    """The future of `result_async`: fulfilled when the job is inactive."""

    def __init__(self, future_handle: Any) -> None:
        super().__init__(future_handle)

    def get_dict(self) -> dict[str, Any]:
        """Waits; what became of the job, as the attributes of a job that `flux.job.info.JobInfo` knows."""
        found: dict[str, Any] = json.loads(self._result())
        return found

    def get_info(self) -> JobInfo:
        """Waits; the same as a JobInfo: `result`, `status`, `returncode`, `runtime`, `exception`, ..."""
        from flux.job.info import JobInfo

        return JobInfo({**self.get_dict(), "state": FLUX_JOB_STATE_INACTIVE})


def result_async(flux_handle: Flux, jobid: Any, flags: int = 0) -> JobResultFuture:
    """Asks for what becomes of a job: any job of this user, running or not, any number of times.

    Args:
        jobid: anything that JobID takes.
        flags: none there are.

    Raises ValueError for what is no job id. An unknown job is an error of the future, FileNotFoundError.
    """
    number = JobID(jobid)
    ctx = core_of(flux_handle)
    if flags:
        raise local_error(errno.EINVAL)
    outcome = Outcome(int(number))
    state: StreamState

    def on_response(inner: RpcState) -> None:
        if inner.errnum == errno.ENODATA:
            state.fulfil(json.dumps(outcome.found))
        elif inner.errnum:
            state.fulfil(None, inner.errnum, inner.errtext)
        elif _tells(inner.value.raw or b"") and (line := event_text(inner)) is not None:
            try:
                outcome.add(load_line(line))
            except (ValueError, LookupError, TypeError):
                raise local_error(errno.EPROTO) from None

    inner = watch_eventlog(ctx, wire_id(number), "eventlog")
    state = StreamState(inner, on_response)
    return JobResultFuture(state)


def result(flux_handle: Flux, jobid: Any, flags: int = 0) -> JobInfo:
    """Waits until a job is inactive: what became of it. Arguments and errors as of `result_async`."""
    return result_async(flux_handle, jobid, flags).get_info()
