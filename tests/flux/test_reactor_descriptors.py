"""Descriptors: readiness of pipes, sockets and files, several watchers of one, and those closed meanwhile."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flux.reactor import NOWAIT, ONCE, POLLERR, POLLIN, POLLOUT, FdEvent, Reactor, SourceEvent
from flux.reactor.descriptors import Descriptors
from flux.reactor.poller import Poller, SelectorPoller, new_poller


@pytest.fixture(params=[new_poller, SelectorPoller])
def reactor(request: pytest.FixtureRequest) -> Iterator[Reactor]:
    """A reactor over each kind of poller."""
    factory: Callable[[], Poller] = request.param
    reactor = Reactor()
    reactor.descriptors = Descriptors(factory)
    yield reactor
    reactor.close()


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    yield one, other
    one.close()
    other.close()


class Log:
    """Calls of descriptor callbacks as (fd, revents)."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, fd: int, revents: int) -> None:
        self.calls.append((fd, revents))


def test_readiness_is_reported_for_what_was_asked(reactor: Reactor, ends: tuple[socket.socket, socket.socket]) -> None:
    fd = ends[0].fileno()
    table = [
        (0, False, 0),
        (POLLIN, False, 0),
        (POLLOUT, False, POLLOUT),
        (POLLIN | POLLOUT | POLLERR, False, POLLOUT),
        (POLLERR, True, 0),
        (0, True, 0),
        (POLLIN, True, POLLIN),
        (POLLOUT, True, POLLOUT),
        (POLLIN | POLLOUT | POLLERR, True, POLLIN | POLLOUT),
    ]
    for events, readable, expected in table:
        if readable and not table[table.index((events, readable, expected)) - 1][1]:
            ends[1].send(b"x")
        log = Log()
        event = reactor.fd(fd, events, log)
        event.start()
        reactor.run(NOWAIT)
        reactor.run(NOWAIT)
        event.stop()
        reactor.run(NOWAIT)
        assert log.calls == ([(fd, expected)] * 2 if expected else []), (events, readable)


@pytest.mark.parametrize("events", [POLLIN, POLLIN | POLLERR])
def test_hangup_is_reported_as_readable(reactor: Reactor, events: int) -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    log = Log()
    reactor.fd(read_end, events, log).start()
    reactor.run(NOWAIT)
    assert log.calls == [(read_end, POLLIN)]
    os.close(read_end)


def test_error_is_reported_as_writable(reactor: Reactor) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    log = Log()
    reactor.fd(write_end, POLLOUT | POLLERR, log).start()
    reactor.run(NOWAIT)
    assert log.calls == [(write_end, POLLOUT)]
    os.close(write_end)


def test_watching_for_nothing_does_not_make_the_loop_spin_on_a_hangup(reactor: Reactor) -> None:
    read_end, write_end = os.pipe()
    os.close(write_end)
    log, fired = Log(), []
    reactor.fd(read_end, 0, log).start()
    reactor.timer(0.01, 0, lambda: fired.append(1)).start()
    passes = []
    reactor.prepare(lambda: passes.append(1)).start()
    reactor.run(ONCE)
    assert (log.calls, fired, passes) == ([], [1], [1])
    os.close(read_end)


def test_several_events_watch_one_descriptor_independently(
    reactor: Reactor, ends: tuple[socket.socket, socket.socket]
) -> None:
    fd = ends[0].fileno()
    reading, writing, both = Log(), Log(), Log()
    events = [
        reactor.fd(fd, POLLIN, reading),
        reactor.fd(fd, POLLOUT, writing),
        reactor.fd(fd, POLLIN | POLLOUT, both),
    ]
    for event in events:
        event.start()
    ends[1].send(b"x")
    reactor.run(NOWAIT)
    assert (reading.calls, writing.calls, both.calls) == ([(fd, 1)], [(fd, 2)], [(fd, 3)])
    events[1].stop()
    events[2].stop()
    reactor.run(NOWAIT)
    assert (len(reading.calls), len(writing.calls), len(both.calls)) == (2, 1, 1)


def test_set_events_changes_the_interest_while_active(
    reactor: Reactor, ends: tuple[socket.socket, socket.socket]
) -> None:
    fd = ends[0].fileno()
    ends[1].send(b"x")
    log = Log()
    event = reactor.fd(fd, POLLIN, log)
    event.start()
    for interest, expected in [(POLLOUT, [2]), (0, []), (POLLIN | POLLOUT, [3]), (POLLIN, [1])]:
        log.calls.clear()
        event.set_events(interest)
        reactor.run(NOWAIT)
        assert [revents for _, revents in log.calls] == expected


@pytest.mark.parametrize("events", [0, POLLIN, POLLOUT])
def test_descriptor_that_is_not_open_is_refused_at_start(reactor: Reactor, events: int) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    os.close(write_end)
    for fd in (read_end, -1, 1_000_000):
        event = reactor.fd(fd, events, Log())
        with pytest.raises(OSError) as caught:  # noqa: PT011  # told apart by errno
            event.start()
        assert caught.value.errno == errno.EBADF
        assert not event.active
        event.stop()
    assert reactor.run() == 0
    assert reactor.descriptors.entries == {}


