"""The functions about messages: `flux_msg_*`, and the encoders (spec 02, 9.3; spec 01, 1.4 for who may do what).

What belongs to another type of message is EINVAL to set and EPROTO to get.
"""

from __future__ import annotations

import errno
from typing import Any

from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
    FLUX_MSGFLAG_PAYLOAD,
    FLUX_MSGFLAG_PRIVATE,
    FLUX_MSGFLAG_ROUTE,
    FLUX_MSGFLAG_STREAMING,
    FLUX_MSGFLAG_TOPIC,
    FLUX_MSGTYPE_EVENT,
    FLUX_MSGTYPE_REQUEST,
    FLUX_MSGTYPE_RESPONSE,
    FLUX_NODEID_UPSTREAM,
    FLUX_ROLE_LOCAL,
)
from flux.core.arguments import signed
from flux.core.kinds import BOOL, INT, MESSAGE, OUT, TEXT, UINT32, function, pointer_to
from flux.message import Message, msg_typestr, terminated
from flux.wrapper import local_error

_ONE_WAY_OR_STREAM = FLUX_MSGFLAG_NORESPONSE | FLUX_MSGFLAG_STREAMING
_ROUTE_ID_SHOWN = 8


def store(out: Any, value: Any) -> int:
    """Sets an out-parameter, if there is one to set; what C functions of that kind return is 0."""
    if out is not None:
        out[0] = value
    return 0


def require(message: Message, types: int, errnum: int) -> None:
    """Raises OSError(errnum) unless the message's type is one of `types`."""
    if not message._type & types:
        raise local_error(errnum)


# The encoders.


@function("flux_request_encode", TEXT, TEXT)
def _request_encode(topic: bytes | None, payload: bytes | None) -> Message:
    if topic is None:
        raise local_error(errno.EINVAL)
    return Message.request(topic, terminated(payload))


@function("flux_event_encode", TEXT, TEXT)
def _event_encode(topic: bytes | None, payload: bytes | None) -> Message:
    if topic is None:
        raise local_error(errno.EINVAL)
    return Message.event(topic, terminated(payload))


@function("flux_msg_typestr", INT)
def _typestr(kind: int) -> bytes:
    return msg_typestr(kind).encode()


@function("flux_msg_copy", MESSAGE, BOOL)
def _copy(message: Message, payload: bool) -> Message:
    return message.copy(payload)


@function("flux_msg_encode_size", MESSAGE, failure=-1)
def _encode_size(message: Message) -> int:
    from flux.wire import encode_body

    return len(encode_body(message))


@function("flux_msg_last_error", MESSAGE)
def _last_error(message: Message) -> bytes:
    return b""  # the reference keeps a text only for failures that are ours to raise


# Fields of every message.


@function("flux_msg_get_type", MESSAGE, OUT, failure=-1)
def _get_type(message: Message, out: Any) -> int:
    return store(out, message._type)


@function("flux_msg_set_type", MESSAGE, INT, failure=-1)
def _set_type(message: Message, value: int) -> int:
    message.type = value
    return 0


@function("flux_msg_get_topic", MESSAGE, OUT, failure=-1)
def _get_topic(message: Message, out: Any) -> int:
    if message.topic_bytes is None:
        raise local_error(errno.EPROTO)
    return store(out, pointer_to(message.topic_bytes))


@function("flux_msg_set_topic", MESSAGE, TEXT, failure=-1)
def _set_topic(message: Message, value: bytes | None) -> int:
    message.set_topic(value)
    return 0


@function("flux_msg_get_string", MESSAGE, OUT, failure=-1)
def _get_string(message: Message, out: Any) -> int:
    return store(out, pointer_to(message.text_bytes()))


@function("flux_msg_set_string", MESSAGE, TEXT, failure=-1)
def _set_string(message: Message, value: bytes | None) -> int:
    message.set_raw(terminated(value))
    return 0


@function("flux_msg_has_payload", MESSAGE)
def _has_payload(message: Message) -> bool:
    return bool(message.flags & FLUX_MSGFLAG_PAYLOAD)


