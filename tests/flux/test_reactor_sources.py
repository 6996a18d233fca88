"""Message sources: one dispatch a pass, nobody starves, and the kernel is asked no more than needed."""

from __future__ import annotations

import gc
import os
import weakref
from collections.abc import Callable, Iterator

import pytest

from flux.reactor import NOWAIT, ONCE, POLLIN, Reactor, SourceEvent, run_with_interrupt, tls


class Queue:
    """A source without a descriptor: its messages are callbacks, called when dispatched."""

    def __init__(self, reactor: Reactor, count: int = 0, name: str = "", log: list[str] | None = None) -> None:
        self.reactor = reactor
        self.count = count
        self.name = name
        self.log: list[str] = [] if log is None else log
        self.flushes = 0
        self.on_dispatch: Callable[[], None] = lambda: None
        self.event: SourceEvent = reactor.source(self)

    def fileno(self) -> int:
        return -1

    def read_ready(self) -> bool:
        raise AssertionError("there is nothing to read")

    def dispatch(self) -> bool:
        if self.count:
            self.count -= 1
            self.log.append(self.name)
            self.on_dispatch()
        return self.count > 0

    def before_poll(self) -> None:
        self.flushes += 1

    def go(self) -> None:
        self.event.start()
        self.reactor.source_ready(self.event)


class PipeSource(Queue):
    """A source over a pipe: every byte is a message."""

    def __init__(self, reactor: Reactor, log: list[str]) -> None:
        self.read_end, self.write_end = os.pipe()
        self.reads = 0
        super().__init__(reactor, log=log)

    def fileno(self) -> int:
        return self.read_end

    def read_ready(self) -> bool:
        self.reads += 1
        for byte in os.read(self.read_end, 4096).decode():
            self.name = byte
            self.count += 1
        return self.count > 0

    def close(self) -> None:
        os.close(self.read_end)
        os.close(self.write_end)


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    reactor = Reactor()
    yield reactor
    reactor.close()
    tls.exception = None


@pytest.fixture
def pipe_source(reactor: Reactor) -> Iterator[PipeSource]:
    source = PipeSource(reactor, [])
    yield source
    source.close()


def test_active_source_counts_two(reactor: Reactor) -> None:
    source = Queue(reactor)
    assert reactor.run(NOWAIT) == 0
    source.event.start()
    assert reactor.run(NOWAIT) == 2
    assert run_with_interrupt(reactor, NOWAIT) == 1
    source.event.unref()
    assert reactor.run() == 0


def test_one_message_per_source_and_pass(reactor: Reactor) -> None:
    log: list[str] = []
    sources = [Queue(reactor, 3, name, log) for name in "abc"]
    for source in sources:
        source.go()
    for passes in range(1, 4):
        reactor.run(NOWAIT)
        assert log == ["a", "b", "c"] * passes
    reactor.run(NOWAIT)
    assert len(log) == 9


def test_input_is_read_and_dispatched(reactor: Reactor, pipe_source: PipeSource) -> None:
    pipe_source.event.start()
    os.write(pipe_source.write_end, b"xx")
    reactor.run(ONCE)
    assert (pipe_source.log, pipe_source.reads) == (["x"], 1)
    reactor.run(ONCE)
    assert (pipe_source.log, pipe_source.reads) == (["x", "x"], 1)


def test_nothing_is_read_while_messages_are_queued(reactor: Reactor, pipe_source: PipeSource) -> None:
    """Input waits in the kernel, so that a sender faster than we are is slowed down."""
    pipe_source.event.start()
    os.write(pipe_source.write_end, b"xx")
    reactor.run(ONCE)
    os.write(pipe_source.write_end, b"y")
    reactor.run(ONCE)
    assert pipe_source.reads == 1
    reactor.run(ONCE)
    assert pipe_source.reads == 2
    assert pipe_source.log == ["x", "x", "y"]


def test_nothing_is_read_while_stopped(reactor: Reactor, pipe_source: PipeSource) -> None:
    os.write(pipe_source.write_end, b"x")
    pipe_source.event.start()
    pipe_source.event.stop()
    reactor.run(NOWAIT)
    assert pipe_source.reads == 0


