"""Messages as the parts that go between brokers (spec 04, 2.2 and 2.3). Pure.

    [route]... , "" (delimiter), [topic], [payload], header

Rules:
- What arrives is never trusted: `from_parts` raises OSError(EPROTO) for what is no message, and takes nothing else.
- There is always a delimiter, in control messages and events too: here all messages have the flag `route`.
- Brokers of ours send a message as one part, a frame as on a local socket: seven parts cost seven times the work, and
  encryption. They find out about each other by a control message of a type that the reference ignores, PACKED.
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
from flux.wire import Framer, encode

#: Types of control messages.
HEARTBEAT, STATUS, DISCONNECT = range(3)
#: Ours: "I take messages in one part", from child to parent, and back.
PACKED = 0x466C

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


def pack(message: Message) -> bytes:
    """A message as one part. Raises as `wire.encode`."""
    message.flags |= FLUX_MSGFLAG_ROUTE
    if message.routes is None:
        message.routes = ()
    return encode(message)


class Unpacker:
    """Takes messages that came as one part."""

    def __init__(self) -> None:
        self._framer = Framer()

    def unpack(self, part: bytes) -> Message:
        """The message in a part. Raises OSError(EPROTO) if there is none, or more than that."""
        framer = self._framer
        try:
            message = framer.next(part)
            if message is None or framer.buffered:
                raise OSError(errno.EPROTO, "not a message of one part")
            if len(message.routes or ()) > _MAX_ROUTES:
                raise OSError(errno.EPROTO, "routes without an end")
        except OSError as exc:
            framer.clear()
            raise OSError(errno.EPROTO, exc.strerror) from None
        return message


def control(kind: int, status: int = 0) -> Message:
    """A control message: HEARTBEAT, STATUS with a number of a status, DISCONNECT or PACKED."""
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
