"""The loop: what ends a run and what it returns, the order of a pass, exceptions, nesting, threads."""

from __future__ import annotations

import gc
import os
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flux.reactor import NOWAIT, ONCE, POLLIN, Event, Reactor, run_with_interrupt, tls


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """A reactor whose runs cannot hang a test: they fail after ten seconds."""
    reactor = Reactor()

    def give_up() -> None:
        raise AssertionError("the run did not end by itself")

    guard = reactor.timer(10, 0, give_up)
    guard.unref()
    guard.start()
    yield reactor
    reactor.close()
    tls.exception = None


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def raiser(exc: BaseException) -> Callable[..., None]:
    def callback(*args: Any) -> None:
        raise exc

    return callback


# What ends a run, and what it returns (spec 02, 4.1). A timer's action is by name; None: it never fires.
RETURNS = [
    ([], 0, 0),
    ([], NOWAIT, 0),
    ([], ONCE, 0),
    (["nothing"], 0, 0),
    (["stop"], 0, 0),
    (["stop_error"], 0, -1),
    (["stop", None], 0, 1),
    (["stop", None, None], 0, 2),
    ([None], NOWAIT, 1),
    ([None, None], NOWAIT, 2),
    ([None, None], NOWAIT | ONCE, 2),
    (["nothing", None], ONCE, 1),
]


def start_timers(reactor: Reactor, actions: list[str | None]) -> list[Event]:
    timers = []
    for action in actions:
        callback = getattr(reactor, action) if action in ("stop", "stop_error") else lambda: None
        timers.append(reactor.timer(3600 if action is None else 0.001, 0, callback))
        timers[-1].start()
    return list(timers)


@pytest.mark.parametrize(("actions", "flags", "count"), RETURNS)
def test_run_returns_the_count_of_what_is_still_active(
    reactor: Reactor, actions: list[str | None], flags: int, count: int
) -> None:
    start_timers(reactor, actions)
    assert reactor.run(flags) == count


@pytest.mark.parametrize(("actions", "flags", "count"), RETURNS)
def test_run_with_interrupt_returns_one_less_in_the_main_thread_only(
    reactor: Reactor, actions: list[str | None], flags: int, count: int
) -> None:
    start_timers(reactor, actions)
    assert run_with_interrupt(reactor, flags) == (count - 1 if count > 0 else count)

    def elsewhere() -> None:
        other = Reactor()
        timers = start_timers(other, actions)
        counts.append(run_with_interrupt(other, flags))
        assert timers is not None
        other.close()

    counts: list[int] = []
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert counts == [count]


@pytest.mark.parametrize("flags", [4, 7, 1 << 20, -1])
def test_unknown_flags_are_refused(reactor: Reactor, flags: int) -> None:
    with pytest.raises(OSError, match="EINVAL: Invalid argument"):
        reactor.run(flags)
    assert not reactor.running


def test_every_kind_of_event_counts_once_while_started_and_referenced(reactor: Reactor, pipe: tuple[int, int]) -> None:
    def nothing(*args: object) -> None:
        pass

    events: list[Event] = [
        reactor.timer(3600, 0, nothing),
        reactor.fd(pipe[0], POLLIN, nothing),
        reactor.signal(12, nothing),
        reactor.prepare(nothing),
        reactor.check(nothing),
        reactor.idle(None),
    ]
    for number, event in enumerate(events, 1):
        event.start()
        event.start()
        assert reactor.run(NOWAIT) == number
    for event in events:
        event.unref()
        event.unref()
    assert reactor.run(0) == 0
    for event in events:
        event.ref()
    assert reactor.run(NOWAIT) == 6
    for event in events:
        event.stop()
        event.stop()
        event.unref()
        event.ref()
    assert reactor.run(NOWAIT) == 0


def test_one_shot_timer_does_not_count_in_its_own_callback_and_a_repeating_one_does(reactor: Reactor) -> None:
    seen = []
    once = reactor.timer(0, 0, lambda: seen.append(("once", reactor.references)))
    again = reactor.timer(0, 3600, lambda: seen.append(("again", reactor.references)))
    once.start()
    again.start()
    reactor.run(NOWAIT)
    assert seen == [("once", 1), ("again", 1)]


