"""Signals and Ctrl-C, with real signals."""

from __future__ import annotations

import errno
import functools
import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import pytest

from flux.reactor import NOWAIT, ONCE, POLLIN, Reactor, SourceEvent, run_with_interrupt, tls

USR1, USR2, INT = signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT


def send(signum: int) -> None:
    os.kill(os.getpid(), signum)


def send_from_another_thread(signum: int) -> None:
    """The signal arrives while the main thread waits in the kernel, or soon after: not in a callback."""
    thread = threading.Thread(target=send, args=(signum,))
    thread.start()
    thread.join()


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Every test leaves the handlers as they were, and signals that nobody awaits fail it."""

    def unexpected(signum: int, frame: object) -> None:
        raise AssertionError(f"signal {signum} came through to Python")

    saved = {signum: signal.signal(signum, unexpected) for signum in (USR1, USR2)}
    saved[INT] = signal.signal(INT, signal.default_int_handler)
    yield
    after = [signal.getsignal(signum) for signum in (USR1, USR2, INT)]
    wakeup = signal.set_wakeup_fd(-1)
    for signum, handler in saved.items():
        signal.signal(signum, handler)
    assert after == [unexpected, unexpected, signal.default_int_handler]
    assert wakeup == -1
    assert tls.reactor_depth == 0
    tls.exception = None


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    guard = reactor.timer(10, 0, lambda: os.abort())
    guard.unref()
    guard.start()
    yield reactor
    reactor.close()


def keep_running(reactor: Reactor) -> None:
    reactor.timer(3600, 0, lambda: None).start()


# Signal events.


def test_all_events_of_a_signal_run_in_order_of_start(reactor: Reactor) -> None:
    out: list[tuple[str, int]] = []
    for name in "abc":
        reactor.signal(USR1, lambda signum, name=name: out.append((name, signum))).start()  # type: ignore[misc]
    send(USR1)
    reactor.run(NOWAIT)
    assert out == [("a", USR1), ("b", USR1), ("c", USR1)]


def test_signal_wakes_a_waiting_loop(reactor: Reactor) -> None:
    out: list[int] = []
    event = reactor.signal(USR1, lambda signum: (out.append(signum), event.stop())[0])
    event.start()
    reactor.prepare(lambda: None).start()
    thread = threading.Thread(target=send, args=(USR1,))
    thread.start()
    while not out:
        reactor.run(ONCE)
    thread.join()
    assert out == [USR1]


def test_signal_that_another_thread_receives_wakes_the_loop(reactor: Reactor) -> None:
    out: list[int] = []
    event = reactor.signal(USR1, lambda signum: (out.append(signum), reactor.stop())[0])
    event.start()
    release = threading.Event()

    def elsewhere() -> None:
        signal.pthread_kill(threading.get_ident(), USR1)
        release.wait()  # keeps the interpreter's main thread undisturbed by this thread's end

    thread = threading.Thread(target=elsewhere)
    reactor.timer(0, 0, thread.start).start()
    reactor.run()
    release.set()
    thread.join()
    assert out == [USR1]


def test_signal_that_comes_while_no_loop_runs_is_kept(reactor: Reactor) -> None:
    out: list[int] = []
    reactor.signal(USR1, out.append).start()
    send(USR1)
    assert out == []
    reactor.run(NOWAIT)
    assert out == [USR1]
    reactor.run(NOWAIT)
    assert out == [USR1]


def test_signal_that_came_before_the_last_event_stopped_is_forgotten(reactor: Reactor) -> None:
    out: list[int] = []
    event = reactor.signal(USR1, out.append)
    event.start()
    send(USR1)
    event.stop()
    event.start()
    reactor.run(NOWAIT)
    assert out == []


def test_python_handler_is_back_in_force_after_the_last_event_stopped() -> None:
    seen: list[str] = []
    saved = signal.signal(USR1, lambda signum, frame: seen.append("python"))
    one, other = Reactor(), Reactor()
    events = [reactor.signal(USR1, lambda signum: seen.append("event")) for reactor in (one, one, other)]
    for event in events:
        event.start()
    send(USR1)
    one.run(NOWAIT)
    other.run(NOWAIT)
    assert seen == ["event"] * 3
    for event in events:
        event.stop()
    send(USR1)
    assert seen == ["event"] * 3 + ["python"]
    signal.signal(USR1, saved)
    one.close()
    other.close()


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL])
def test_default_and_ignore_are_put_back_too(reactor: Reactor, handler: signal.Handlers) -> None:
    saved = signal.signal(USR1, handler)
    event = reactor.signal(USR1, lambda signum: None)
    event.start()
    event.stop()
    assert signal.getsignal(USR1) is handler
    signal.signal(USR1, saved)


def test_handler_that_someone_installs_meanwhile_is_left_alone(reactor: Reactor) -> None:
    def mine(signum: int, frame: object) -> None:
        pass

    event = reactor.signal(USR1, lambda signum: None)
    event.start()
    saved = signal.getsignal(USR1)
    assert saved is not mine
    before = signal.signal(USR1, mine)
    event.stop()
    assert signal.getsignal(USR1) is mine
    signal.signal(USR1, before)
    reactor.signal(USR1, lambda signum: None).start()
    reactor.close()


def test_events_start_only_in_the_main_thread(reactor: Reactor) -> None:
    errors: list[OSError] = []

    def elsewhere() -> None:
        event = reactor.signal(USR1, lambda signum: None)
        try:
            event.start()
        except OSError as error:
            errors.append(error)
        event.stop()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert errors[0].errno == errno.EINVAL
    assert "main thread" in str(errors[0])
    assert reactor.references == 0


def test_loop_in_another_thread_gets_signals_of_events_started_in_the_main_thread() -> None:
    reactor = Reactor()
    out: list[int] = []
    event = reactor.signal(USR1, lambda signum: (out.append(signum), reactor.stop())[0])
    event.start()
    thread = threading.Thread(target=reactor.run)
    thread.start()
    send(USR1)
    thread.join(60.0)
    assert out == [USR1]
    reactor.close()


def test_handler_left_behind_by_another_thread_takes_itself_out(reactor: Reactor) -> None:
    seen: list[int] = []
    saved = signal.signal(USR1, lambda signum, frame: seen.append(signum))
    event = reactor.signal(USR1, lambda signum: None)
    event.start()
    thread = threading.Thread(target=event.stop)
    thread.start()
    thread.join()
    send(USR1)
    assert seen == [USR1]
    signal.signal(USR1, saved)


def test_forgotten_reactor_gives_its_handlers_back() -> None:
    before = signal.getsignal(USR1)
    reactor = Reactor()
    reactor.signal(USR1, lambda signum: None).start()
    assert signal.getsignal(USR1) is not before
    del reactor
    gc.collect()
    assert signal.getsignal(USR1) is before


def test_children_inherit_no_blocked_signal(reactor: Reactor) -> None:
    out: list[str] = []
    code = "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])))"

    def spawn() -> None:
        out.append(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout)

    reactor.signal(USR1, lambda signum: reactor.stop()).start()
    reactor.timer(0, 0, spawn).start()
    reactor.timer(0.001, 0, reactor.stop).start()
    run_with_interrupt(reactor)
    assert out == ["[]\n"]


def test_wakeup_descriptor_of_others_is_left_to_them(reactor: Reactor) -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end)
    reactor.signal(USR1, lambda signum: reactor.stop()).start()
    reactor.timer(0, 0, lambda: send(USR1)).start()
    reactor.run()
    assert signal.set_wakeup_fd(-1) == write_end
    assert os.read(read_end, 10) == bytes([USR1])
    os.close(read_end)
    os.close(write_end)


# Ctrl-C.


def test_sigint_while_waiting_is_raised_by_the_run(reactor: Reactor) -> None:
    keep_running(reactor)
    threads: list[threading.Thread] = []

    def start() -> None:
        thread = threading.Thread(target=send, args=(INT,))
        threads.append(thread)
        thread.start()

    hook = reactor.prepare(lambda: (hook.stop(), start())[1])
    hook.start()
    with pytest.raises(KeyboardInterrupt):
        run_with_interrupt(reactor)
    threads[0].join()
    assert tls.exception is None
    assert run_with_interrupt(reactor, NOWAIT) == 0


def test_sigint_in_a_callback_is_raised_right_there(reactor: Reactor) -> None:
    out: list[str] = []

    def callback() -> None:
        try:
            send(INT)
            out.append("went on")
        finally:
            out.append("cleaned up")

    keep_running(reactor)
    reactor.timer(0, 0, callback).start()
    with pytest.raises(KeyboardInterrupt):
        run_with_interrupt(reactor)
    assert out == ["cleaned up"]


def test_sigint_interrupts_a_callback_that_blocks(reactor: Reactor) -> None:
    read_end, write_end = os.pipe()
    keep_running(reactor)
    timer = threading.Timer(0.05, send, (INT,))

    def block() -> None:
        timer.start()
        os.read(read_end, 1)

    reactor.timer(0, 0, block).start()
    with pytest.raises(KeyboardInterrupt):
        run_with_interrupt(reactor)
    timer.join()
    os.close(read_end)
    os.close(write_end)


def test_callback_may_catch_its_interrupt_and_go_on(reactor: Reactor) -> None:
    out: list[str] = []

    def callback() -> None:
        try:
            send(INT)
        except KeyboardInterrupt:
            out.append("caught")

    reactor.timer(0, 0, callback).start()
    reactor.timer(0.001, 0, lambda: out.append("later")).start()
    assert run_with_interrupt(reactor) == 0
    assert out == ["caught", "later"]


@pytest.mark.parametrize("where", ["callback", "waiting"])
def test_own_event_for_sigint_also_runs(reactor: Reactor, where: str) -> None:
    out: list[int] = []
    keep_running(reactor)
    event = reactor.signal(INT, out.append)
    event.start()
    thread = threading.Timer(0.02, send, (INT,))
    reactor.timer(0, 0, thread.start if where == "waiting" else lambda: send(INT)).start()
    with pytest.raises(KeyboardInterrupt):
        run_with_interrupt(reactor)
    if where == "waiting":
        thread.join()
    assert out == [INT]


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3)])
def test_keyboard_interrupt_takes_the_place_of_other_exceptions(reactor: Reactor, error: BaseException) -> None:
    def fail(signum: int) -> None:
        raise error

    event = reactor.signal(INT, fail)
    event.start()
    keep_running(reactor)
    reactor.timer(0, 0, lambda: send(INT)).start()
    with pytest.raises(KeyboardInterrupt):
        run_with_interrupt(reactor)
    assert tls.exception is None


def test_event_started_in_a_run_survives_it_and_the_old_handler_comes_back_after_it(reactor: Reactor) -> None:
    out: list[int] = []
    event = reactor.signal(INT, out.append)
    reactor.timer(0, 0, event.start).start()
    reactor.timer(0, 0, reactor.stop).start()
    run_with_interrupt(reactor)
    assert signal.getsignal(INT) is not signal.default_int_handler
    send(INT)
    reactor.run(NOWAIT)
    assert out == [INT]
    event.stop()
    assert signal.getsignal(INT) is signal.default_int_handler


def stop_normally(reactor: Reactor) -> None:
    reactor.timer(0, 0, reactor.stop).start()


def fail_in_callback(reactor: Reactor) -> None:
    def fail() -> None:
        raise ValueError

    reactor.timer(0, 0, fail).start()


def exit_in_callback(reactor: Reactor) -> None:
    def leave() -> None:
        raise SystemExit

    reactor.timer(0, 0, leave).start()


def interrupt(reactor: Reactor) -> None:
    reactor.timer(0, 0, lambda: send(INT)).start()


@pytest.mark.parametrize("handler", [lambda signum, frame: None, signal.SIG_IGN, signal.SIG_DFL])
@pytest.mark.parametrize("how", [stop_normally, fail_in_callback, exit_in_callback, interrupt])
def test_handler_is_what_it_was_however_the_run_ends(
    reactor: Reactor, how: Callable[[Reactor], None], handler: signal.Handlers
) -> None:
    saved = signal.signal(INT, handler)
    how(reactor)
    try:
        run_with_interrupt(reactor)
    except (ValueError, SystemExit, KeyboardInterrupt):
        assert how is not stop_normally
    with pytest.raises(OSError, match="EINVAL"):
        run_with_interrupt(reactor, 4)
    assert signal.getsignal(INT) is handler
    signal.signal(INT, saved)


def test_handler_that_a_callback_installs_stays(reactor: Reactor) -> None:
    def mine(signum: int, frame: object) -> None:
        pass

    reactor.timer(0, 0, lambda: signal.signal(INT, mine) and None).start()
    run_with_interrupt(reactor)
    assert signal.getsignal(INT) is mine
    signal.signal(INT, signal.default_int_handler)


@pytest.mark.parametrize("caught", [True, False])
def test_sigint_ends_the_inner_of_two_nested_reactors(reactor: Reactor, caught: bool) -> None:
    inner, out = Reactor(), []

    def nest() -> None:
        keep_running(inner)
        inner.timer(0, 0, lambda: send_when_waiting()).start()
        try:
            run_with_interrupt(inner)
        except KeyboardInterrupt:
            out.append("inner")
            if not caught:
                raise

    def send_when_waiting() -> None:
        thread = threading.Timer(0.02, send, (INT,))
        threads.append(thread)
        thread.start()

    threads: list[threading.Timer] = []
    reactor.timer(0, 0, nest).start()
    reactor.timer(0.001, 0, lambda: out.append("outer goes on")).start()
    if caught:
        run_with_interrupt(reactor)
        assert out == ["inner", "outer goes on"]
    else:
        with pytest.raises(KeyboardInterrupt):
            run_with_interrupt(reactor)
        assert out == ["inner"]
    threads[0].join()
    inner.close()


def test_nested_runs_of_two_reactors_that_watch_one_signal(reactor: Reactor) -> None:
    inner, out = Reactor(), []
    inner.signal(USR1, lambda signum: (out.append("inner"), inner.stop())[0]).start()
    reactor.signal(USR1, lambda signum: (out.append("outer"), reactor.stop())[0]).start()

    def nest() -> None:
        send(USR1)
        run_with_interrupt(inner)

    reactor.timer(0, 0, nest).start()
    run_with_interrupt(reactor)
    assert out == ["inner", "outer"]
    inner.close()


def test_run_in_another_thread_installs_nothing_and_leaves_sigint_to_the_main_thread() -> None:
    seen: list[object] = []

    def elsewhere() -> None:
        other = Reactor()
        other.timer(0, 0, lambda: seen.append(signal.getsignal(INT))).start()
        run_with_interrupt(other)
        other.close()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]
    with pytest.raises(KeyboardInterrupt):
        send(INT)


PLUMBING = """
class Source:
    def __init__(self, step):
        self.step = step
        self.done = []

    def fileno(self):
        return -1

    def read_ready(self):
        return False

    def before_poll(self):
        pass

    def dispatch(self):
        for number in range(3):
            self.step(number)
            self.done.append(number)
        return False
