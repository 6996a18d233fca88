"""A future that follows the heartbeat of the instance (flux_sync_create; spec 02, 9.2)."""

from __future__ import annotations

import errno
import time

from flux.constants import FLUX_MSGTYPE_EVENT, FLUX_MSGTYPE_RESPONSE
from flux.core.dispatch import Handler, Match
from flux.core.flux_t import FluxT
from flux.core.future_state import FutureState
from flux.message import Message
from flux.wrapper import local_error

_TOPIC = b"heartbeat.pulse"


class SyncState(FutureState):
    """Fulfilled at a heartbeat, and after each reset at another, not less than `minimum` seconds later.

    With a continuation the handle's dispatcher brings the events; a wait takes them from the connection itself, and
    leaves other messages queued, in order.
    """

    ctx: FluxT

    def __init__(self, ctx: FluxT, minimum: float) -> None:
        self.ctx = ctx
        self._minimum = minimum
        self._last = -minimum
        self._match = Match(FLUX_MSGTYPE_EVENT, 0, _TOPIC)
        self._handler: Handler | None = None
        self._subscribed = False

    def _subscribe(self) -> None:
        if not self._subscribed:
            self.ctx.subscribe(_TOPIC, True)
            self._subscribed = True

    def start_then(self) -> None:
        """Has the dispatcher bring heartbeats."""
        self._subscribe()
        if self._handler is None:
            self._handler = Handler(self.ctx, self._match, self._pulse, 0)
            self._handler.start()

    def _pulse(self, message: Message) -> None:
        now = time.monotonic()
        if now - self._last >= self._minimum:
            self._last = now
            self.fulfil(None)

    def wait(self, timeout: float) -> None:
        """As `FutureState.wait`."""
        self._subscribe()
        link = self.ctx.link
        deadline = None if timeout < 0 else time.monotonic() + timeout
        while not self.ready:
            try:
                self._pulse(self.ctx.recv(self._match, True))
                continue
            except BlockingIOError:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
            message = link.receive(left)
            if message is None:
                raise local_error(errno.ETIMEDOUT)
            if message._type != FLUX_MSGTYPE_RESPONSE or not link.deliver(message):
                link.queue.append(message)

    def stop(self) -> None:
        """As `FutureState.stop`; the dispatcher brings heartbeats no longer."""
        super().stop()
        if self._handler is not None:
            self._handler.destroy()
            self._handler = None
