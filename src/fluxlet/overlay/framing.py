"""Messages as the parts that go between brokers (spec 04, 2.2 and 2.3). Pure.

    [route]... , "" (delimiter), [topic], [payload], header

Rules:
- What arrives is never trusted: `from_parts` raises OSError(EPROTO) for what is no message, and takes nothing else.
- There is always a delimiter, in control messages and events too: here all messages have the flag `route`.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from struct import Struct

from flux.constants import (
    FLUX_MSGFLAG_PAYLOAD,
    FLUX_MSGFLAG_ROUTE,
    FLUX_MSGFLAG_TOPIC,
    FLUX_MSGTYPE_CONTROL,
    FLUX_MSGTYPE_EVENT,
    FLUX_MSGTYPE_REQUEST,
    FLUX_MSGTYPE_RESPONSE,
    FLUX_ROLE_NONE,
    FLUX_USERID_UNKNOWN,
)
from flux.message import Message

#: Types of control messages.
HEARTBEAT, STATUS, DISCONNECT = range(3)

#: So many routes has nobody who is not going round in circles: no tree is that deep.
_MAX_ROUTES = 4096

_HEADER = Struct(">BBBBIIII")
_pack, _unpack = _HEADER.pack, _HEADER.unpack
_TYPES = frozenset((FLUX_MSGTYPE_REQUEST, FLUX_MSGTYPE_RESPONSE, FLUX_MSGTYPE_EVENT, FLUX_MSGTYPE_CONTROL))


def to_parts(message: Message) -> list[bytes]:
    """The parts of a message, for another broker."""
    flags = message.flags | FLUX_MSGFLAG_ROUTE
    parts = [*(message.routes or ()), b""]
    if flags & FLUX_MSGFLAG_TOPIC:
        parts.append(message.topic_bytes or b"")
    if flags & FLUX_MSGFLAG_PAYLOAD:
        parts.append(message.raw or b"")
    parts.append(_pack(0x8E, 1, message._type, flags, message._userid, message._rolemask, message.aux1, message.aux2))
    return parts


def from_parts(parts: Sequence[bytes]) -> Message:
    """The message that these parts are. Raises OSError(EPROTO) if they are none."""
    if not parts or len(parts[-1]) != _HEADER.size:
        raise OSError(errno.EPROTO, "no message header")
    magic, version, kind, flags, userid, rolemask, aux1, aux2 = _unpack(parts[-1])
    if magic != 0x8E or version != 1 or kind not in _TYPES:
        raise OSError(errno.EPROTO, "not a message header")
    end = len(parts) - 1
    pos = 0
    routes: tuple[bytes, ...] | None = None
    if flags & FLUX_MSGFLAG_ROUTE:
        while pos < end and parts[pos]:
            pos += 1
        if pos == end or pos > _MAX_ROUTES:
            raise OSError(errno.EPROTO, "routes without an end")
        routes = tuple(parts[:pos])
        pos += 1
    topic = raw = None
    if flags & FLUX_MSGFLAG_TOPIC:
        topic = parts[pos] if pos < end else b""
        if b"\0" in topic:
            topic = topic.partition(b"\0")[0]
        pos += 1
    if flags & FLUX_MSGFLAG_PAYLOAD:
        raw = parts[pos] if pos < end else b""
        pos += 1
    if pos != end:
        raise OSError(errno.EPROTO, "parts and flags do not agree")
    return Message._make(kind, flags, userid, rolemask, aux1, aux2, routes, topic, raw)


def control(kind: int, status: int = 0) -> Message:
    """A control message: HEARTBEAT, STATUS with a number of a status, or DISCONNECT."""
    return Message._make(
        FLUX_MSGTYPE_CONTROL,
        FLUX_MSGFLAG_ROUTE,
        FLUX_USERID_UNKNOWN,
        FLUX_ROLE_NONE,
        kind,
        status,
        (),
        None,
        None,
    )
