"""Timers: a heap of deadlines on the monotonic clock.

Rules:
- Deadlines count from the moment of `start`, not from some cached loop time.
- Order is by deadline, then by order of start.
- A stopped timer leaves its entry in the heap; the heap is swept when most entries are such, so that starting
  and stopping costs O(log n) however many timers come and go. The timer itself is let go at once.
- A repeating timer keeps to a grid. One that is late fires at once, then at most once more at once, then on a
  grid that starts at that moment: missed ticks are not replayed one by one (spec 02, 5.2).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

from flux.reactor.events import Event

if TYPE_CHECKING:
    from flux.reactor.loop import Reactor

_SWEEP_AT_LEAST = 64


class Timer(Event):
    """Calls `callback()` `after` seconds after `start`, then every `repeat` seconds if that is not 0."""

    __slots__ = ("after", "callback", "repeat", "sequence")

    def __init__(self, reactor: Reactor, after: float, repeat: float, callback: Callable[[], None]) -> None:
        super().__init__(reactor)
        self.after = after
        self.repeat = repeat
        self.callback = callback
        self.sequence = 0

    def reset(self, after: float, repeat: float) -> None:
        """Sets new times and starts the timer; a running one is armed anew from now."""
        self.stop()
        self.after = after
        self.repeat = repeat
        self.start()

    def _begin(self) -> None:
        self.reactor.timers.push(self, monotonic() + self.after)

    def _end(self) -> None:
        self.reactor.timers.discard(self)


class TimerHeap:
    """All running timers of one reactor."""

    def __init__(self) -> None:
        self.heap: list[tuple[float, int]] = []
        """(deadline, sequence) of every timer started, and not swept yet. Never rebound: the loop holds it."""
        self.running: dict[int, Timer] = {}
        """By sequence. A heap entry whose sequence is not here is of a timer that was stopped."""
        self.last_sequence = 0

    def push(self, timer: Timer, deadline: float) -> None:
        self.last_sequence = timer.sequence = sequence = self.last_sequence + 1
        self.running[sequence] = timer
        heapq.heappush(self.heap, (deadline, sequence))

    def discard(self, timer: Timer) -> None:
        # A one-shot timer that fires has been taken out before it is stopped.
        if self.running.pop(timer.sequence, None) is not None:
            stopped = len(self.heap) - len(self.running)
            if stopped > _SWEEP_AT_LEAST and stopped > len(self.running):
                self.heap[:] = [entry for entry in self.heap if entry[1] in self.running]
                heapq.heapify(self.heap)

    def next_deadline(self) -> float | None:
        """The earliest deadline, or None without timers."""
        heap = self.heap
        while heap:
            if heap[0][1] in self.running:
                return heap[0][0]
            heapq.heappop(heap)
        return None

    def pop_due(self, now: float, newest: int) -> Timer | None:
        """Takes the first timer due at `now`; None if there is none. A one-shot timer is stopped by this.

        Timers started after the one with sequence `newest` are left for the next pass, or a timer of 0 seconds
        that starts itself again would never let the pass end.
        """
        deadline = self.next_deadline()
        if deadline is None or deadline > now or self.heap[0][1] > newest:
            return None
        timer = self.running.pop(heapq.heappop(self.heap)[1])
        if timer.repeat > 0:
            self.push(timer, max(deadline + timer.repeat, now))
        else:
            timer.stop()
        return timer