def test_one_pass_runs_the_kinds_in_order(reactor: Reactor, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    out: list[str] = []
    events: list[Event] = [
        reactor.idle(lambda: out.append("idle")),
        reactor.fd(pipe[0], POLLIN, lambda fd, revents: out.append("fd")),
        reactor.timer(0, 0, lambda: out.append("timer")),
        reactor.check(lambda: out.append("check 1")),
        reactor.check(lambda: out.append("check 2")),
        reactor.signal(12, lambda signum: out.append("signal")),
        reactor.prepare(lambda: out.append("prepare 1")),
        reactor.prepare(lambda: out.append("prepare 2")),
    ]
    for event in events:
        event.start()
    os.kill(os.getpid(), 12)
    reactor.run(NOWAIT)
    assert out == ["prepare 1", "prepare 2", "signal", "check 1", "check 2", "timer", "fd"]
    out.clear()
    events[1].stop()
    reactor.run(NOWAIT)
    assert out == ["prepare 1", "prepare 2", "check 1", "check 2", "idle"]


def test_idle_event_keeps_the_loop_from_waiting(reactor: Reactor) -> None:
    start_timers(reactor, [None])
    idle = reactor.idle(None)
    idle.start()
    assert reactor.run(ONCE) == 2


def test_typical_prepare_check_idle_work_is_done_without_waiting(reactor: Reactor) -> None:
    """Prepare starts idle while there is work; check does the work and stops idle (spec 02, 5.2)."""
    work, done = [1, 2, 3], []
    idle = reactor.idle(None)

    def prepare() -> None:
        if work:
            idle.start()

    def check() -> None:
        idle.stop()
        done.append(work.pop(0))
        if not work:
            events[0].stop()
            events[1].stop()

    events = [reactor.prepare(prepare), reactor.check(check)]
    for event in events:
        event.start()
    assert reactor.run(0) == 0
    assert done == [1, 2, 3]


def test_stop_lets_the_pass_end_first(reactor: Reactor, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    out: list[str] = []
    reactor.timer(0, 0, reactor.stop).start()
    reactor.timer(0, 0, lambda: out.append("timer")).start()
    reactor.fd(pipe[0], POLLIN, lambda fd, revents: out.append("fd")).start()
    assert reactor.run(0) == 1
    assert out == ["timer", "fd"]


def test_stop_from_a_prepare_hook_ends_the_run_before_polling(reactor: Reactor) -> None:
    out: list[str] = []
    reactor.prepare(reactor.stop).start()
    reactor.check(lambda: out.append("check")).start()
    reactor.timer(0, 0, lambda: out.append("timer")).start()
    assert reactor.run(0) == 3
    assert out == []


def test_stop_without_a_run_has_no_effect_on_the_next(reactor: Reactor) -> None:
    out: list[int] = []
    reactor.stop_error()
    reactor.stop()
    reactor.timer(0, 0, lambda: out.append(1)).start()
    assert reactor.run(0) == 0
    assert out == [1]


@pytest.mark.parametrize(("first", "second", "result"), [("stop_error", "stop", 0), ("stop", "stop_error", -1)])
def test_the_last_stop_of_a_pass_decides(reactor: Reactor, first: str, second: str, result: int) -> None:
    reactor.timer(0, 0, getattr(reactor, first)).start()
    reactor.timer(0, 0, getattr(reactor, second)).start()
    assert reactor.run(0) == result


def test_events_keep_working_in_the_run_after_a_stop(reactor: Reactor) -> None:
    out: list[str] = []
    reactor.timer(0.001, 0, reactor.stop).start()
    reactor.timer(0.3, 0, lambda: out.append("late")).start()
    assert reactor.run(0) == 1
    assert out == []
    assert reactor.run(0) == 0
    assert out == ["late"]


@pytest.mark.parametrize("kind", ["timer", "fd", "check", "prepare", "idle", "signal"])
def test_event_stopped_by_a_sibling_does_not_run_in_the_same_pass(
    reactor: Reactor, pipe: tuple[int, int], kind: str
) -> None:
    os.write(pipe[1], b"x")
    out: list[int] = []

    def first(*args: object) -> None:
        out.append(1)
        events[1].stop()

    def second(*args: object) -> None:
        out.append(2)

    def make(callback: Callable[..., None]) -> Event:
        match kind:
            case "timer":
                return reactor.timer(0, 0, callback)
            case "fd":
                return reactor.fd(pipe[0], POLLIN, callback)
            case "signal":
                return reactor.signal(12, callback)
            case _:
                event: Event = getattr(reactor, kind)(callback)
                return event

    events = [make(first), make(second)]
    for event in events:
        event.start()
    if kind == "signal":
        os.kill(os.getpid(), 12)
    reactor.run(NOWAIT)
    assert out == [1]


def test_descriptor_event_stopped_and_started_again_by_a_timer_waits_for_the_next_pass(
    reactor: Reactor, pipe: tuple[int, int]
) -> None:
    os.write(pipe[1], b"x")
    out: list[str] = []

    def restart() -> None:
        event.stop()
        event.start()

    event = reactor.fd(pipe[0], POLLIN, lambda fd, revents: out.append("fd"))
    event.start()
    reactor.timer(0, 0, restart).start()
    reactor.run(NOWAIT)
    assert out == []
    reactor.run(NOWAIT)
    assert out == ["fd"]


# Exceptions (spec 02, 4.3).


def test_exception_in_a_callback_comes_out_of_the_run_as_the_same_object(reactor: Reactor) -> None:
    error = KeyError("boo")

    def my_callback() -> None:
        raise error

    start_timers(reactor, [None])
    reactor.timer(0, 0, my_callback).start()
    with pytest.raises(KeyError) as caught:
        run_with_interrupt(reactor)
    assert caught.value is error
    assert traceback.extract_tb(error.__traceback__)[-1].name == "my_callback"
    assert (error.__cause__, error.__context__, error.__suppress_context__) == (None, None, True)
    assert tls.exception is None
    assert tls.reactor_depth == 0
    assert run_with_interrupt(reactor, NOWAIT) == 0, "the other timer is untouched, the loop may run again"
    assert reactor.references == 1


def test_explicit_cause_of_a_callbacks_exception_is_kept(reactor: Reactor) -> None:
    cause = KeyError("cause")

    def callback() -> None:
        raise ValueError("effect") from cause

    reactor.timer(0, 0, callback).start()
    with pytest.raises(ValueError, match="effect") as caught:
        run_with_interrupt(reactor)
    assert caught.value.__cause__ is cause


def test_all_callbacks_of_the_pass_run_and_the_last_exception_wins(reactor: Reactor) -> None:
    out: list[int] = []
    reactor.timer(0, 0, raiser(KeyError("first"))).start()
    reactor.timer(0, 0, lambda: out.append(1)).start()
    reactor.timer(0, 0, raiser(ValueError("last"))).start()
    with pytest.raises(ValueError, match="last"):
        run_with_interrupt(reactor)
    assert out == [1]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_is_no_exception_proper_ends_the_run_at_once(reactor: Reactor, kind: type[BaseException]) -> None:
    out: list[int] = []
    reactor.timer(0, 0, raiser(kind("now"))).start()
    reactor.timer(0, 0, lambda: out.append(1)).start()
    with pytest.raises(kind, match="now"):
        run_with_interrupt(reactor)
    assert out == []
    assert run_with_interrupt(reactor) == 0
    assert out == [1], "the other timer was only put off"


def test_bare_run_leaves_the_exception_in_the_thread_state(reactor: Reactor) -> None:
    error = ValueError("x")
    reactor.timer(0, 0, raiser(error)).start()
    assert reactor.run() == -1
    assert tls.exception is error


def test_exception_stored_by_hand_is_raised_whatever_the_run_did(reactor: Reactor) -> None:
    out: list[int] = []
    tls.exception = ValueError("by hand")
    reactor.timer(0, 0, lambda: out.append(1)).start()
    with pytest.raises(ValueError, match="by hand"):
        run_with_interrupt(reactor)
    assert out == [1]
    assert tls.exception is None


def test_run_does_not_keep_an_exception_it_raised_alive(reactor: Reactor) -> None:
    class Local(Exception):
        pass

    def callback() -> None:
        raise Local

    def run() -> weakref.ref[Local]:
        reactor.timer(0, 0, callback).start()
        try:
            run_with_interrupt(reactor)
        except Local as error:
            return weakref.ref(error)
        raise AssertionError

    gc.disable()
    try:
        assert run()() is None
    finally:
        gc.enable()


# Nested runs (spec 02, 4.2, 4.5).


def test_nested_run_serves_the_same_events_and_counts_its_depth(reactor: Reactor) -> None:
    out: list[object] = []

    def outer() -> None:
        reactor.timer(0.001, 0, lambda: out.append(tls.reactor_depth)).start()
        out.append(tls.reactor_depth)
        out.append(run_with_interrupt(reactor))
        out.append(tls.reactor_depth)

    reactor.timer(0, 0, outer).start()
    assert run_with_interrupt(reactor) == 0
    assert out == [1, 2, 0, 1]
    assert tls.reactor_depth == 0


def test_stop_ends_all_nested_runs(reactor: Reactor) -> None:
    out: list[object] = []

    def outer() -> None:
        reactor.timer(0.001, 0, reactor.stop).start()
        out.append(reactor.run())

    late = reactor.timer(0.3, 0, lambda: out.append("late"))
    late.start()
    reactor.timer(0, 0, outer).start()
    assert reactor.run() == 1
    assert out == [1]
    reactor.run()
    assert out == [1, "late"]


def test_stop_before_a_nested_run_still_ends_the_outer_one(reactor: Reactor) -> None:
    def outer() -> None:
        reactor.stop()
        reactor.run(NOWAIT)

    start_timers(reactor, [None])
    reactor.timer(0, 0, outer).start()
    assert reactor.run() == 1


def test_caught_failure_of_a_nested_run_ends_the_outer_one_with_error(reactor: Reactor) -> None:
    out: list[str] = []

    def outer() -> None:
        reactor.timer(0, 0, raiser(ValueError("inner"))).start()
        with pytest.raises(ValueError, match="inner"):
            run_with_interrupt(reactor)
        out.append("caught")

    start_timers(reactor, [None])
    reactor.timer(0, 0, outer).start()
    assert run_with_interrupt(reactor) == -1
    assert out == ["caught"]


def test_ready_descriptor_is_reported_once_although_a_nested_run_got_to_it_first(
    reactor: Reactor, pipe: tuple[int, int]
) -> None:
    os.write(pipe[1], b"x")
    out: list[bytes] = []
    reactor.check(lambda: None).start()
    event = reactor.fd(pipe[0], POLLIN, lambda fd, revents: out.append(os.read(fd, 10)))

    def nest(fd: int, revents: int) -> None:
        other.stop()
        reactor.run(NOWAIT)

    other = reactor.fd(pipe[0], POLLIN, nest)
    other.start()
    event.start()
    os.set_blocking(pipe[0], False)
    reactor.run(NOWAIT)
    assert out == [b"x"]


def test_runs_in_two_threads_do_not_meet(reactor: Reactor) -> None:
    result: list[object] = []

    def elsewhere() -> None:
        other = Reactor()
        other.timer(0, 0, lambda: result.append(tls.reactor_depth)).start()
        other.timer(0.001, 0, raiser(ValueError("there"))).start()
        try:
            run_with_interrupt(other)
        except ValueError as error:
            result.append(str(error))
        other.close()

    thread = threading.Thread(target=elsewhere)
    reactor.timer(0, 0, thread.start).start()
    reactor.timer(0.001, 0, thread.join).start()
    assert run_with_interrupt(reactor) == 0
    assert result == [1, "there"]


def test_wake_from_another_thread_makes_the_waiting_loop_look_again(reactor: Reactor) -> None:
    start_timers(reactor, [None])
    thread = threading.Thread(target=reactor.wake)
    reactor.prepare(lambda: None if thread.ident else thread.start()).start()
    assert reactor.run(ONCE) == 2
    thread.join()


# Resources.


def open_descriptors() -> int:
    gc.collect()  # what other tests have left
    return len(os.listdir("/proc/self/fd"))


def test_descriptors_are_made_at_first_need_and_released_by_close() -> None:
    before = open_descriptors()
    reactor = Reactor()
    reactor.timer(1, 0, lambda: None)
    assert open_descriptors() == before
    reactor.run(NOWAIT)
    assert open_descriptors() > before
    reactor.close()
    reactor.close()
    assert open_descriptors() == before


def test_forgotten_reactor_releases_its_descriptors() -> None:
    before = open_descriptors()
    reactor = Reactor()
    reactor.timer(3600, 0, lambda: None).start()
    reactor.signal(12, lambda signum: None).start()
    reactor.run(NOWAIT)
    del reactor
    gc.collect()
    assert open_descriptors() == before


def test_close_in_a_callback_ends_the_run_and_stops_everything(pipe: tuple[int, int]) -> None:
    before = open_descriptors()
    reactor = Reactor()
    out: list[str] = []
    events: list[Event] = [
        reactor.timer(0, 0, reactor.close),
        reactor.timer(0, 1, lambda: out.append("timer")),
        reactor.fd(pipe[1], 2, lambda fd, revents: out.append("fd")),
        reactor.idle(lambda: out.append("idle")),
        reactor.signal(12, lambda signum: out.append("signal")),
    ]
    for event in events:
        event.start()
    assert run_with_interrupt(reactor) == 0
    assert out == []
    assert not any(event.active for event in events)
    assert open_descriptors() == before