"""


@pytest.mark.parametrize(("signals", "done"), [({1}, [0, 1, 2]), ({0, 1}, [0])])
def test_plumbing_is_torn_apart_by_the_second_sigint_only(reactor: Reactor, signals: set[int], done: list[int]) -> None:
    """Code of the modules that move messages stands here for theirs; os.kill is a call from within it."""
    namespace: dict[str, object] = {"__name__": "flux.connector.example"}
    exec(PLUMBING, namespace)
    exec("import os, signal\ndef step(n):\n    n in signals and os.kill(os.getpid(), signal.SIGINT)", namespace)
    namespace["signals"] = signals
    source = namespace["Source"](namespace["step"])  # type: ignore[operator]
    event: SourceEvent = reactor.source(source)
    event.start()
    reactor.source_ready(event)
    with pytest.raises(KeyboardInterrupt):
        run_with_interrupt(reactor)
    assert source.done == done


def test_sigint_within_a_call_to_the_reactor_waits_for_the_callback_to_end(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A callback that is just stopping a timer must not leave it half stopped."""
    out: list[str] = []
    discard = reactor.timers.discard
    other = reactor.timer(3600, 0, lambda: None)
    other.start()
    keep_running(reactor)
    namespace = {
        "__name__": "flux.reactor.example",
        "send": functools.partial(os.kill, os.getpid()),
        "discard": discard,
        "INT": INT,
    }
    exec("def interrupted_discard(timer):\n    send(INT)\n    discard(timer)", namespace)
    monkeypatch.setattr(reactor.timers, "discard", namespace["interrupted_discard"])

    def callback() -> None:
        other.stop()
        out.append("stopped")

    hook = reactor.prepare(callback)
    hook.start()
    with pytest.raises(KeyboardInterrupt):
        run_with_interrupt(reactor)
    monkeypatch.undo()
    hook.stop()
    assert out == ["stopped"]
    assert not other.active
    assert reactor.references == 1