@function("flux_msg_get_userid", MESSAGE, OUT, failure=-1)
def _get_userid(message: Message, out: Any) -> int:
    return store(out, message._userid)


@function("flux_msg_set_userid", MESSAGE, UINT32, failure=-1)
def _set_userid(message: Message, value: int) -> int:
    message._userid = value
    return 0


@function("flux_msg_get_rolemask", MESSAGE, OUT, failure=-1)
def _get_rolemask(message: Message, out: Any) -> int:
    return store(out, message._rolemask)


@function("flux_msg_set_rolemask", MESSAGE, UINT32, failure=-1)
def _set_rolemask(message: Message, value: int) -> int:
    message._rolemask = value
    return 0


@function("flux_msg_is_local", MESSAGE)
def _is_local(message: Message) -> bool:
    return bool(message._rolemask & FLUX_ROLE_LOCAL)


# Fields of some types.


@function("flux_msg_get_nodeid", MESSAGE, OUT, failure=-1)
def _get_nodeid(message: Message, out: Any) -> int:
    require(message, FLUX_MSGTYPE_REQUEST, errno.EPROTO)
    return store(out, message.aux1)


@function("flux_msg_set_nodeid", MESSAGE, UINT32, failure=-1)
def _set_nodeid(message: Message, value: int) -> int:
    require(message, FLUX_MSGTYPE_REQUEST, errno.EINVAL)
    if value == FLUX_NODEID_UPSTREAM:
        raise local_error(errno.EINVAL)  # a flag says that, next to the rank of the sender
    message.aux1 = value
    return 0


@function("flux_msg_get_matchtag", MESSAGE, OUT, failure=-1)
def _get_matchtag(message: Message, out: Any) -> int:
    require(message, FLUX_MSGTYPE_REQUEST | FLUX_MSGTYPE_RESPONSE, errno.EPROTO)
    return store(out, message.aux2)


@function("flux_msg_set_matchtag", MESSAGE, UINT32, failure=-1)
def _set_matchtag(message: Message, value: int) -> int:
    require(message, FLUX_MSGTYPE_REQUEST | FLUX_MSGTYPE_RESPONSE, errno.EINVAL)
    message.aux2 = value
    return 0


@function("flux_msg_get_errnum", MESSAGE, OUT, failure=-1)
def _get_errnum(message: Message, out: Any) -> int:
    require(message, FLUX_MSGTYPE_RESPONSE, errno.EPROTO)
    return store(out, signed(message.aux1))


@function("flux_msg_set_errnum", MESSAGE, INT, failure=-1)
def _set_errnum(message: Message, value: int) -> int:
    require(message, FLUX_MSGTYPE_RESPONSE, errno.EINVAL)
    message.aux1 = value & 0xFFFFFFFF
    return 0


@function("flux_msg_get_seq", MESSAGE, OUT, failure=-1)
def _get_seq(message: Message, out: Any) -> int:
    require(message, FLUX_MSGTYPE_EVENT, errno.EPROTO)
    return store(out, message.aux1)


@function("flux_msg_set_seq", MESSAGE, UINT32, failure=-1)
def _set_seq(message: Message, value: int) -> int:
    require(message, FLUX_MSGTYPE_EVENT, errno.EINVAL)
    message.aux1 = value
    return 0


# Flags. TOPIC, PAYLOAD and ROUTE say which parts a message has, so they follow those parts: taking one away
# takes the part with it, and it cannot be claimed for a part that is not there.


def _valid(flags: int) -> None:
    if flags & ~0xFF or flags & _ONE_WAY_OR_STREAM == _ONE_WAY_OR_STREAM:
        raise local_error(errno.EINVAL)


@function("flux_msg_has_flag", MESSAGE, INT)
def _has_flag(message: Message, flags: int) -> bool:
    return bool(message.flags & flags)


