"""Timers: when they fire, in which order, and what many of them cost."""

from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Iterator
from time import monotonic

import pytest

from flux.reactor import NOWAIT, Reactor, Timer
from flux.reactor.timers import TimerHeap


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()


class Clocked:
    """A heap of timers under a clock that the test moves."""

    def __init__(self) -> None:
        self.heap = TimerHeap()
        self.reactor = Reactor()
        self.reactor.timers = self.heap
        self.fired: list[tuple[float, str]] = []

    def start(self, name: str, deadline: float, repeat: float = 0.0) -> Timer:
        timer = self.reactor.timer(0.0, repeat, lambda: None)
        timer.callback = lambda: self.fired.append((self.now, name))
        timer.active = True
        self.reactor.references += 1
        self.heap.push(timer, deadline)
        return timer

    def advance(self, now: float) -> None:
        """One pass of the loop at time `now`."""
        self.now = now
        newest = self.heap.last_sequence
        while (timer := self.heap.pop_due(now, newest)) is not None:
            timer.callback()


def test_timers_fire_by_deadline_then_in_order_of_start() -> None:
    clocked = Clocked()
    for name, deadline in [("c", 3.0), ("a1", 1.0), ("b", 2.0), ("a2", 1.0), ("a3", 1.0), ("later", 9.0)]:
        clocked.start(name, deadline)
    clocked.advance(5.0)
    assert [name for _, name in clocked.fired] == ["a1", "a2", "a3", "b", "c"]


@pytest.mark.parametrize(
    ("passes", "fired"),
    [
        # On time: a grid without drift, however late within the period each pass is.
        ([0.05, 0.11, 0.15, 0.22, 0.25], [0.05, 0.11, 0.15, 0.22, 0.25]),
        # One stall of 0.12 s: late tick at once, the next one due immediately, then a grid from there (02, 5.2).
        ([0.05, 0.17, 0.17, 0.2, 0.22, 0.26, 0.27], [0.05, 0.17, 0.17, 0.22, 0.27]),
        # A long stall is not replayed tick by tick.
        ([0.05, 5.0, 5.0, 5.0, 5.04, 5.05], [0.05, 5.0, 5.0, 5.05]),
    ],
)
def test_repeating_timer_keeps_to_its_grid(passes: list[float], fired: list[float]) -> None:
    clocked = Clocked()
    clocked.start("t", 0.05, repeat=0.05)
    for now in passes:
        clocked.advance(now + 1e-9)
    assert [round(now, 6) for now, _ in clocked.fired] == fired


def test_timer_of_no_time_that_starts_itself_again_lets_the_pass_end(reactor: Reactor) -> None:
    fired: list[int] = []

    def again() -> None:
        fired.append(1)
        timer.start()

    timer = reactor.timer(0, 0, again)
    timer.start()
    assert reactor.run(NOWAIT) == 1
    assert fired == [1]


def test_timer_counts_from_its_start_not_from_some_earlier_loop_time(reactor: Reactor) -> None:
    fired: list[float] = []
    timer = reactor.timer(0.02, 0, lambda: fired.append(monotonic()))
    reactor.run(NOWAIT)
    until = monotonic() + 0.05
    while monotonic() < until:  # a long computation outside the loop
        pass
    started = monotonic()
    timer.start()
    reactor.run()
    assert fired[0] - started >= 0.02


def test_one_shot_timer_may_be_started_again_also_in_its_own_callback(reactor: Reactor) -> None:
    fired: list[bool] = []

    def callback() -> None:
        fired.append(timer.active)
        if len(fired) < 3:
            timer.start()

    timer = reactor.timer(0.001, 0, callback)
    timer.start()
    timer.start()
    assert reactor.run() == 0
    assert fired == [False, False, False]
    timer.start()
    reactor.run()
    assert len(fired) == 4


def test_reset_of_a_running_timer_arms_it_anew(reactor: Reactor) -> None:
    out: list[str] = []
    timer = reactor.timer(3600, 0, lambda: out.append("was an hour away"))
    timer.start()
    timer.reset(0.001, 0)
    assert reactor.references == 1
    assert reactor.run() == 0
    assert out == ["was an hour away"]
    timer.reset(3600, 0)
    assert timer.active, "a stopped one is started"


def test_repeating_timer_stopped_in_its_callback_stays_stopped(reactor: Reactor) -> None:
    fired: list[int] = []

    def callback() -> None:
        fired.append(1)
        if len(fired) == 3:
            timer.stop()

    timer = reactor.timer(0, 0.001, callback)
    timer.start()
    assert reactor.run() == 0
    assert len(fired) == 3


@pytest.mark.parametrize("after", [math.inf, 1e300, 1e7])
def test_deadline_beyond_what_the_kernel_can_count_is_waited_for(reactor: Reactor, after: float) -> None:
    timer = reactor.timer(after, 0, lambda: None)
    timer.start()
    timer.unref()
    reactor.timer(0.001, 0, lambda: None).start()
    assert reactor.run() == 0


def test_hundred_thousand_timers_started_and_stopped_leave_a_small_heap(reactor: Reactor) -> None:
    kept = [reactor.timer(3600, 0, lambda: None) for _ in range(10)]
    for timer in kept:
        timer.start()
    largest = 0
    timer = reactor.timer(1800, 0, lambda: None)
    for _ in range(100_000):
        timer.start()
        timer.stop()
        largest = max(largest, len(reactor.timers.heap))
    assert largest <= 2 * (len(kept) + 1) + 64
    assert reactor.references == len(kept)
    assert all(timer.active for timer in kept)


def test_sweeping_costs_a_constant_per_timer(monkeypatch: pytest.MonkeyPatch, reactor: Reactor) -> None:
    """Counted in heap entries looked at by sweeps, when 100,000 running timers are stopped one by one."""
    import heapq

    looked_at = 0

    def heapify(heap: list[tuple[float, int]]) -> None:
        nonlocal looked_at
        looked_at += 2 * len(heap)  # a sweep happens when about half is left
        original(heap)

    original = heapq.heapify
    monkeypatch.setattr(heapq, "heapify", heapify)
    timers = [reactor.timer(3600, 0, lambda: None) for _ in range(100_000)]
    for timer in timers:
        timer.start()
    for timer in timers:
        timer.stop()
    assert looked_at <= 4 * len(timers)
    assert len(reactor.timers.heap) <= 65


def test_hundred_thousand_due_timers_fire_once_each_in_order(reactor: Reactor) -> None:
    fired: list[int] = []
    for number in range(100_000):
        reactor.timer(0, 0, lambda number=number: fired.append(number)).start()  # type: ignore[misc]
    assert reactor.run() == 0
    assert fired == list(range(100_000))


def test_stopped_timer_is_let_go_at_once(reactor: Reactor) -> None:
    gc.disable()
    try:
        timer = reactor.timer(3600, 0, lambda: None)
        timer.start()
        timer.stop()
        reference = weakref.ref(timer)
        del timer
        assert reference() is None
    finally:
        gc.enable()
