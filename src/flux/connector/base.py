"""What every connector offers: it moves Messages between this process and a broker, nothing else.

A connector keeps received bytes or messages until they are asked for; it never looks into a message. Errors:
ConnectionError (ECONNRESET on receiving, EPIPE on sending) once the peer is gone, OSError EPROTO or EINVAL for a
bad frame.
"""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Protocol

from flux.constants import FLUX_POLLOUT
from flux.message import Message
from flux.wrapper import local_error


class PollSource(Protocol):
    """What `pollfd` needs of a handle."""

    def buffered(self) -> bool:
        """True if a message can be had without reading."""
        ...


class Connector(ABC):
    """One connection. See the module for the rules."""

    #: Attributes that the connector knows by itself (loop://); None: ask the broker.
    attributes: Mapping[str, str] | None = None

    #: Whether what is sent can be received at once, without a descriptor that says so (loop://).
    echoes: bool = False

    #: Called when sending has taken in input, which no descriptor will announce any more.
    on_input: Callable[[], None] | None = None

    #: Called with (topic, subscribe?) instead of asking the broker, where that is possible at once (inproc).
    subscribe: Callable[[bytes, bool], None] | None = None

    @abstractmethod
    def fileno(self) -> int:
        """The descriptor that becomes readable when there is input; -1 if there is none."""

    @abstractmethod
    def send(self, message: Message, nonblock: bool) -> None:
        """Sends a message; with `nonblock`, OSError(EAGAIN) if that cannot be done at once."""

    def send_request(self, topic: bytes, raw: bytes | None, nodeid: int, matchtag: int, flags: int) -> None:
        """Sends ``Message.request(topic, raw, nodeid, matchtag, flags)``: what an RPC does, the shortest way."""
        self.send(Message.request(topic, raw, nodeid, matchtag, flags), False)

    @abstractmethod
    def recv(self, timeout: float | None) -> Message | None:
        """The next message, waiting at most `timeout` seconds (None: no limit); None if there is none."""

    @abstractmethod
    def next_message(self) -> Message | None:
        """The next message already received, or None."""

    @abstractmethod
    def has_message(self) -> bool:
        """True if `next_message` would return one."""

    @abstractmethod
    def read_available(self) -> None:
        """Takes in what can be read without blocking."""

    def tell_of_input(self, callback: Callable[[], None]) -> None:
        """Has `callback` called when sending has taken in input."""
        self.on_input = callback

    def partial(self) -> bool:
        """True if part of a message has been received."""
        return False

    def writable(self) -> int:
        """FLUX_POLLOUT if `send` would not block, else 0."""
        return FLUX_POLLOUT

    def pollfd(self, source: PollSource) -> int:
        """A descriptor for foreign event loops, level-triggered on input; OSError(ENOSYS) if there is none."""
        if self.fileno() < 0:
            raise local_error(errno.ENOSYS)
        return self.fileno()

    def reconnect(self) -> None:
        """Opens the connection anew; OSError(ENOSYS) where that is not possible."""
        raise local_error(errno.ENOSYS)

    @abstractmethod
    def close(self) -> None:
        """Ends the connection; idempotent."""


def env_number(name: str) -> int | None:
    """A number from the environment as the C library reads it (decimal, 0x or 0 prefix); None if unset.

    Raises OSError(EINVAL) if it is none.
    """
    text = os.environ.get(name)
    if text is None:
        return None
    try:
        return int(text, 8) if len(text) > 1 and text[0] == "0" and text.isdigit() else int(text, 0)
    except ValueError:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
