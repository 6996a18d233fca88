"""local://: connecting, being refused, trying again, and moving bytes (spec 01, 2.2)."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import flux
from flux.connector.local import LocalConnector
from flux.message import Message
from flux.wire import Framer, encode


class Broker:
    """A socket that answers as many connections as it is told to, each with a greeting."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        self.peers: list[socket.socket] = []

    def listen(self) -> None:
        self.listener.bind(self.path)
        self.listener.listen()

    def accept(self, greeting: bytes) -> None:
        """Takes a connection that has been made or is to come, in a thread."""

        def run() -> None:
            peer, _ = self.listener.accept()
            self.peers.append(peer)
            if greeting:
                peer.send(greeting)
            else:
                peer.close()

        thread = threading.Thread(target=run)
        thread.start()
        self.thread = thread

    def close(self) -> None:
        for peer in self.peers:
            peer.close()
        self.listener.close()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    broker = Broker(os.path.relpath(tmp_path / "s"))
    yield broker
    broker.close()


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the connector sleeps between its attempts; it does not."""
    slept: list[float] = []
    monkeypatch.setattr("flux.connector.local.time.sleep", slept.append)
    return slept


def refusal(path: str) -> tuple[int, str]:
    with pytest.raises(OSError) as info:  # noqa: PT011  # the caller compares it
        flux.Flux(f"local://{path}")
    assert info.value.strerror.startswith("Unable to connect to Flux: ")
    return info.value.errno, info.value.strerror.removeprefix("Unable to connect to Flux: ")


# Connecting.


@pytest.mark.parametrize(
    ("count", "delays"),
    [
        (None, [0.016, 0.032, 0.064, 0.128, 0.256]),
        ("0", []),
        ("", []),
        ("1", [0.016]),
        ("9", [0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.0, 2.0]),
    ],
)
def test_a_missing_socket_is_tried_again(
    sleeps: list[float], monkeypatch: pytest.MonkeyPatch, count: str | None, delays: list[float]
) -> None:
    monkeypatch.delenv("FLUX_LOCAL_CONNECTOR_RETRY_COUNT", raising=False)
    if count is not None:
        monkeypatch.setenv("FLUX_LOCAL_CONNECTOR_RETRY_COUNT", count)
    assert refusal("/no/such") == (errno.ENOENT, "broker socket /no/such was not found")
    assert sleeps == delays


@pytest.mark.parametrize("count", ["x", "-1", "1.5", " 1", "0x2"])
def test_a_bad_count_is_refused(sleeps: list[float], monkeypatch: pytest.MonkeyPatch, count: str) -> None:
    monkeypatch.setenv("FLUX_LOCAL_CONNECTOR_RETRY_COUNT", count)
    assert refusal("/no/such") == (errno.EINVAL, "Invalid argument")
    assert sleeps == []


@pytest.mark.parametrize("path", ["", "/" + 107 * "x"])
def test_a_path_that_is_no_address_is_refused_at_once(sleeps: list[float], path: str) -> None:
    assert refusal(path) == (errno.EINVAL, "Invalid argument")
    assert sleeps == []


def test_a_broker_that_comes_late_is_found(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    attempts: list[float] = []

    def sleep(delay: float) -> None:
        attempts.append(delay)
        if len(attempts) == 3:
            broker.listen()
            broker.accept(b"\0")

    monkeypatch.setattr("flux.connector.local.time.sleep", sleep)
    flux.Flux(f"local://{broker.path}")
    broker.thread.join()
    assert len(attempts) == 3


def test_a_socket_that_nobody_listens_on(broker: Broker, sleeps: list[float]) -> None:
    broker.listener.bind(broker.path)
    assert refusal(broker.path) == (errno.ECONNREFUSED, "Connection refused")
    assert len(sleeps) == 5


@pytest.mark.parametrize(
    ("greeting", "error"),
    [(b"\1", (errno.EPERM, "Operation not permitted")), (b"", (errno.ECONNRESET, "Connection reset by peer"))],
)
def test_a_broker_that_refuses_is_not_asked_again(
    broker: Broker, sleeps: list[float], greeting: bytes, error: tuple[int, str]
) -> None:
    broker.listen()
    broker.accept(greeting)
    assert refusal(broker.path) == error
    broker.thread.join()
    assert sleeps == []


def test_blanks_behind_the_path_are_cut(broker: Broker) -> None:
    broker.listen()
    broker.accept(b"\0")
    with flux.Flux(f"local://{broker.path} \t"):
        broker.thread.join()


# Moving messages.


@pytest.fixture
def connected(broker: Broker) -> Iterator[tuple[LocalConnector, socket.socket]]:
    broker.listen()
    broker.accept(b"\0")
    connector = LocalConnector(broker.path)
    broker.thread.join()
    yield connector, broker.peers[0]
    connector.close()


def message(topic: str, size: int = 0) -> Message:
    event = Message.event(topic.encode(), size * b"x" + b"\0")
    event.rolemask = 1
    return event


def test_frames_are_put_together_from_whatever_pieces_arrive(connected: tuple[LocalConnector, socket.socket]) -> None:
    connector, peer = connected
    stream = b"".join(encode(message(f"t{number}", number)) for number in range(20))
    received = []
    for byte in range(0, len(stream), 7):
        peer.sendall(stream[byte : byte + 7])
        while (got := connector.recv(0)) is not None:
            received.append(got.topic)
    assert received == [f"t{number}" for number in range(20)]
    assert not connector.partial()
    peer.sendall(stream[:5])
    assert connector.recv(0) is None
    assert connector.partial()


def test_what_was_received_before_the_end_is_delivered(connected: tuple[LocalConnector, socket.socket]) -> None:
    connector, peer = connected
    peer.sendall(encode(message("a")) + encode(message("b")) + encode(message("c"))[:9])
    peer.close()
    assert [connector.recv(None).topic for _ in range(2)] == ["a", "b"]  # type: ignore[union-attr]
    for _ in range(2):
        with pytest.raises(ConnectionResetError):
            connector.recv(None)
        with pytest.raises(ConnectionResetError):
            connector.recv(0.0)
    with pytest.raises(BrokenPipeError):
        connector.send(message("d"), False)


def test_a_sender_that_waits_for_room_reads_meanwhile(connected: tuple[LocalConnector, socket.socket]) -> None:
    """Both ends send more than the socket holds, before either asks for input."""
    connector, peer = connected
    count, size = 40, 100_000
    ours = [message(f"o{number}", size) for number in range(count)]
    theirs = b"".join(encode(message(f"t{number}", size)) for number in range(count))
    framer, received = Framer(), []

    def other_end() -> None:
        peer.sendall(theirs)
        while len(received) < count:
            framer.feed(peer.recv(1 << 20))
            while (got := framer.next()) is not None:
                received.append(got.topic)

    thread = threading.Thread(target=other_end)
    thread.start()
    for sent in ours:
        connector.send(sent, False)
    thread.join(60.0)
    assert received == [f"o{number}" for number in range(count)]
    assert [connector.recv(10.0).topic for _ in range(count)] == [f"t{number}" for number in range(count)]  # type: ignore[union-attr]


def test_a_frame_that_was_begun_is_finished_even_by_who_may_not_block(
    connected: tuple[LocalConnector, socket.socket],
) -> None:
    connector, peer = connected
    framer, received, done = Framer(), [], threading.Event()
    count = 0

    def drain() -> None:
        while not done.is_set() or len(received) < count:
            framer.feed(peer.recv(1 << 20))
            while (got := framer.next()) is not None:
                received.append(got.topic)
                time.sleep(0)

    with pytest.raises(BlockingIOError):  # noqa: PT012  # what raises is the loop
        while True:
            connector.send(message(f"m{count}", 1000), True)
            count += 1
    assert connector.writable() == 0
    thread = threading.Thread(target=drain)
    thread.start()
    connector.send(message(f"m{count}", 5_000_000), False)
    count += 1
    done.set()
    thread.join(60.0)
    assert received == [f"m{number}" for number in range(count)]


@pytest.mark.parametrize("frame", [b"\xff\xee\x00\x13" + bytes(8), b"\x12\x00\xee\xff" + bytes(8), 12 * b"\0"])
def test_a_bad_frame_ends_the_connection(broker: Broker, frame: bytes) -> None:
    broker.listen()
    broker.accept(b"\0")
    with flux.Flux(f"local://{broker.path}") as h:
        broker.thread.join()
        h.msg_watcher_create(lambda *args: None).start()
        broker.peers[0].sendall(frame)
        assert h.reactor_run() == -1
        broker.peers[0].settimeout(60.0)
        assert broker.peers[0].recv(1) == b""


def test_a_read_that_is_to_block_does_so_on_a_socket_that_others_made_non_blocking(
    connected: tuple[LocalConnector, socket.socket],
) -> None:
    connector, peer = connected
    os.set_blocking(connector.fileno(), False)
    thread = threading.Timer(0.02, lambda: peer.sendall(encode(message("late"))))
    thread.start()
    got = connector.recv(None)
    thread.join()
    assert got is not None
    assert got.topic == "late"