def test_handler_that_raises_while_the_loop_waits_ends_the_run_and_leaves_it_whole(reactor: Reactor) -> None:
    """The usual timeout by SIGALRM."""

    def expire(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError("too long")

    keep_running(reactor)
    saved = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        with pytest.raises(TimeoutError, match="too long"):
            run_with_interrupt(reactor)
    finally:
        signal.signal(signal.SIGALRM, saved)
    assert not reactor.running
    assert tls.exception is None
    assert run_with_interrupt(reactor, NOWAIT) == 0


def test_sigints_at_any_point_leave_loop_and_handler_whole(reactor: Reactor) -> None:
    """A timer of the system strikes the loop wherever it is; every run ends with KeyboardInterrupt."""
    interrupted = 0

    def relay(signum: int, frame: FrameType | None) -> None:
        # Only while a run has our handler installed: outside, SIGINT is for the test to suffer.
        handler = signal.getsignal(INT)
        if handler is not signal.default_int_handler and callable(handler):
            handler(INT, frame)

    saved = signal.signal(signal.SIGALRM, relay)
    read_end, write_end = os.pipe()
    os.write(write_end, b"x")
    reactor.fd(read_end, POLLIN, lambda fd, revents: None).start()
    reactor.timer(0, 0.0001, lambda: None).start()
    signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.00013)
    try:
        while interrupted < 300:
            try:
                run_with_interrupt(reactor)
            except KeyboardInterrupt:
                interrupted += 1
            assert signal.getsignal(INT) is signal.default_int_handler
            assert tls.reactor_depth == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, saved)
    assert not reactor.running
    assert reactor.run(NOWAIT) == 2
    os.close(read_end)
    os.close(write_end)
