"""A connector that shows what passes through another one (FLUX_O_TRACE; spec 01, section 2.7)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from flux.connector.base import Connector, PollSource
from flux.constants import (
    FLUX_MSGTYPE_CONTROL,
    FLUX_MSGTYPE_EVENT,
    FLUX_MSGTYPE_REQUEST,
    FLUX_MSGTYPE_RESPONSE,
    FLUX_NODEID_ANY,
    FLUX_NODEID_UPSTREAM,
    FLUX_ROLE_ALL,
    FLUX_ROLE_NONE,
    FLUX_USERID_UNKNOWN,
)
from flux.message import Message

_RULE = "-" * 38
_PREFIXES = {
    FLUX_MSGTYPE_REQUEST: "> ",
    FLUX_MSGTYPE_RESPONSE: "< ",
    FLUX_MSGTYPE_EVENT: "e ",
    FLUX_MSGTYPE_CONTROL: "c ",
}
_FLAGS = ("topic", "payload", "noresponse", "route", "upstream", "private", "streaming", "user1")
_ROLES = ("owner", "user", "local", "admin")
_WIDTH = 78
_ROUTE_ID_SHOWN = 8


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _roles(rolemask: int) -> str:
    if rolemask == FLUX_ROLE_NONE:
        return "none"
    if rolemask == FLUX_ROLE_ALL:
        return "all"
    names = [name for bit, name in enumerate(_ROLES) if rolemask >> bit & 1]
    rest = rolemask >> len(_ROLES) << len(_ROLES)
    return ",".join([*names, f"{rest:#x}"] if rest else names)


def _nodeid(nodeid: int) -> str:
    return {FLUX_NODEID_ANY: "any", FLUX_NODEID_UPSTREAM: "upstream"}.get(nodeid, str(nodeid))


def _signed(word: int) -> int:
    return word - (1 << 32) if word >> 31 else word


def _words(message: Message) -> str:
    """The two words whose meaning depends on the type."""
    if message._type == FLUX_MSGTYPE_REQUEST:
        return f"nodeid={_nodeid(message.aux1)} matchtag={message.aux2}"
    if message._type == FLUX_MSGTYPE_RESPONSE:
        return f"errnum={message.aux1} matchtag={message.aux2}"
    if message._type == FLUX_MSGTYPE_EVENT:
        return f"sequence={message.aux1}"
    return f"type={_signed(message.aux1)} status={_signed(message.aux2)}"


def _payload(raw: bytes) -> str:
    """A text payload as it is, any other in hex, cut to the width of a terminal."""
    if raw.endswith(b"\0") and b"\0" not in raw[:-1]:
        try:
            return raw[:-1].decode()
        except UnicodeDecodeError:
            pass  # no text
    digits = raw.hex().upper()
    return digits if len(digits) <= _WIDTH else f"{digits[: _WIDTH - 3]}..."


def describe(message: Message, seconds: float) -> str:
    """The lines that stand for a message.

    Args:
        seconds: time since the first message.
    """
    lines = [f"{seconds:.5f}"]
    if message.topic_bytes is not None:
        lines.append(_text(message.topic_bytes))
    flags = ",".join(name for bit, name in enumerate(_FLAGS) if message.flags >> bit & 1)
    userid = "unknown" if message._userid == FLUX_USERID_UNKNOWN else str(message._userid)
    lines.append(f"flags={flags} userid={userid} rolemask={_roles(message._rolemask)} {_words(message)}")
    if message.routes:
        route = b"!".join(identity[:_ROUTE_ID_SHOWN] for identity in reversed(message.routes))
        lines.append(f"|{_text(route)}|")
    if message.raw is not None:
        lines.append(_payload(message.raw))
    prefix = _PREFIXES[message._type]
    return "\n".join([_RULE, *(prefix + line for line in lines)]) + "\n"


class TraceConnector(Connector):
    """Writes every message that is sent or received, and leaves the rest to the connector it wraps.

    Args:
        connector: the one that does the work.
        stream: where to write; None for standard error as it is at that moment.
    """

    def __init__(self, connector: Connector, stream: TextIO | None = None) -> None:
        self.inner = connector
        self.attributes = connector.attributes
        self.subscribe = connector.subscribe
        self.echoes = connector.echoes
        self._stream = stream
        self._start: float | None = None

    def _show(self, message: Message) -> None:
        now = time.monotonic()
        if self._start is None:
            self._start = now
        (self._stream or sys.stderr).write(describe(message, now - self._start))

    def fileno(self) -> int:
        return self.inner.fileno()

    def send(self, message: Message, nonblock: bool) -> None:
        self.inner.send(message, nonblock)
        self._show(message)

    def recv(self, timeout: float | None) -> Message | None:
        message = self.inner.recv(timeout)
        if message is not None:
            self._show(message)
        return message

    def next_message(self) -> Message | None:
        message = self.inner.next_message()
        if message is not None:
            self._show(message)
        return message

    def has_message(self) -> bool:
        return self.inner.has_message()

    def read_available(self) -> None:
        self.inner.read_available()

    def tell_of_input(self, callback: Callable[[], None]) -> None:
        self.inner.tell_of_input(callback)

    def partial(self) -> bool:
        return self.inner.partial()

    def writable(self) -> int:
        return self.inner.writable()

    def pollfd(self, source: PollSource) -> int:
        return self.inner.pollfd(source)

    def reconnect(self) -> None:
        self.inner.reconnect()

    def close(self) -> None:
        self.inner.close()
