"""JSON as the wire carries it: NUL-terminated UTF-8 text (spec 01, 1.7; spec 02, 3.1).

The standard library's json is the judge of what is accepted and how it fails. Two short cuts give the same
results sooner: its C encoder is made once and not once per call, and msgspec, where it is importable, reads
payloads; whatever msgspec refuses is read again by json, whose answer or error is what callers see. Importing
msgspec takes longer than reading thousands of payloads without it, so that waits until a program has done so.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from flux.core.arguments import is_null
from flux.core.msgspec_import import load_msgspec
from flux.util import encode_payload

_decode: Callable[[bytes], Any] | None = None
_refusals: tuple[type[Exception], ...] = ()

#: What may be read by json before msgspec is imported: bytes, and a share for each payload.
_patience = 1_000_000
_PAYLOAD_SHARE = 100


def _adopt_msgspec() -> None:
    """From here on msgspec reads payloads, if it is installed."""
    global _decode, _refusals
    try:
        load_msgspec()
        import msgspec.json
    except ImportError:
        return
    _refusals = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
    _decode = msgspec.json.Decoder().decode


if "msgspec" in sys.modules:
    _adopt_msgspec()


def _make_encoder() -> Callable[[Any, int], Iterable[str]]:
    """What `json.dumps(value, ensure_ascii=False)` calls with (value, 0) for the pieces of its text."""
    plain = json.JSONEncoder(ensure_ascii=False)
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return lambda value, level: plain.iterencode(value)
    text = json.encoder.encode_basestring
    # `markers` None leaves out the check for circular structures, which then end in RecursionError: see
    # `dump_payload`.
    encode: Callable[[Any, int], Iterable[str]]
    encode = make(None, plain.default, text, None, ": ", ", ", False, False, True)
    return encode


_encode = _make_encoder()

#: What `json.loads` calls, between looking for white space in front and behind.
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def dump_payload(value: Any) -> bytes | None:
    """The wire payload of a Python value by the rule of spec 02, 3.1, its NUL included; None for none.

    Raises TypeError or ValueError as `json.dumps` does for what is not JSON.
    """
    kind = type(value)
    if kind is dict or kind is list:
        try:
            # JSON text holds no NUL: it writes one as \\u0000.
            return "".join(_encode(value, 0)).encode() + b"\0"
        except UnicodeEncodeError:
            return "".join(_encode(value, 0)).encode("utf-8", "surrogateescape") + b"\0"
        except RecursionError:
            return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape") + b"\0"
    if is_null(value):
        return None
    data: bytes = encode_payload(value)
    if b"\0" in data:
        data = data[: data.index(b"\0")]
    return data + b"\0"


def load_text(text: bytes) -> Any:
    """The value of JSON text in UTF-8. Raises json.JSONDecodeError (a ValueError) if it is none."""
    global _patience
    if _decode is not None:
        try:
            return _decode(text)
        except _refusals:
            pass  # json gives the verdict
    elif _patience > 0:
        _patience -= len(text) + _PAYLOAD_SHARE
        if _patience <= 0:
            _adopt_msgspec()
    decoded = text.decode("utf-8", "surrogateescape")
    try:
        value, end = _scan(decoded, 0)
        if end == len(decoded):
            return value
    except StopIteration:
        pass  # white space in front, or no JSON
    return json.loads(decoded)


def load_line(line: str) -> Any:
    """The value of a line of JSON text. Raises json.JSONDecodeError (a ValueError) if it is none."""
    try:
        value, end = _scan(line, 0)
        if end == len(line) - 1 and line[end] == "\n":
            return value
    except StopIteration:
        pass  # white space in front, or no JSON
    return json.loads(line)
