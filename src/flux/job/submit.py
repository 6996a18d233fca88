"""Submitting jobs (spec 06, 15.1)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from flux.constants import (
    FLUX_JOB_DEBUG,
    FLUX_JOB_NOVALIDATE,
    FLUX_JOB_PRE_SIGNED,
    FLUX_JOB_URGENCY_DEFAULT,
    FLUX_JOB_WAITABLE,
    FLUX_NODEID_ANY,
)
from flux.core.arguments import c_int, is_null
from flux.core.codec import dump_payload, load_text
from flux.core.handle import Flux
from flux.core.msgspec_import import load_msgspec
from flux.future import Future
from flux.job import _sign
from flux.job._requests import core_of
from flux.job.JobID import JobID
from flux.job.Jobspec import Jobspec
from flux.wrapper import local_error

__all__ = ["SubmitFuture", "submit", "submit_async", "submit_get_id"]


class SubmitFuture(Future):
    """The future of `submit_async`; it can be awaited, and has the job's id."""

    def __init__(self, future_handle: Any) -> None:
        super().__init__(future_handle)

    def get_id(self) -> JobID:
        """Waits; the id of the job. Raises OSError with the reason if it was refused."""
        return submit_get_id(self)


#: Jobspecs that json encodes before msgspec is imported, if it is installed: a tenth of the time for each, after a
#: wait that a program which submits but a few had better not have.
_patience = 50
_encode: Callable[[Any], bytes] | None = None
_refusals: tuple[type[Exception], ...] = ()


def _adopt_msgspec() -> None:
    """From here on msgspec encodes jobspecs, if it is installed."""
    global _encode, _refusals
    try:
        load_msgspec()
        import msgspec.json
    except ImportError:
        return
    _refusals = (msgspec.MsgspecError, TypeError, ValueError, RecursionError)
    _encode = msgspec.json.Encoder().encode


def _dump(jobspec: dict[str, Any]) -> bytes:
    """What `Jobspec.dumps` would give, but perhaps without its blanks."""
    global _patience
    if _encode is not None:
        try:
            return _encode(jobspec)
        except _refusals:
            pass  # json gives the verdict
    elif _patience > 0:
        _patience -= 1
        if _patience == 0:
            _adopt_msgspec()
    raw = dump_payload(jobspec)
    assert raw is not None
    return raw[:-1]


def _text(jobspec: Any) -> bytes:
    """A jobspec as it is signed."""
    if isinstance(jobspec, Jobspec):
        if type(jobspec).dumps is Jobspec.dumps:
            return _dump(jobspec.jobspec)
        jobspec = jobspec.dumps()
    if isinstance(jobspec, str):
        jobspec = jobspec.encode("utf-8", "surrogateescape")
    elif is_null(jobspec):
        raise OSError(errno.EINVAL, "jobspec must not be None/NULL")
    elif not isinstance(jobspec, bytes):
        raise TypeError("jobspec must be a Jobspec or string (either binary or unicode)")
    return bytes(jobspec.partition(b"\0")[0])


def submit_async(
    flux_handle: Flux,
    jobspec: Jobspec | str | bytes,
    urgency: int = FLUX_JOB_URGENCY_DEFAULT,
    waitable: bool = False,
    debug: bool = False,
    pre_signed: bool = False,
    novalidate: bool = False,
) -> SubmitFuture:
    """Asks for a job; does not wait.

    Args:
        jobspec: a Jobspec, or the JSON text of one.
        urgency: 0 (held) to 31 (expedited).
        waitable: `wait` may be called for it.
        debug: its eventlog has debug events.
        pre_signed: `jobspec` is a signed request J.
        novalidate: the service does not look at the jobspec. For the instance owner.

    Raises OSError(EINVAL) for no handle or no jobspec; TypeError for a jobspec of another type. What is wrong with
    the job itself is an error of the future.
    """
    text = _text(jobspec)
    ctx = core_of(flux_handle)
    flags = (
        (FLUX_JOB_WAITABLE if waitable else 0)
        | (FLUX_JOB_DEBUG if debug else 0)
        | (FLUX_JOB_PRE_SIGNED if pre_signed else 0)
        | (FLUX_JOB_NOVALIDATE if novalidate else 0)
    )
    urgency = c_int("flux_job_submit", urgency)
    if pre_signed:
        signed = text.decode("utf-8", "surrogateescape")
        raw = dump_payload({"J": signed, "urgency": urgency, "flags": flags & ~FLUX_JOB_PRE_SIGNED})
    else:
        raw = _sign.payload(text, urgency, flags)
    return SubmitFuture(ctx.rpc(b"job-ingest.submit", raw, FLUX_NODEID_ANY, 0))


def submit_get_id(future: Future) -> JobID:
    """Waits for the future of `submit_async`; the id of the job. May be called again."""
    if is_null(future):
        raise OSError(errno.EINVAL, "future must not be None/NULL")
    message = future._result()
    try:
        return JobID(load_text(message.text_bytes())["id"])
    except (AttributeError, ValueError, LookupError, TypeError):
        raise local_error(errno.EPROTO) from None  # another future, or another service


def submit(
    flux_handle: Flux,
    jobspec: Jobspec | str | bytes,
    urgency: int = FLUX_JOB_URGENCY_DEFAULT,
    waitable: bool = False,
    debug: bool = False,
    pre_signed: bool = False,
    novalidate: bool = False,
) -> JobID:
    """Submits a job and returns its id, once the job is accepted and recorded. Arguments as of `submit_async`.

    Raises what that does, and OSError with the reason if the job is refused.
    """
    return submit_get_id(
        submit_async(flux_handle, jobspec, urgency, waitable, debug, pre_signed, novalidate),
    )
