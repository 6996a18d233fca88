"""Things to be looked at some time after they have come, each at its own time, with one timer for all."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

from flux.reactor import Reactor

T = TypeVar("T")

#: Timers are late by some microseconds; what is due within these seconds is due now.
_SLACK = 0.0005


class Later(Generic[T]):
    """Calls back for each item `delay` seconds after it was added, unless it is discarded before.

    Args:
        reactor: the loop.
        delay: in seconds; the same for all, so that they are in the order of their times.
        callback: called with the item, which is not here any more.
    """

    def __init__(self, reactor: Reactor, delay: float, callback: Callable[[T], None]) -> None:
        self._delay = delay
        self._callback = callback
        self._due: dict[T, float] = {}
        self._timer = reactor.timer(delay, 0.0, self._fire)

    def add(self, item: T) -> None:
        """Adds an item; one that is here already keeps its time."""
        if item not in self._due:
            self._due[item] = monotonic() + self._delay
            if not self._timer.active:
                self._timer.reset(self._delay, 0.0)

    def discard(self, item: T) -> None:
        """Forgets an item; absent is fine."""
        self._due.pop(item, None)

    def stop(self) -> None:
        """Forgets all."""
        self._due.clear()
        self._timer.stop()

    def _fire(self) -> None:
        now = monotonic() + _SLACK
        while self._due:
            item, due = next(iter(self._due.items()))
            if due > now:
                self._timer.reset(due - now + _SLACK, 0.0)
                return
            del self._due[item]
            self._callback(item)