@function("flux_msg_set_flag", MESSAGE, INT, failure=-1)
def _set_flag(message: Message, flags: int) -> int:
    _valid(flags)
    if flags & ~message.flags & (FLUX_MSGFLAG_TOPIC | FLUX_MSGFLAG_PAYLOAD):
        raise local_error(errno.EINVAL)
    if flags & FLUX_MSGFLAG_ROUTE:
        _route_enable(message)
    message.flags |= flags
    return 0


@function("flux_msg_clear_flag", MESSAGE, INT, failure=-1)
def _clear_flag(message: Message, flags: int) -> int:
    _valid(flags)
    if flags & message.flags & FLUX_MSGFLAG_TOPIC:
        message.set_topic(None)
    if flags & FLUX_MSGFLAG_PAYLOAD:
        message.set_raw(None)
    if flags & FLUX_MSGFLAG_ROUTE:
        _route_disable(message)
    message.flags &= ~flags
    return 0


@function("flux_msg_is_streaming", MESSAGE)
def _is_streaming(message: Message) -> bool:
    return bool(message.flags & FLUX_MSGFLAG_STREAMING)


@function("flux_msg_set_streaming", MESSAGE, failure=-1)
def _set_streaming(message: Message) -> int:
    message.flags = message.flags & ~FLUX_MSGFLAG_NORESPONSE | FLUX_MSGFLAG_STREAMING
    return 0


@function("flux_msg_is_noresponse", MESSAGE)
def _is_noresponse(message: Message) -> bool:
    return bool(message.flags & FLUX_MSGFLAG_NORESPONSE)


@function("flux_msg_set_noresponse", MESSAGE, failure=-1)
def _set_noresponse(message: Message) -> int:
    message.flags = message.flags & ~FLUX_MSGFLAG_STREAMING | FLUX_MSGFLAG_NORESPONSE
    return 0


@function("flux_msg_is_private", MESSAGE)
def _is_private(message: Message) -> bool:
    return bool(message.flags & FLUX_MSGFLAG_PRIVATE)


@function("flux_msg_set_private", MESSAGE, failure=-1)
def _set_private(message: Message) -> int:
    message.flags |= FLUX_MSGFLAG_PRIVATE
    return 0


# Routes: pushed in front, so the first one pushed, the sender, is the last of the tuple (spec 01, 1.2).


@function("flux_msg_route_enable", MESSAGE)
def _route_enable(message: Message) -> None:
    if message.routes is None:
        message.routes = ()
    message.flags |= FLUX_MSGFLAG_ROUTE


@function("flux_msg_route_disable", MESSAGE)
def _route_disable(message: Message) -> None:
    message.routes = None
    message.flags &= ~FLUX_MSGFLAG_ROUTE


@function("flux_msg_route_clear", MESSAGE)
def _route_clear(message: Message) -> None:
    if message.routes is not None:
        message.routes = ()


def _routes(message: Message) -> tuple[bytes, ...]:
    if message.routes is None:
        raise local_error(errno.EPROTO)
    return message.routes


@function("flux_msg_route_push", MESSAGE, TEXT, failure=-1)
def _route_push(message: Message, identity: bytes | None) -> int:
    if identity is None:
        raise local_error(errno.EINVAL)
    message.routes = (identity, *_routes(message))
    return 0


@function("flux_msg_route_count", MESSAGE, failure=-1)
def _route_count(message: Message) -> int:
    return len(_routes(message))


@function("flux_msg_route_first", MESSAGE)
def _route_first(message: Message) -> bytes | None:
    return message.routes[-1] if message.routes else None


@function("flux_msg_route_last", MESSAGE)
def _route_last(message: Message) -> bytes | None:
    return message.routes[0] if message.routes else None


@function("flux_msg_route_string", MESSAGE)
def _route_string(message: Message) -> bytes:
    return route_string(_routes(message))


def route_string(routes: tuple[bytes, ...]) -> bytes:
    """The senders, oldest first, each cut to 8 characters, joined by ``!``."""
    return b"!".join(route[:_ROUTE_ID_SHOWN] for route in reversed(routes))