def test_busy_source_starves_nobody(reactor: Reactor, pipe_source: PipeSource) -> None:
    """One source is always ready; timers, signals, descriptors and other sources get their turn all the same."""
    log = pipe_source.log
    busy = Queue(reactor, 1_000_000, "busy")
    other = Queue(reactor, 1, "other", log)
    read_end, write_end = os.pipe()
    busy.go()
    other.go()
    pipe_source.event.start()
    os.write(pipe_source.write_end, b"p")

    def on_input(fd: int, revents: int) -> None:
        log.append("fd")
        reactor.stop()

    fd = reactor.fd(read_end, POLLIN, on_input)
    signal_event = reactor.signal(12, lambda signum: log.append("signal"))
    signal_event.start()

    def start_descriptor() -> None:
        log.append("timer")
        os.write(write_end, b"x")
        fd.start()

    reactor.timer(0.001, 0, lambda: os.kill(os.getpid(), 12)).start()
    reactor.timer(0.002, 0, start_descriptor).start()
    reactor.run()
    assert sorted(log) == ["fd", "other", "p", "signal", "timer"]
    assert 0 < busy.count < 1_000_000
    os.close(read_end)
    os.close(write_end)


def test_sources_with_input_are_looked_at_every_64_dispatches(reactor: Reactor, pipe_source: PipeSource) -> None:
    pipe_source.event.start()
    os.write(pipe_source.write_end, b"p")
    reactor.run(ONCE)
    busy = Queue(reactor, 1000, "b", pipe_source.log)
    busy.go()
    reactor.run(NOWAIT)
    pipe_source.log.clear()

    def write_at_ten() -> None:
        if busy.count == 990:
            os.write(pipe_source.write_end, b"p")

    busy.on_dispatch = write_at_ten
    pipe_source.on_dispatch = reactor.stop
    reactor.run()
    assert 9 <= pipe_source.log.index("p") <= 64 + 9


def test_kernel_is_asked_once_in_64_dispatches(reactor: Reactor) -> None:
    source = Queue(reactor, 6400)
    source.go()

    def stop_at_last() -> None:
        if not source.count:
            source.event.stop()

    source.on_dispatch = stop_at_last
    reactor.run()
    assert source.flushes <= 102, "before each poll, and at the end of the run"


def test_output_is_flushed_before_polling_and_when_the_run_ends(reactor: Reactor) -> None:
    inactive = Queue(reactor)
    seen: list[int] = []
    reactor.timer(0, 0, lambda: seen.append(inactive.flushes)).start()
    reactor.timer(0, 0, reactor.stop).start()
    reactor.run()
    assert seen == [1]
    assert inactive.flushes == 2


def test_readiness_is_remembered_while_stopped(reactor: Reactor) -> None:
    source = Queue(reactor, 2)
    reactor.source_ready(source.event)
    reactor.run(NOWAIT)
    assert source.count == 2
    source.event.start()
    source.event.stop()
    source.event.start()
    reactor.run(NOWAIT)
    assert source.count == 1


def test_source_stopped_in_its_own_dispatch_goes_on_when_started_again(reactor: Reactor) -> None:
    source = Queue(reactor, 3)
    source.on_dispatch = source.event.stop
    source.go()
    assert reactor.run() == 0
    assert source.count == 2
    source.event.start()
    reactor.run()
    assert source.count == 1


def test_source_ready_is_idempotent(reactor: Reactor) -> None:
    source = Queue(reactor, 2)
    source.go()
    reactor.source_ready(source.event)
    reactor.run(NOWAIT)
    assert source.count == 1


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_source_whose_dispatch_failed_is_dispatched_again(reactor: Reactor, kind: type[BaseException]) -> None:
    source = Queue(reactor, 2)

    def fail() -> None:
        raise kind("x")

    source.on_dispatch = fail
    source.go()
    with pytest.raises(kind):
        run_with_interrupt(reactor)
    with pytest.raises(kind):
        run_with_interrupt(reactor)
    assert source.count == 0


def test_exception_of_reading_or_flushing_comes_out_of_the_run(reactor: Reactor) -> None:
    source = PipeSource(reactor, [])
    source.event.start()
    os.write(source.write_end, b"x")
    os.close(source.read_end)
    source.read_end, spare = os.open("/", os.O_RDONLY), source.read_end
    assert spare >= 0
    source.event.stop()
    source.event.start()
    with pytest.raises(IsADirectoryError):
        run_with_interrupt(reactor)
    source.close()


def test_nested_run_in_a_dispatch_goes_on_with_the_same_source(reactor: Reactor) -> None:
    source = Queue(reactor, 3)
    counts: list[int] = []

    def stop_at_last() -> None:
        if not source.count:
            reactor.stop()

    def nest() -> None:
        source.on_dispatch = stop_at_last
        counts.append(reactor.run())

    source.on_dispatch = nest
    source.go()
    reactor.timer(3600, 0, lambda: None).start()
    reactor.run()
    assert counts == [3]
    assert source.count == 0


def test_reactor_does_not_keep_an_inactive_source_alive(reactor: Reactor) -> None:
    source = Queue(reactor)
    reference = weakref.ref(source)
    del source
    gc.collect()
    assert reference() is None
    reactor.run(NOWAIT)
