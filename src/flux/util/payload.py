"""Python values as topics and payloads of messages (spec 02, 3.1 and 3.2).

None and the null pointers of the ffi shim both mean "there is none". The shim is recognised by the mark
`is_null_pointer` on its class, so that this file needs none of it.
"""

from __future__ import annotations

import errno
import json
from typing import Any


def _is_null(value: Any) -> bool:
    return value is None or getattr(type(value), "is_null_pointer", False)


def encode_payload(payload: Any) -> Any:
    """The payload that a Python value is sent as, bytes without their closing NUL; `ffi.NULL` for no payload.

    Text is sent as its UTF-8 bytes (not quoted as JSON), bytes as they are, anything else as JSON. Raises
    TypeError or ValueError as `json.dumps` does for what is not JSON. Spec 02, 3.1.
    """
    if _is_null(payload):
        from flux.core.ffi import NULL

        return NULL
    if isinstance(payload, bytes):
        return payload
    text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False)
    # surrogateescape: a payload that was received with bytes that are no UTF-8 can be sent on unchanged.
    return text.encode("utf-8", "surrogateescape")


def encode_topic(topic: Any) -> bytes:
    """The bytes of a topic given as str (UTF-8) or bytes. Spec 02, 3.2.

    Raises OSError(EINVAL) for None and null pointers, TypeError for anything else that is no text. An empty
    topic is not refused here.
    """
    if isinstance(topic, str):
        return topic.encode("utf-8", "surrogateescape")
    if isinstance(topic, bytes):
        return topic
    if _is_null(topic):
        raise OSError(errno.EINVAL, "Topic must not be None/NULL")
    raise TypeError(errno.EINVAL, f"Topic must be a string, not {type(topic)}")
