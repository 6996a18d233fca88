"""Python values as the bytes of KVS values, and back; keys as they are given (spec 05, 12.1 and 12.2)."""

from __future__ import annotations

import json
from typing import Any

from flux.core.arguments import text_bytes

_dumps = json.dumps
_quote = json.encoder.encode_basestring_ascii


def encode_value(value: Any) -> bytes:
    """A value as it is stored: its JSON text as `json.dumps` writes it; bytes as they are.

    Raises TypeError for what JSON does not have.
    """
    kind = type(value)
    if kind is str:
        return _quote(value).encode()
    if kind is int:
        return b"%d" % value
    if isinstance(value, bytes):
        return value
    try:
        return _dumps(value).encode()
    except TypeError:
        raise TypeError from None


def decode_value(data: bytes) -> Any:
    """A stored value: JSON text decoded, other text in UTF-8 as str, anything else as bytes; None for no bytes.

    As in the reference, a value ends with its first NUL byte.
    """
    data = data.partition(b"\0")[0]
    if not data:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def key_text(key: Any) -> str:
    """A key given as str or bytes. Raises InvalidArguments for anything else but None, which is no key."""
    if type(key) is str:
        return key
    text = text_bytes("flux_kvs_lookup", key)
    return "" if text is None else text.decode("utf-8", "surrogateescape")
