"""loop:// — what is sent is received; for unit tests (spec 01, 2.3)."""

from __future__ import annotations

import errno
import os
from collections import deque

from flux.connector.base import Connector
from flux.constants import FLUX_ROLE_NONE, FLUX_ROLE_OWNER, FLUX_USERID_UNKNOWN
from flux.message import Message
from flux.wrapper import local_error


class LoopConnector(Connector):
    """An in-memory queue; messages without credentials get (own uid, OWNER). It never blocks."""

    attributes = {"rank": "0", "size": "1"}
    echoes = True

    def __init__(self, path: str = "") -> None:
        self._queue: deque[Message] = deque()

    def fileno(self) -> int:
        return -1

    def send(self, message: Message, nonblock: bool) -> None:
        message = message.copy()
        if message._userid == FLUX_USERID_UNKNOWN:
            message._userid = os.getuid()
        if message._rolemask == FLUX_ROLE_NONE:
            message._rolemask = FLUX_ROLE_OWNER
        self._queue.append(message)

    def recv(self, timeout: float | None) -> Message | None:
        if not self._queue and timeout is None:
            raise local_error(errno.EAGAIN)
        return self._queue.popleft() if self._queue else None

    def next_message(self) -> Message | None:
        return self._queue.popleft() if self._queue else None

    def has_message(self) -> bool:
        return bool(self._queue)

    def read_available(self) -> None:
        return

    def close(self) -> None:
        self._queue.clear()
