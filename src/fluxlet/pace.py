"""Pace: how fast those who read logs for clients go on: as the clients read, and not so that others have to wait.

Rules:
- What a module sends in one pass of the loop is bounded, for all its readers together; they take turns.
- A reader whose client has not read what it was sent waits: what the client does not want yet stays where it is.
- Nobody is called from within another one's question.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from flux.message import Message
from fluxlet.flow import Flow

if TYPE_CHECKING:
    from fluxlet.service import Service

#: What may be spent in one pass of the loop: bytes, and what a message costs as much as.
_SHARE = 192 << 10
_MESSAGE = 1000
#: Seconds from one look at clients that have to read first to the next.
_INTERVAL = 0.005

T = TypeVar("T")


class Pace:
    """The pace of one module's readers.

    Args:
        service: the module.
    """

    def __init__(self, service: Service) -> None:
        self._flow = Flow(service.handle, service.broker)
        self._spent = 0
        self._waiting: dict[Any, Callable[[Any], None]] = {}
        self._timer = service.module.reactor.timer(0.0, 0.0, self._go_on)

    def spend(self, request: Message, size: int, messages: int = 1) -> None:
        """Messages, with `size` bytes in all, have been sent in answer to `request`."""
        self._spent += size + _MESSAGE * messages
        self._flow.sent(request, size, messages)

    def may_send(self, request: Message, who: T, later: Callable[[T], None]) -> bool:
        """True if more may be sent in answer to `request` now; else `later(who)` is called when to ask again."""
        if self._spent >= _SHARE:
            delay = 0.0
        elif self._flow.congested(request):
            delay = _INTERVAL
        else:
            return True
        self._waiting[who] = later
        if not self._timer.active or not delay:
            self._timer.reset(delay, 0.0)
        return False

    def forget(self, who: object) -> None:
        """Who need not be called back any more; absent is fine."""
        self._waiting.pop(who, None)

    def gone(self, notice: Message) -> None:
        """A client has gone."""
        self._flow.forget(notice)

    def stop(self) -> None:
        """The module ends."""
        self._timer.stop()
        self._waiting.clear()

    def _go_on(self) -> None:
        self._spent = 0
        for who in list(self._waiting):
            if self._spent >= _SHARE:
                # The others have their turn first in the next pass: those that had theirs stand behind them.
                self._timer.reset(0.0, 0.0)
                return
            later = self._waiting.pop(who, None)
            if later is not None:
                later(who)
