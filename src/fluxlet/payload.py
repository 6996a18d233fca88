"""Reading the JSON payloads of requests, as strictly as the reference's services do (spec 01, 1.7).

`decode(message, Type)` gives a request's payload as a msgspec Struct; decoding is the validation, and what does
not fit is OSError(EPROTO) with a sentence that names the field. `read_object` is for services that take any
object.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Hashable
from functools import cache
from typing import Any, TypeVar, cast

import msgspec

from flux.message import Message

T = TypeVar("T")

_object = msgspec.json.Decoder(dict[str, Any]).decode
_digits = bytes.maketrans(b"123456789", b"000000000")
_SHORTEST_SUSPECT = len('{"a":}') + 6
_INT64 = 1 << 63

#: What the decoder raises for what is no JSON, not of the type that is asked for, no UTF-8, or nested beyond measure.
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

#: Text that is longer is looked at less closely where that will do; and how many strings in it are few.
_LONG = 16 << 10
_FEW = 64

#: Levels of nesting that a payload may have. Whoever reads it, or sends it on, walks through it by recursion: what
#: could be decoded just so would fail them.
_DEPTH = 256
_brackets = bytes.maketrans(b"{}", b"[]")
_others = bytes(byte for byte in range(256) if byte not in b"[]{}")
_strings = re.compile(rb'"(?:[^"\\]|\\.)*"')


def _text(message: Message) -> bytes:
    raw = message.raw
    if raw is None:
        raise OSError(errno.EPROTO, "request has no payload")
    if raw[-1:] != b"\0":
        raise OSError(errno.EPROTO, "payload is not NUL-terminated text")
    return raw[: raw.index(b"\0")]


def read_object(message: Message) -> dict[str, Any]:
    """The JSON object that a message carries. Raises OSError(EPROTO) for anything else."""
    raw = message.raw
    # Without an inner NUL, as payloads nearly always are; what else there is, `_text` sorts out.
    text = raw[:-1] if raw and raw.find(b"\0") == len(raw) - 1 else _text(message)
    try:
        value = _object(text)
    except UNREADABLE as exc:
        raise OSError(errno.EPROTO, f"payload is not a JSON object: {exc}") from None
    check_value(text, value)
    return value


def check_value(text: bytes, value: Any, depth: int = _DEPTH) -> None:
    """Refuses JSON text, and what it was decoded to, that no payload may be: raises OSError(EPROTO).

    That is what is nested more than `depth` levels deep, integers beyond 64 bits, NULs in keys.
    """
    if len(text) > _LONG:
        text = _outside_strings(text)
    if len(text) > 2 * depth:
        _check_depth(text, depth)
    if len(text) >= _SHORTEST_SUSPECT and _suspicious(text):
        _check(value)


def _outside_strings(text: bytes) -> bytes:
    """What is outside of the strings in JSON text, if those are few and plain; else all of it.

    That is all that has to be looked at: a commit of a long value is nearly nothing else.
    """
    if b"\\" in text:
        return text
    pieces = []
    end = -1
    for _ in range(_FEW):
        start = text.find(b'"', end + 1)
        if start < 0:
            pieces.append(text[end + 1 :])
            return b"".join(pieces)
        pieces.append(text[end + 1 : start])
        end = text.find(b'"', start + 1)
        if end < 0:
            break
    return text


def _suspicious(text: bytes) -> bool:
    """Needs a closer look: an integer that may be beyond 64 bits, or a NUL, perhaps in a key.

    A regular expression would take twenty times as long.
    """
    # A single byte is found much faster than several.
    return (b"\\" in text and b"\\u0000" in text) or b"0000000000000000000" in text.translate(_digits)


def _check_depth(text: bytes, depth: int = _DEPTH) -> None:
    """Refuses JSON text that is nested too deeply."""
    if text.count(b"[") + text.count(b"{") <= depth:
        return
    # Without its strings, a good text's brackets match: each pass takes the innermost ones away.
    left = _strings.sub(b"", text).translate(_brackets, _others)
    for _ in range(depth):
        if not left:
            return
        left = left.replace(b"[]", b"")
    if left:
        raise OSError(errno.EPROTO, f"payload is nested more than {depth} levels deep")


def _check(value: Any) -> None:
    """Refuses integers beyond 64 bits and NULs in keys, which JSON allows and the reference does not."""
    if isinstance(value, dict):
        for key, item in value.items():
            if "\0" in key:
                raise OSError(errno.EPROTO, "NUL byte in an object key of the payload")
            _check(item)
    elif isinstance(value, list):
        for item in value:
            _check(item)
    elif isinstance(value, int) and not -_INT64 <= value < _INT64:
        raise OSError(errno.EPROTO, f"integer {value} in the payload does not fit 64 bits")


@cache
def _decoder(kind: Hashable) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(cast("type[Any]", kind))


def decode(message: Message, kind: type[T]) -> T:
    """A request's payload as `kind`, a msgspec Struct. Raises OSError(EPROTO) saying what does not fit."""
    text = _text(message)
    try:
        value: T = _decoder(cast(Hashable, kind)).decode(text)
        plain = _outside_strings(text) if len(text) > _LONG else text
        # What the type has no field for was skipped so far, and may be wrong as well.
        everything = _object(text) if _suspicious(plain) else None
    except UNREADABLE as exc:
        raise OSError(errno.EPROTO, f"bad payload of {message.topic}: {exc}") from None
    if len(plain) > 2 * _DEPTH:
        _check_depth(plain)
    if everything is not None:
        _check(everything)
    return value


def cut(text: str) -> str:
    """A string argument as the reference's services read it: up to its first NUL."""
    return text.partition("\0")[0]