def test_regular_file_is_always_ready(reactor: Reactor, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w+") as file:
        log = Log()
        event = reactor.fd(file.fileno(), POLLIN | POLLOUT, log)
        event.start()
        for _ in range(3):
            assert reactor.run(ONCE) == 1
        event.set_events(POLLIN)
        reactor.run(ONCE)
        event.stop()
        reactor.run(NOWAIT)
        assert [revents for _, revents in log.calls] == [3, 3, 3, 1]


def closes_while_watched(reactor: Reactor, fd: int, events: int) -> list[int]:
    """Passes that the loop makes while a timer is awaited and `fd` is closed though watched."""
    log = Log()
    event = reactor.fd(fd, events, log)
    event.start()
    os.close(fd)
    passes: list[int] = []
    reactor.prepare(lambda: passes.append(1)).start()
    reactor.timer(0.02, 0, reactor.stop).start()
    reactor.run()
    assert log.calls == []
    event.stop()
    assert reactor.descriptors.entries == {}
    return passes


@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_descriptor_closed_while_watched_is_silent(reactor: Reactor, kind: str, tmp_path: Path) -> None:
    if kind == "pipe":
        fd, write_end = os.pipe()
        os.write(write_end, b"x")
        os.close(write_end)
    else:
        fd = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    passes = closes_while_watched(reactor, fd, POLLIN)
    assert len(passes) <= 3


@pytest.mark.parametrize("stop_first", [True, False])
@pytest.mark.parametrize("reuse", [True, False])
def test_duplicate_of_a_closed_descriptor_neither_spins_nor_speaks_for_its_successor(
    stop_first: bool, reuse: bool
) -> None:
    """Epoll reports the old file as long as the duplicate lives, under a number that is free or reused."""
    reactor = Reactor()
    other, old, spare = os.pipe(), os.pipe(), os.pipe()
    duplicate = os.dup(old[0])
    event = reactor.fd(old[0], POLLIN, Log())
    event.start()
    reactor.run(NOWAIT)
    os.close(old[0])
    if stop_first:
        event.stop()
    if reuse:
        os.dup2(spare[0], old[0])
    successor, witness = Log(), Log()
    if reuse:
        reactor.fd(old[0], POLLIN, successor).start()
    reactor.fd(other[0], POLLIN, witness).start()
    if not stop_first:
        event.stop()
    os.write(old[1], b"x")
    passes: list[int] = []
    reactor.prepare(lambda: passes.append(1)).start()
    reactor.timer(0.02, 0, reactor.stop).start()
    reactor.run()
    assert len(passes) <= 3
    assert successor.calls == []
    os.write(other[1], b"y")
    reactor.run(NOWAIT)
    assert witness.calls == [(other[0], POLLIN)], "the others are watched on"
    for fd in {*other, *spare, old[1], duplicate} | ({old[0]} if reuse else set()):
        os.close(fd)


@pytest.mark.parametrize("stop_first", [True, False])
def test_reused_descriptor_number_is_watched_for_what_it_is_now(reactor: Reactor, stop_first: bool) -> None:
    old_read, old_write = os.pipe()
    old = reactor.fd(old_read, POLLIN, Log())
    old.start()
    os.close(old_read)
    os.close(old_write)
    if stop_first:
        old.stop()
    new_read, new_write = os.pipe()
    assert new_read == old_read
    log = Log()
    event = reactor.fd(new_read, POLLIN, log)
    event.start()
    os.write(new_write, b"x")
    reactor.run(NOWAIT)
    assert log.calls == [(new_read, POLLIN)]
    os.close(new_read)
    os.close(new_write)


def test_file_replaced_by_a_pipe_of_the_same_number_is_no_longer_always_ready(reactor: Reactor, tmp_path: Path) -> None:
    number = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    event = reactor.fd(number, POLLIN, Log())
    event.start()
    event.stop()
    os.close(number)
    read_end, write_end = os.pipe()
    assert read_end == number
    log = Log()
    event = reactor.fd(read_end, POLLIN, log)
    event.start()
    reactor.run(NOWAIT)
    assert log.calls == []
    os.close(read_end)
    os.close(write_end)


class SocketSource:
    """A message source over a socket: every byte is a message."""

    def __init__(self, reactor: Reactor, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.setblocking(False)
        self.messages = b""
        self.handled = b""
        self.event: SourceEvent = reactor.source(self)

    def fileno(self) -> int:
        return self.sock.fileno()

    def read_ready(self) -> bool:
        self.messages += self.sock.recv(4096)
        return bool(self.messages)

    def dispatch(self) -> bool:
        self.handled += self.messages[:1]
        self.messages = self.messages[1:]
        return bool(self.messages)

    def before_poll(self) -> None:
        pass


def test_source_and_event_may_share_a_descriptor(reactor: Reactor, ends: tuple[socket.socket, socket.socket]) -> None:
    source = SocketSource(reactor, ends[0])
    log = Log()
    event: FdEvent = reactor.fd(ends[0].fileno(), POLLOUT, log)
    source.event.start()
    event.start()
    ends[1].send(b"ab")
    reactor.run(NOWAIT)
    assert (source.handled, len(log.calls)) == (b"a", 1)
    event.stop()
    reactor.run(NOWAIT)
    assert (source.handled, len(log.calls)) == (b"ab", 1)
    source.event.stop()
    assert reactor.descriptors.entries == {}
