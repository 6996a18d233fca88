"""Message: what travels between clients, brokers and modules (spec 01 section 1; spec 02 section 6).

One class serves everybody: programs see the properties of the reference's Python class; the wire codec, the
router and the handle use the plain slots below, which hold a message as it is on the wire.

    flags        header byte; TOPIC, PAYLOAD and ROUTE are kept in step with the three below
    routes       tuple of bytes in frame order (first: next hop, last: original sender); None if ROUTE is clear
    topic_bytes  the topic, or None
    raw          the whole payload with its NUL if it has one, or None
    aux1, aux2   the two words whose meaning depends on the type (request: nodeid, matchtag; response:
                 errnum, matchtag; event: sequence, unused; control: type, status)
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Self

from flux.constants import (
    FLUX_MATCHTAG_NONE,
    FLUX_MSGFLAG_PAYLOAD,
    FLUX_MSGFLAG_ROUTE,
    FLUX_MSGFLAG_TOPIC,
    FLUX_MSGTYPE_CONTROL,
    FLUX_MSGTYPE_EVENT,
    FLUX_MSGTYPE_REQUEST,
    FLUX_MSGTYPE_RESPONSE,
    FLUX_NODEID_ANY,
    FLUX_ROLE_NONE,
    FLUX_ROLE_OWNER,
    FLUX_USERID_UNKNOWN,
)
from flux.core.arguments import int32u, is_null, signed, text_bytes
from flux.core.codec import dump_payload
from flux.core.watchers import Watcher, require_callable, require_handle
from flux.util import encode_topic
from flux.wrapper import InvalidArguments, WrapperPimpl, local_error

if TYPE_CHECKING:
    from flux.core.handle import Flux
    from flux.core.msgpimpl import MessagePimpl

__all__ = ["Message", "MessageWatcher", "msg_typestr"]

_TYPE_NAMES = {
    FLUX_MSGTYPE_REQUEST: "request",
    FLUX_MSGTYPE_RESPONSE: "response",
    FLUX_MSGTYPE_EVENT: "event",
    FLUX_MSGTYPE_CONTROL: "control",
}

#: A response has its request's flags but this one (spec 01, 1.4).
_RESPONSE_MASK = 0xFF & ~FLUX_MSGFLAG_PAYLOAD
_TOPIC_ROUTE = FLUX_MSGFLAG_TOPIC | FLUX_MSGFLAG_ROUTE
_TOPIC_ROUTE_PAYLOAD = _TOPIC_ROUTE | FLUX_MSGFLAG_PAYLOAD


def msg_typestr(msg_type: int) -> str:
    """The name of a message type; of a mask, that of its lowest bit; ``"unknown"`` for any other number."""
    if not isinstance(msg_type, int):
        raise InvalidArguments("flux_msg_typestr", "const char *flux_msg_typestr(int)", (msg_type,))
    for bit, name in _TYPE_NAMES.items():
        if msg_type & bit:
            return name
    return "unknown"


def terminated(payload: bytes | None) -> bytes | None:
    """A text payload as it goes on the wire: cut at its first NUL, one NUL appended (spec 01, 1.7)."""
    if payload is None:
        return None
    if b"\0" in payload:
        payload = payload[: payload.index(b"\0")]
    return payload + b"\0"


_new = object.__new__


class Message(WrapperPimpl):
    """A request, response, event or control message.

    Args:
        type_id: FLUX_MSGTYPE_REQUEST, _RESPONSE, _EVENT or _CONTROL; OSError(EINVAL) for anything else.
        handle: an opaque message (from a dynamic name such as `request_encode`): the result is that message.

    Specified in spec 02, section 6.
    """

    __slots__ = (
        "__weakref__",
        "_rolemask",
        "_type",
        "_userid",
        "aux1",
        "aux2",
        "flags",
        "raw",
        "routes",
        "topic_bytes",
    )

    _type: int
    flags: int
    _userid: int
    _rolemask: int
    aux1: int
    aux2: int
    routes: tuple[bytes, ...] | None
    topic_bytes: bytes | None
    raw: bytes | None

    def __new__(cls, type_id: int = FLUX_MSGTYPE_REQUEST, handle: Message | None = None) -> Self:
        if handle is not None:
            if not isinstance(handle, cls):
                raise TypeError(f"expected a message handle, not {type(handle)}")
            return handle
        return _new(cls)

    def __init__(self, type_id: int = FLUX_MSGTYPE_REQUEST, handle: Message | None = None) -> None:
        if handle is not None:
            return
        if not isinstance(type_id, int):
            raise InvalidArguments("flux_msg_create", "flux_msg_t *flux_msg_create(int)", (type_id,))
        if type_id not in _TYPE_NAMES:
            raise local_error(errno.EINVAL)
        self._type = type_id
        self.flags = 0
        self._userid = FLUX_USERID_UNKNOWN
        self._rolemask = FLUX_ROLE_NONE
        self.aux1 = FLUX_NODEID_ANY if type_id == FLUX_MSGTYPE_REQUEST else 0
        self.aux2 = 0
        self.routes = None
        self.topic_bytes = None
        self.raw = None

    # How the library itself makes messages: no checks, the fewest steps.

    @staticmethod
    def _make(
        kind: int,
        flags: int,
        userid: int,
        rolemask: int,
        aux1: int,
        aux2: int,
        routes: tuple[bytes, ...] | None,
        topic: bytes | None,
        raw: bytes | None,
    ) -> Message:
        """A message of exactly these fields."""
        message = _new(Message)
        message._type = kind
        message.flags = flags
        message._userid = userid
        message._rolemask = rolemask
        message.aux1 = aux1
        message.aux2 = aux2
        message.routes = routes
        message.topic_bytes = topic
        message.raw = raw
        return message

    @staticmethod
    def request(
        topic: bytes,
        raw: bytes | None = None,
        nodeid: int = FLUX_NODEID_ANY,
        matchtag: int = FLUX_MATCHTAG_NONE,
        flags: int = 0,
    ) -> Message:
        """A request; `raw` is the payload as it goes on the wire, `flags` are added to those of its parts."""
        flags |= _TOPIC_ROUTE if raw is None else _TOPIC_ROUTE_PAYLOAD
        return Message._make(1, flags, FLUX_USERID_UNKNOWN, FLUX_ROLE_NONE, nodeid, matchtag, (), topic, raw)

    @staticmethod
    def event(topic: bytes, raw: bytes | None = None, flags: int = 0) -> Message:
        """An event; `raw` is the payload as it goes on the wire."""
        flags |= _TOPIC_ROUTE if raw is None else _TOPIC_ROUTE_PAYLOAD
        return Message._make(4, flags, FLUX_USERID_UNKNOWN, FLUX_ROLE_NONE, 0, 0, (), topic, raw)

    def response(self, raw: bytes | None = None, errnum: int = 0) -> Message:
        """The response to this request: same topic, routes, matchtag and flags, without credentials.

        Args:
            raw: payload as it goes on the wire (of an error: its text with a NUL).
            errnum: errno, 0 for success.
        """
        flags = self.flags & _RESPONSE_MASK | FLUX_MSGFLAG_ROUTE
        if raw is not None:
            flags |= FLUX_MSGFLAG_PAYLOAD
        return Message._make(
            2,
            flags,
            FLUX_USERID_UNKNOWN,
            FLUX_ROLE_NONE,
            errnum & 0xFFFFFFFF,
            self.aux2,
            self.routes or (),
            self.topic_bytes,
            raw,
        )

    def copy(self, payload: bool = True) -> Message:
        """A copy that shares nothing changeable, with or without the payload."""
        flags = self.flags if payload else self.flags & ~FLUX_MSGFLAG_PAYLOAD
        return Message._make(
            self._type,
            flags,
            self._userid,
            self._rolemask,
            self.aux1,
            self.aux2,
            self.routes,
            self.topic_bytes,
            self.raw if payload else None,
        )

    # What the reference's Python class offers.

    @classmethod
    def from_event_encode(cls, topic: str | bytes | None, payload: Any = None) -> Message:
        """An event message (`Flux.event_create`); the payload rule of spec 02, 3.1 applies to `payload`.

        Raises OSError(EINVAL) without a topic, InvalidArguments for a topic that is no text.
        """
        name = text_bytes("flux_event_encode", topic)
        raw = dump_payload(payload)
        if name is None:
            raise local_error(errno.EINVAL)
        return Message.event(name, raw)

    @property
    def pimpl(self) -> MessagePimpl:
        """The C functions `flux_msg_*` with this message implied (spec 02, 9.3)."""
        from flux.core.msgpimpl import MessagePimpl

        return MessagePimpl(self)

    @property  # type: ignore[misc]  # read-only: a message is its own handle
    def handle(self) -> Message:
        """The opaque message, to be passed where one is expected."""
        return self

    @property
    def type(self) -> int:
        """FLUX_MSGTYPE_*; setting it gives the two type-specific words their initial values."""
        return self._type

    @type.setter
    def type(self, value: int) -> None:
        if not isinstance(value, int):
            raise InvalidArguments("flux_msg_set_type", "int flux_msg_set_type(flux_msg_t *, int)", (value,))
        if value not in _TYPE_NAMES:
            raise local_error(errno.EINVAL)
        # A request turned into a response keeps its matchtag (spec 01, 1.4).
        keep = self._type == FLUX_MSGTYPE_REQUEST and value == FLUX_MSGTYPE_RESPONSE
        self.aux1 = FLUX_NODEID_ANY if value == FLUX_MSGTYPE_REQUEST else 0
        self.aux2 = self.aux2 if keep else 0
        self._type = value

    @property
    def type_str(self) -> str:
        """``"request"``, ``"response"``, ``"event"`` or ``"control"``."""
        return _TYPE_NAMES[self._type]

    @property
    def topic(self) -> str:
        """The topic; OSError(EPROTO) if the message has none. Set with text or UTF-8 bytes."""
        if self.topic_bytes is None:
            raise local_error(errno.EPROTO)
        return self.topic_bytes.decode("utf-8", "surrogateescape")

    @topic.setter
    def topic(self, value: str | bytes) -> None:
        self.set_topic(encode_topic(value))

    def set_topic(self, topic: bytes | None) -> None:
        """Sets or removes the topic; OSError(EINVAL) for a control message."""
        if self._type == FLUX_MSGTYPE_CONTROL:
            raise local_error(errno.EINVAL)
        if topic is None:
            self.flags &= ~FLUX_MSGFLAG_TOPIC
            self.topic_bytes = None
        else:
            self.flags |= FLUX_MSGFLAG_TOPIC
            self.topic_bytes = topic.partition(b"\0")[0]

    def set_raw(self, raw: bytes | None) -> None:
        """Sets the payload as it goes on the wire; None or empty removes it (spec 01, 1.4)."""
        if raw:
            self.flags |= FLUX_MSGFLAG_PAYLOAD
            self.raw = raw
        else:
            self.flags &= ~FLUX_MSGFLAG_PAYLOAD
            self.raw = None

    @property
    def payload_str(self) -> str | None:
        """The payload as text, None without payload; OSError(EPROTO) if it is not NUL-terminated."""
        text = self.text_bytes()
        return None if text is None else text.decode("utf-8", "surrogateescape")

    @payload_str.setter
    def payload_str(self, value: str | bytes | None) -> None:
        self.set_raw(terminated(text_bytes("flux_msg_set_string", value)))

    def text_bytes(self) -> bytes | None:
        """The payload up to its first NUL; None without one; OSError(EPROTO) if it does not end in NUL."""
        raw = self.raw
        if raw is None:
            return None
        if not raw.endswith(b"\0"):
            raise local_error(errno.EPROTO)
        return raw[: raw.index(b"\0")]

    @property
    def payload(self) -> Any:
        """The decoded JSON payload: TypeError without payload, JSONDecodeError if it is not JSON.

        Set with any value by the payload rule (spec 02, 3.1): text and bytes as they are, else as JSON.
        """
        return json.loads(self.payload_str)  # type: ignore[arg-type]  # None is the documented TypeError

    @payload.setter
    def payload(self, value: Any) -> None:
        self.set_raw(dump_payload(value))

    @property
    def userid(self) -> int:
        """Userid of the sender; FLUX_USERID_UNKNOWN until the broker stamps it."""
        return self._userid

    @userid.setter
    def userid(self, value: int) -> None:
        self._userid = int32u("flux_msg_set_userid", value)

    @property
    def rolemask(self) -> int:
        """Roles of the sender, FLUX_ROLE_* bits; 0 until the broker stamps them."""
        return self._rolemask

    @rolemask.setter
    def rolemask(self, value: int) -> None:
        self._rolemask = int32u("flux_msg_set_rolemask", value)

    def decode(self) -> tuple[int, str, str | None]:
        """``(type, topic, payload_str)`` of a request, response or event.

        Raises OSError: the errno of an error response; EPROTO without topic, for a payload that is no text,
        and for control messages.
        """
        if self._type == FLUX_MSGTYPE_CONTROL:
            raise local_error(errno.EPROTO)
        topic = self.topic
        if self._type == FLUX_MSGTYPE_RESPONSE and self.aux1:
            raise local_error(signed(self.aux1))
        return self._type, topic, self.payload_str

    def __repr__(self) -> str:
        topic = "" if self.topic_bytes is None else f" {self.topic}"
        return f"<flux.message.Message {self.type_str}{topic}>"


def expect_message(name: str, value: Any) -> Message:
    """`value` as a message: None or a null pointer is OSError(EINVAL), other kinds InvalidArguments."""
    if isinstance(value, Message):
        return value
    if is_null(value):
        raise local_error(errno.EINVAL)
    raise InvalidArguments(name, f"{name}(..., flux_msg_t *, ...)", (value,))


class MessageWatcher(Watcher):
    """Calls back for messages that match (spec 02 section 7; match and order of dispatch: spec 01 section 6).

    Args:
        flux_handle: the handle whose messages to watch.
        type_mask: FLUX_MSGTYPE_* bits, 0 for any.
        callback: called as ``callback(handle, watcher, message, args)``; may be an `async def` function.
        topic_glob: shell pattern, exact topic if it has none of ``*?[``; None or "" for any.
        match_tag: only the response with this matchtag, unless FLUX_MATCHTAG_NONE.
        rolemask: FLUX_ROLE_* bits of the senders allowed besides the instance owner.
        args: passed to the callback.
    """

    def __init__(
        self,
        flux_handle: Flux,
        type_mask: int,
        callback: Callable[..., Any],
        topic_glob: str | bytes | None = "*",
        match_tag: int = FLUX_MATCHTAG_NONE,
        rolemask: int | None = None,
        args: Any = None,
    ) -> None:
        from flux.core.dispatch import Handler, Match

        require_handle(flux_handle)
        require_callable(callback)
        glob = None if is_null(topic_glob) else encode_topic(topic_glob)
        self.callback = callback
        self.args = args
        match = Match(int32u("flux_match", type_mask), int32u("flux_match", match_tag), glob)
        roles = FLUX_ROLE_OWNER | int32u("flux_msg_handler_allow_rolemask", rolemask or 0)
        handler = Handler(flux_handle.core, match, self._deliver, roles)
        super().__init__(flux_handle, handler)

    def _deliver(self, message: Message) -> None:
        result = self.callback(self.flux_handle, self, message, self.args)
        if result is not None and isinstance(result, Coroutine):
            from flux.core.coroutine import run_handler

            run_handler(self.flux_handle, result, message)

    def start(self) -> None:  # type: ignore[override]  # None, unlike other watchers (spec 02, 7)
        """Begins to receive; returns None."""
        super().start()

    def stop(self) -> None:  # type: ignore[override]
        """Stops receiving; returns None."""
        super().stop()

    def destroy(self) -> None:
        """Stops for good, and uncovers the watchers that this one covered."""
        if self.handle is not None:
            self.handle.destroy()
        super().destroy()
