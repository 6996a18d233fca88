"""The public watcher classes, over a stand-in for the flux handle: they need no more of it than this."""

from __future__ import annotations

import errno
import gc
import inspect
import json
import math
import os
import signal
import socket
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flux.core.watchers as watchers
from flux.core.watchers import (
    CheckWatcher,
    FDWatcher,
    IdleWatcher,
    PrepareWatcher,
    SignalWatcher,
    TimerWatcher,
    Watcher,
)
from flux.reactor import NOWAIT, Reactor, run_with_interrupt
from flux.wrapper import InvalidArguments


class Handle:
    """What a watcher needs of its flux handle."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self._active_watchers: set[Watcher] = set()

    def add_watcher(self, watcher: Watcher) -> Watcher:
        self._active_watchers.add(watcher)
        return watcher

    def del_watcher(self, watcher: Watcher) -> None:
        self._active_watchers.discard(watcher)


@pytest.fixture
def handle() -> Iterator[Handle]:
    handle = Handle()
    yield handle
    handle.reactor.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


class Calls:
    """A callback that keeps the arguments of its calls."""

    def __init__(self) -> None:
        self.arguments: list[tuple[Any, ...]] = []

    def __call__(self, *arguments: Any) -> None:
        self.arguments.append(arguments)


Maker = Callable[..., Watcher]

MAKERS: dict[str, Maker] = {
    "timer": lambda handle, callback, args=None: TimerWatcher(handle, 0, callback, args=args),
    "fd": lambda handle, callback, args=None: FDWatcher(handle, 1, 2, callback, args=args),
    "signal": lambda handle, callback, args=None: SignalWatcher(handle, signal.SIGUSR2, callback, args=args),
    "prepare": PrepareWatcher,
    "check": CheckWatcher,
    "idle": IdleWatcher,
}


@pytest.fixture(params=list(MAKERS))
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Maker]:
    """Makes a watcher of each kind that fires in a pass (the signal is sent by `fire`)."""
    kind: str = request.param
    read_end, write_end = os.pipe()
    if kind == "fd":
        yield lambda handle, callback, args=None: FDWatcher(handle, write_end, 2, callback, args=args)
    else:
        yield MAKERS[kind]
    os.close(read_end)
    os.close(write_end)


def fire(handle: Handle, watcher: Watcher) -> None:
    if isinstance(watcher, SignalWatcher) and watcher.handle is not None and watcher.handle.active:
        os.kill(os.getpid(), signal.SIGUSR2)
    run_with_interrupt(handle.reactor, NOWAIT)


def test_signatures_are_those_of_the_inventory() -> None:
    inventory = json.loads((Path(__file__).parents[2] / "spec" / "api.json").read_text())
    checked = 0
    for name, entry in inventory["modules"]["flux.core.watchers"].items():
        cls = getattr(watchers, name)
        for member, wanted in entry["members"].items():
            parameters = list(inspect.signature(getattr(cls, member)).parameters.values())[1:]
            ours = [p.name if p.default is inspect.Parameter.empty else f"{p.name}={p.default!r}" for p in parameters]
            assert ours == wanted["params"], f"{name}.{member}"
            checked += 1
    assert checked >= 14


def test_callback_gets_handle_watcher_what_happened_and_args(handle: Handle, make: Maker) -> None:
    args = object()
    calls = Calls()
    watcher = make(handle, calls, args=args)
    watcher.start()
    fire(handle, watcher)
    got = calls.arguments[0]
    assert got[0] is handle
    assert got[1] is watcher
    assert got[-1] is args
    match watcher:
        case FDWatcher():
            assert got[2:-1] == (watcher.fd_int, 2)
        case SignalWatcher():
            assert got[2:-1] == (signal.SIGUSR2,)
        case _:
            assert got[2:-1] == (0,)


def test_watcher_is_made_stopped_and_registered(handle: Handle, make: Maker) -> None:
    calls = Calls()
    watcher = make(handle, calls)
    fire(handle, watcher)
    assert calls.arguments == []
    assert handle._active_watchers == {watcher}
    assert watcher.flux_handle is handle
    assert watcher.handle is not None


def test_methods_return_the_watcher_and_do_nothing_after_destroy(handle: Handle, make: Maker) -> None:
    calls = Calls()
    watcher = make(handle, calls)
    for _ in range(2):
        for method in (watcher.start, watcher.ref, watcher.unref, watcher.stop):
            assert method() is watcher
            assert method() is watcher
        watcher.start()
        watcher.destroy()
        watcher.destroy()
        assert watcher.handle is None
        assert handle._active_watchers == set()
        assert handle.reactor.references == 0
    fire(handle, watcher)
    assert calls.arguments == []


def test_with_statement_starts_and_stops(handle: Handle, make: Maker) -> None:
    calls = Calls()
    with make(handle, calls) as watcher:
        fire(handle, watcher)
    fire(handle, watcher)
    assert len(calls.arguments) == 1
    assert watcher.handle is not None
    assert watcher in handle._active_watchers
    error = ValueError()
    with pytest.raises(ValueError) as caught, watcher:  # noqa: PT011  # identity is what is asserted
        raise error
    assert caught.value is error


def test_unref_lets_the_run_end(handle: Handle, make: Maker) -> None:
    watcher = make(handle, Calls())
    watcher.unref().start()
    assert run_with_interrupt(handle.reactor) == 0


def test_callback_may_stop_or_destroy_its_own_watcher(handle: Handle, make: Maker) -> None:
    for action in ("stop", "destroy"):
        seen: list[str] = []

        def callback(
            flux_handle: object, watcher: Watcher, *rest: object, action: str = action, seen: list[str] = seen
        ) -> None:
            getattr(watcher, action)()
            seen.append(action)

        watcher = make(handle, callback)
        watcher.start()
        fire(handle, watcher)
        assert handle.reactor.references == 0
        fire(handle, watcher)
        assert seen == [action]
        watcher.destroy()


def test_exception_of_the_callback_comes_out_of_the_run(handle: Handle, make: Maker) -> None:
    error = ValueError("x")

    def callback(*arguments: object) -> None:
        raise error

    watcher = make(handle, callback)
    watcher.start()
    with pytest.raises(ValueError, match="x") as caught:
        fire(handle, watcher)
    assert caught.value is error


def test_anonymous_started_watcher_survives_collection(handle: Handle, make: Maker) -> None:
    calls = Calls()
    reference = weakref.ref(make(handle, calls).start())
    gc.collect()
    watcher = reference()
    assert watcher is not None
    fire(handle, watcher)
    assert calls.arguments[0][1] is watcher


def test_destroyed_watcher_is_freed_without_collection(handle: Handle, make: Maker) -> None:
    gc.disable()
    try:
        watcher = make(handle, Calls())
        watcher.start()
        watcher.destroy()
        reference = weakref.ref(watcher)
        del watcher
        assert reference() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("callback", [None, 5, "name"])
def test_callback_that_cannot_be_called_is_refused_at_once(handle: Handle, make: Maker, callback: object) -> None:
    if callback is None and isinstance(make(handle, print), IdleWatcher):
        make(handle, None).start()
        assert handle.reactor.run(NOWAIT) == 1
        return
    handle._active_watchers.clear()
    with pytest.raises(TypeError, match="callback must be callable"):
        make(handle, callback)
    assert handle._active_watchers == set(), "nothing half made is left"


# Timers.


def test_timer_keeps_its_times_as_floats(handle: Handle) -> None:
    watcher = TimerWatcher(handle, "1.5", print, repeat=2)  # type: ignore[arg-type]
    assert (watcher.after, watcher.repeat) == (1.5, 2.0)
    assert isinstance(watcher.repeat, float)
    assert (watcher.callback, watcher.args) == (print, None)


TIMES = [
    (-1, 0, OSError),
    (1, -0.5, OSError),
    (math.nan, 0, OSError),
    ("x", 0, ValueError),
    (None, 0, TypeError),
    (1, [], TypeError),
]


@pytest.mark.parametrize(("after", "repeat", "error"), TIMES)
def test_timer_refuses_what_is_no_time(handle: Handle, after: Any, repeat: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        TimerWatcher(handle, after, print, repeat)
    if isinstance(caught.value, OSError):
        assert caught.value.args == (errno.EINVAL, "EINVAL: Invalid argument")
    watcher = TimerWatcher(handle, 1, print)
    if after is not None:
        with pytest.raises(error):
            watcher.reset(after, repeat)


def test_reset_starts_with_other_times_and_leaves_the_attributes(handle: Handle) -> None:
    calls = Calls()
    watcher = TimerWatcher(handle, 3600, calls, repeat=1800)
    assert watcher.reset(after=0.001, repeat=0) is None  # type: ignore[func-returns-value]
    assert run_with_interrupt(handle.reactor) == 0
    assert len(calls.arguments) == 1
    assert (watcher.after, watcher.repeat) == (3600, 1800)
    watcher.reset()
    assert watcher.handle is not None
    assert (watcher.handle.after, watcher.handle.repeat) == (3600, 1800)
    watcher.reset(after=0.001, repeat=0)
    assert run_with_interrupt(handle.reactor) == 0, "a running one is armed anew"
    watcher.destroy()
    watcher.reset(0)
    assert run_with_interrupt(handle.reactor) == 0
    assert len(calls.arguments) == 2


def test_one_shot_timer_may_be_started_again(handle: Handle) -> None:
    calls = Calls()
    watcher = TimerWatcher(handle, 0.001, calls)
    for _ in range(2):
        watcher.start().start()
        run_with_interrupt(handle.reactor)
    assert len(calls.arguments) == 2


# Descriptors.


def test_fd_accepts_objects_with_a_descriptor(handle: Handle) -> None:
    one, other = socket.socketpair()
    with one, other:
        calls = Calls()
        with FDWatcher(handle, one, 7, calls) as watcher:
            assert watcher.fd_int == one.fileno()
            assert watcher.events == 7
            other.send(b"x")
            handle.reactor.run(NOWAIT)
        assert calls.arguments == [(handle, watcher, one.fileno(), 3, None)]


@pytest.mark.parametrize("fd", ["x", None, 1.0, b"1"])
def test_fd_of_another_kind_is_refused(handle: Handle, fd: object) -> None:
    with pytest.raises(InvalidArguments, match="flux_fd_watcher_create"):
        FDWatcher(handle, fd, 1, print)
    with pytest.raises(InvalidArguments):
        FDWatcher(handle, 0, fd, print)  # type: ignore[arg-type]
    assert handle._active_watchers == set()


def test_bad_fd_is_refused_by_start(handle: Handle) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    os.close(write_end)
    for fd in (read_end, -1):
        watcher = FDWatcher(handle, fd, 1, print)
        with pytest.raises(OSError) as caught:  # noqa: PT011  # told apart by errno
            watcher.start()
        assert caught.value.errno == errno.EBADF
    assert run_with_interrupt(handle.reactor) == 0


def test_fd_watcher_reads_until_end_of_input(handle: Handle) -> None:
    read_end, write_end = os.pipe()
    data: list[bytes] = []

    def callback(flux_handle: object, watcher: FDWatcher, fd: int, revents: int, args: object) -> None:
        data.append(os.read(fd, 2))
        if not data[-1]:
            watcher.destroy()

    os.write(write_end, b"abc")
    os.close(write_end)
    FDWatcher(handle, read_end, 1, callback).start()
    assert run_with_interrupt(handle.reactor) == 0
    assert data == [b"ab", b"c", b""]
    os.close(read_end)


# Signals.


@pytest.mark.parametrize("signum", [-500, 0, 65, 500])
def test_number_that_is_no_signal_is_refused(handle: Handle, signum: int) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011  # all of it is asserted
        SignalWatcher(handle, signum, print)
    assert caught.value.args == (errno.EINVAL, "invalid signal number")


@pytest.mark.parametrize("signum", ["x", None, 1.0])
def test_signal_of_another_kind_is_refused(handle: Handle, signum: Any) -> None:
    with pytest.raises(InvalidArguments, match="flux_signal_watcher_create"):
        SignalWatcher(handle, signum, print)


def test_handler_is_back_after_stop_and_after_destroy(handle: Handle) -> None:
    before = signal.getsignal(signal.SIGUSR2)
    watcher = SignalWatcher(handle, signal.SIGUSR2, print)
    assert watcher.signal_int == signal.SIGUSR2
    for end in (watcher.stop, watcher.destroy):
        watcher.start()
        assert signal.getsignal(signal.SIGUSR2) is not before
        end()
        assert signal.getsignal(signal.SIGUSR2) is before


def test_run_leaves_no_watcher_of_its_own_in_the_registry(handle: Handle) -> None:
    for _ in range(3):
        run_with_interrupt(handle.reactor, NOWAIT)
    assert handle._active_watchers == set()
