"""fluxlet.payload: which payloads pass as the JSON object of a request (spec 01, 1.7)."""

from __future__ import annotations

import base64
import errno
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flux.message import Message
from fluxlet.payload import cut, decode, read_object

TABLE = json.loads((Path(__file__).parents[1] / "vectors" / "wire-semantics.json").read_text())["payload"]


def request(raw: bytes | None) -> Message:
    message = Message.request(b"x.y")
    if raw is not None:
        message.flags |= 2
        message.raw = raw
    return message


def raw_of(payload: dict[str, str] | None) -> bytes | None:
    if payload is None:
        return None
    if "b64" in payload:
        return base64.b64decode(payload["b64"])
    return payload["text"].encode()


@pytest.mark.parametrize("case", TABLE, ids=lambda case: str(case["payload"]))
def test_payload_is_accepted_as_recorded(case: dict[str, Any]) -> None:
    message = request(raw_of(case["payload"]))
    if case["ok"]:
        assert isinstance(read_object(message), dict)
        return
    with pytest.raises(OSError, match=r".") as caught:
        read_object(message)
    assert errno.errorcode[caught.value.errno] == case["errno"]


def test_last_of_duplicate_keys_wins() -> None:
    assert read_object(request(b'{"a":1,"a":2}\0')) == {"a": 2}


def test_empty_payload_part_is_refused() -> None:
    with pytest.raises(OSError, match="NUL") as caught:
        read_object(request(b""))
    assert caught.value.errno == errno.EPROTO


def test_deep_nesting_is_refused_not_a_crash() -> None:
    with pytest.raises(OSError, match=r".") as caught:
        read_object(request(b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\0"))
    assert caught.value.errno == errno.EPROTO


class Example(msgspec.Struct):
    text: str
    number: int = 0
    flag: bool = False


@pytest.mark.parametrize(
    "payload",
    [
        '{"text":null}',
        '{"text":1}',
        "{}",
        '{"text":"a","number":1.0}',
        '{"text":"a","number":true}',
        '{"text":"a","number":"1"}',
        '{"text":"a","number":null}',
        '{"text":"a","flag":1}',
        '{"text":"a","flag":null}',
        '{"text":"a","number":9223372036854775808}',
        '{"text":"a","extra":9223372036854775808}',
        '{"text":"a","\\u0000":1}',
        "[]",
    ],
)
def test_wrong_type_of_a_key_is_refused(payload: str) -> None:
    with pytest.raises(OSError, match=r".") as caught:
        decode(request(payload.encode() + b"\0"), Example)
    assert caught.value.errno == errno.EPROTO


_DEEP = "[" * 300 + "]" * 300


@pytest.mark.parametrize("text", ["x" * 20_000, "\\\\" * 10_000, '","'.join(["y" * 300] * 100)])
def test_long_text_is_looked_at_as_closely_as_short_text(text: str) -> None:
    texts = f'["{text}"]'
    for bad in (
        f'{{"more":{texts},"text":"a","extra":9223372036854775808}}',
        f'{{"text":"a","number":9223372036854775808,"more":{texts}}}',
        f'{{"more":{texts},"text":"a","\\u0000":1}}',
        f'{{"text":"a","extra":{_DEEP},"more":{texts}}}',
        f'{{"text":"a","more":{texts}',
    ):
        with pytest.raises(OSError, match=r".") as caught:
            decode(request(bad.encode() + b"\0"), Example)
        assert caught.value.errno == errno.EPROTO
        with pytest.raises(OSError, match=r".") as caught:
            read_object(request(bad.encode() + b"\0"))
        assert caught.value.errno == errno.EPROTO
    for good in (f'{{"text":"a","more":{texts},"m":"{_DEEP}"}}', f'{{"m":"{"9" * 20_000}","more":{texts},"text":"a"}}'):
        assert decode(request(good.encode() + b"\0"), Example) == Example("a")
        assert read_object(request(good.encode() + b"\0"))["text"] == "a"


def test_refusal_names_the_field() -> None:
    with pytest.raises(OSError, match="number"):
        decode(request(b'{"text":"a","number":"1"}\0'), Example)


def test_unknown_keys_are_ignored() -> None:
    assert decode(request(b'{"text":"a","more":[1]}\0'), Example) == Example("a")


def test_string_is_cut_at_its_nul() -> None:
    assert cut(decode(request(b'{"text":"rank\\u0000x"}\0'), Example).text) == "rank"
