"""What submissions look like on the wire, and what is refused before it gets there."""

from __future__ import annotations

import json
from typing import Any

import pytest

import flux
import flux.job
import flux.job.submit
from flux.job import _sign
from flux.message import Message


@pytest.fixture
def looped() -> flux.Flux:
    """A handle that gets what it sends."""
    return flux.Flux("loop://")


def sent(h: flux.Flux) -> Message:
    return h.recv()


def text_of(message: Message) -> str:
    return _sign.unwrap(message.payload["J"]).jobspec.decode()


def test_flags_and_urgency(looped: flux.Flux) -> None:
    spec = flux.job.JobspecV1.from_command(["true"])
    future = flux.job.submit_async(looped, spec, urgency=31, waitable=True, debug=True, novalidate=True)
    message = sent(looped)
    assert (message.topic, message.payload["urgency"], message.payload["flags"]) == ("job-ingest.submit", 31, 14)
    assert json.loads(text_of(message)) == spec.jobspec
    future.stop()


def test_text_is_signed_as_it_is(looped: flux.Flux) -> None:
    for given in ('{"x": "ƒ\udcff"}', '{"x": "ƒ\udcff"}'.encode("utf-8", "surrogateescape")):
        future = flux.job.submit_async(looped, given)
        assert _sign.unwrap(sent(looped).payload["J"]).jobspec == b'{"x": "\xc6\x92\xff"}'
        future.stop()


def test_a_signed_request_is_sent_as_it_is(looped: flux.Flux) -> None:
    future = flux.job.submit_async(looped, 'any"thing', pre_signed=True)
    assert sent(looped).payload == {"J": 'any"thing', "urgency": 16, "flags": 0}
    future.stop()


def test_many_submissions_say_the_same_as_few(looped: flux.Flux) -> None:
    """From the fiftieth on another encoder may be at work."""
    spec = flux.job.JobspecV1.from_command(["echo", "ü\u2028ƒ\x00"], environment={"A": "\udc80", "B": '"\\'})
    spec.setattr("user.numbers", [1, 1.5, 1e300, -0.0, True, None, {}])
    for _ in range(60):
        future = flux.job.submit_async(looped, spec)
        told = _sign.unwrap(sent(looped).payload["J"]).jobspec.decode("utf-8", "surrogateescape")
        assert json.loads(told) == spec.jobspec
        future.stop()
    spec.setattr("user.odd", float("nan"))
    future = flux.job.submit_async(looped, spec)
    future.stop()


def test_a_subclass_may_write_itself(looped: flux.Flux) -> None:
    class Mine(flux.job.JobspecV1):
        def dumps(self, **kwargs: Any) -> str:
            return '{"mine": 1}'

    future = flux.job.submit_async(looped, Mine.from_command(["true"]))
    assert text_of(sent(looped)) == '{"mine": 1}'
    future.stop()


@pytest.mark.parametrize(
    ("jobspec", "error", "text"),
    [
        (None, OSError, "jobspec must not be None/NULL"),
        (flux.job.ffi.NULL, OSError, "jobspec must not be None/NULL"),
        (3, TypeError, "jobspec must be a Jobspec or string (either binary or unicode)"),
    ],
)
def test_what_is_no_jobspec(looped: flux.Flux, jobspec: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error) as info:
        flux.job.submit_async(looped, jobspec)
    assert text in str(info.value)


def test_what_is_no_handle_and_no_future() -> None:
    for handle in (None, flux.job.ffi.NULL):
        with pytest.raises(OSError, match=r"EINVAL"):
            flux.job.submit_async(handle, "{}")
    for function in (flux.job.submit_get_id, flux.job.wait_get_status):
        with pytest.raises(OSError, match=r"future must not be None/NULL"):
            function(None)


@pytest.mark.parametrize(
    ("jobid", "error"), [("xx", ValueError), (None, TypeError), (-1, OverflowError), (1 << 64, OverflowError)]
)
def test_what_is_no_job_id(looped: flux.Flux, jobid: Any, error: type[Exception]) -> None:
    for function in (flux.job.cancel_async, flux.job.kill_async, flux.job.event_watch_async, flux.job.wait_async):
        with pytest.raises(error):
            function(looped, jobid)


def test_any_spelling_of_an_id_will_do(looped: flux.Flux) -> None:
    for spelling in (1234567, "1234567", "0x12d687", flux.job.JobID(1234567).f58, flux.job.JobID(1234567).words):
        future = flux.job.kill_async(looped, spelling, 0)
        assert sent(looped).payload == {"id": 1234567, "signum": 15}
        future.stop()
    future = flux.job.job_raise_async(looped, 5, "x", severity=3, note="")
    assert sent(looped).payload == {"id": 5, "severity": 3, "type": "x", "note": ""}
    future.stop()
