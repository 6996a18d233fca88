"""The connector of a module inside the broker's own process: messages are handed over, not encoded.

What the module sends goes to `post`; what is for it comes by `FluxT` directly, or waits in `inbox` while the
module runs no handler. A module shares the broker's one thread, so it can not block: waiting for an answer that
is not there yet is OSError(EDEADLK) at once, where a wait would never end. Handlers that need an answer are
`async def`, or use `then`.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Mapping

from flux.connector.base import Connector
from flux.message import Message

#: Called with (topic, subscribe?); raises OSError(ENOENT) for an unsubscribe too many.
Subscribe = Callable[[bytes, bool], None]


class InprocConnector(Connector):
    """See the module.

    Args:
        post: takes a message that the module sends.
        attributes: the broker's attributes, live.
        subscribe: subscribes and unsubscribes the module without a request, so that its constructor can.
    """

    def __init__(self, post: Callable[[Message], None], attributes: Mapping[str, str], subscribe: Subscribe) -> None:
        self._post = post
        self.attributes = attributes
        self.subscribe = subscribe
        self.inbox: deque[Message] = deque()
        self.credentials: tuple[int, int] | None = None
        """Userid and rolemask that the next request is sent with, in place of the module's own (spec 01, 7.5)."""

    def fileno(self) -> int:
        return -1

    def send(self, message: Message, nonblock: bool) -> None:
        self._post(message)

    def send_request(self, topic: bytes, raw: bytes | None, nodeid: int, matchtag: int, flags: int) -> None:
        message = Message.request(topic, raw, nodeid, matchtag, flags)
        if self.credentials is not None:
            # Before it is posted: what that sets off may send more.
            (message._userid, message._rolemask), self.credentials = self.credentials, None
        self._post(message)

    def recv(self, timeout: float | None) -> Message | None:
        if self.inbox:
            return self.inbox.popleft()
        if timeout is None or timeout > 0:
            raise OSError(
                errno.EDEADLK,
                "a module inside the broker cannot wait: make the handler async and await the future, or use then()",
            )
        return None

    def next_message(self) -> Message | None:
        return self.inbox.popleft() if self.inbox else None

    def has_message(self) -> bool:
        return bool(self.inbox)

    def read_available(self) -> None:
        return

    def close(self) -> None:
        self.inbox.clear()
