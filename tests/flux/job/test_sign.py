"""The signed request J (spec 06, section 2)."""

from __future__ import annotations

import json
import os
from base64 import b64encode

import pytest

from flux.job import _sign

HEADER = b"version\0i1\0userid\0i0\0mechanism\0snone\0"


def signed(header: bytes = HEADER, payload: bytes = b"{}", signature: bytes = b"none") -> bytes:
    return b64encode(header) + b"." + b64encode(payload) + b"." + signature


def test_root_signs_as_the_specification_shows() -> None:
    assert _sign.sign(b"{}", 0) == b"dmVyc2lvbgBpMQB1c2VyaWQAaTAAbWVjaGFuaXNtAHNub25lAA==.e30=.none"


def test_what_is_signed_unwraps_to_the_same_bytes_and_this_user() -> None:
    jobspec = '{"name":"ƒ\\"\\u0000"}'.encode()
    assert _sign.unwrap(_sign.sign(jobspec)) == (os.getuid(), jobspec)
    assert _sign.unwrap(_sign.sign(jobspec, 1234).decode()) == (1234, jobspec)
    assert _sign.jobspec_of(_sign.sign(jobspec)) == jobspec


def test_the_payload_of_a_submission_is_the_json_of_a_signed_request() -> None:
    raw = _sign.payload(b'{"x":1}', 16, 4)
    assert raw.endswith(b"\0")
    assert json.loads(raw[:-1]) == {"J": _sign.sign(b'{"x":1}').decode(), "urgency": 16, "flags": 4}


@pytest.mark.parametrize(
    "request_j",
    [
        signed(b"mechanism\0snone\0userid\0i0\0version\0i1\0"),
        signed(HEADER[:-1]),
        b".".join(part.rstrip(b"=") for part in signed().split(b".")),
    ],
    ids=["any order", "no final NUL", "no padding"],
)
def test_what_the_reference_forgives(request_j: bytes) -> None:
    assert _sign.unwrap(request_j) == (0, b"{}")


@pytest.mark.parametrize(
    "request_j",
    [
        b"",
        b"..none",
        signed(HEADER + b"more\0i1\0"),
        signed(b"userid\0i0\0mechanism\0snone\0"),
        signed(HEADER + b"userid\0i0\0"),
        signed(HEADER + b"odd\0"),
        signed(HEADER.replace(b"i1", b"i2")),
        signed(HEADER.replace(b"snone", b"smunge")),
        signed(HEADER.replace(b"userid\0i0", b"userid\0i-1")),
        signed(HEADER.replace(b"userid\0i0", b"userid\0s0")),
        signed(HEADER.replace(b"userid\0i0", b"userid\0i4294967296")),
        signed(signature=b""),
        signed(signature=b"None"),
        signed() + b".",
        signed().replace(b".e30", b".e3\n0"),
        signed().replace(b".e30=", b".e3!="),
        signed().replace(b".e30=", b".e3=0"),
        "ü.e30=.none".encode(),
    ],
)
def test_what_the_reference_refuses(request_j: bytes) -> None:
    with pytest.raises(ValueError, match=r"must|three parts|not base64|twice|zip|codec"):
        _sign.unwrap(request_j)


def test_the_jobspec_is_found_in_a_request_signed_otherwise() -> None:
    assert _sign.jobspec_of(signed(b"whatever", b'{"a":1}', b"MUNGE:xyz:")) == b'{"a":1}'
    for text in ("", "a", "a.b.c.d", "x.e3\n0.none"):
        with pytest.raises(ValueError, match=r"must|three parts|not base64|twice|zip|codec"):
            _sign.jobspec_of(text)
