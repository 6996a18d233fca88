"""What all requests about jobs have in common: the id in them, and futures made of streams (spec 06, section 15).

Ids are unsigned numbers of 64 bits; in payloads they are signed, so that FLUX_JOBID_ANY is -1 (spec 06, 1.1).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from flux.constants import FLUX_NODEID_ANY, FLUX_RPC_NORESPONSE, FLUX_RPC_STREAMING
from flux.core.codec import dump_payload, load_line, load_text
from flux.core.flux_t import FluxT
from flux.core.future_state import FutureState, RpcState
from flux.core.kvs_rpc import core_of
from flux.eventlog import EventLogEvent
from flux.job.JobID import JobID
from flux.wrapper import local_error

__all__ = [
    "StreamState",
    "cancel_eventlog",
    "core_of",
    "event_of",
    "event_text",
    "job_number",
    "request",
    "watch_eventlog",
    "wire_id",
]


def job_number(jobid: Any) -> int:
    """A job id as a number: anything `int()` takes, and text in any spelling.

    Raises ValueError for text that is no job id, TypeError for what is neither text nor number, OverflowError for a
    number beyond 64 bits.
    """
    if isinstance(jobid, str | bytes):
        return int(JobID(jobid))
    number = int(jobid)
    if not 0 <= number < 1 << 64:
        raise OverflowError(f"integer {number} does not fit '64-bit unsigned int'")
    return number


def wire_id(jobid: Any) -> int:
    """As `job_number`, the way it is written in payloads."""
    number = job_number(jobid)
    return number - (1 << 64) if number >> 63 else number


def request(ctx: FluxT, topic: bytes, payload: dict[str, Any] | None, flags: int = 0) -> RpcState:
    """Sends a request to whichever broker serves it; its future."""
    return ctx.rpc(topic, dump_payload(payload), FLUX_NODEID_ANY, flags)


def watch_eventlog(ctx: FluxT, jobid: int, path: str, flags: int = 0) -> RpcState:
    """Sends job-info.eventlog-watch: a response for each event of the eventlog at `path` in the job's directory.

    Args:
        jobid: as `wire_id` has it.
        flags: FLUX_JOB_EVENT_WATCH_WAITCREATE, FLUX_JOB_EVENT_WATCH_INITIAL_SENTINEL.
    """
    payload = {"id": jobid, "path": path, "flags": flags}
    return request(ctx, b"job-info.eventlog-watch", payload, FLUX_RPC_STREAMING)


def cancel_eventlog(state: RpcState) -> None:
    """Asks for the end of the stream that `watch_eventlog` began; the events on their way still come."""
    if not state.done:
        request(state.ctx, b"job-info.eventlog-watch-cancel", {"matchtag": state.matchtag}, FLUX_RPC_NORESPONSE)


def event_text(state: FutureState) -> str | None:
    """The line in a response of `watch_eventlog`; None for the sentinel.

    Raises the response's error, and OSError(EPROTO) for anything else.
    """
    state.raise_error()
    text = state.value.text_bytes()
    if text is None:
        return None
    try:
        line = load_text(text)["event"]
    except (ValueError, LookupError, TypeError):
        raise local_error(errno.EPROTO) from None
    if not isinstance(line, str):
        raise local_error(errno.EPROTO)
    return line


def event_of(state: FutureState) -> EventLogEvent | None:
    """The event in a response of `watch_eventlog`; None for the sentinel. Raises as `event_text`, for no event too."""
    line = event_text(state)
    if line is None:
        return None
    try:
        return EventLogEvent(load_line(line))
    except (ValueError, TypeError):
        raise local_error(errno.EPROTO) from None


class StreamState(FutureState):
    """A future that a streaming RPC fulfils when it has told enough.

    Args:
        inner: the future of the RPC.
        on_response: called with `inner` for each response, an error too (`inner.errnum`); it fulfils this future, or
            leaves it. What is said after that it does not see. OSErrors that it raises fulfil this one.
    """

    def __init__(self, inner: RpcState, on_response: Callable[[RpcState], None]) -> None:
        self.inner = inner
        self.ctx = inner.ctx
        self._on_response = on_response
        inner.add_hook(self._heard)
        if inner.ready:
            self._heard()

    def _heard(self) -> None:
        inner = self.inner
        while inner.ready and not self.ready:
            try:
                self._on_response(inner)
            except OSError as exc:
                self.fulfil(None, exc.errno or errno.EIO, exc.strerror)
            if inner.errnum:
                break
            inner.reset()
        if self.ready:
            inner.remove_hook(self._heard)

    def awaits_response(self) -> bool:
        """True while the RPC may still answer."""
        return self.inner.awaits_response()

    def start_then(self) -> None:
        """There is no init; only the loop has to be kept going."""
        self.inner.start_then()

    def watch(self) -> None:
        """The RPC keeps the loop going."""
        self.inner.watch()
