"""Payloads in pieces, and how a connection writes what is much."""

from __future__ import annotations

import socket

import pytest

from flux.constants import FLUX_POLLIN
from flux.message import Message
from flux.reactor import NOWAIT, Reactor
from flux.wire import Framer, encode
from fluxlet.broker.long_response import LongResponse
from fluxlet.broker.writer import Writer


def request() -> Message:
    message = Message.request(b"a.b", b"{}\0", matchtag=7)
    message.routes = (b"router", b"client")
    return message


@pytest.mark.parametrize("size", [255, 256, 70_000, 3 << 20])
def test_it_is_framed_as_any_other_message(size: int) -> None:
    payload = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    cut = size // 3
    long = LongResponse(request(), [payload[:cut], memoryview(payload)[cut : 2 * cut], payload[2 * cut :]])
    plain = request().response(payload)
    assert long.raw == payload
    assert b"".join(long.frame()) == encode(plain) == encode(long)
    for message in (long, plain):
        message.routes = ()  # as the router leaves it
    assert b"".join(long.frame()) == encode(plain)


@pytest.mark.parametrize("sizes", [[1000] * 5000, [3 << 20, 10, 10, 3 << 20], [10, 3 << 20] * 3, [200_000] * 20])
def test_what_is_much_is_written_in_shares_and_in_order(sizes: list[int]) -> None:
    reactor = Reactor()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for sock in (ours, theirs):
            sock.setblocking(False)
        event = reactor.fd(ours.fileno(), FLUX_POLLIN, lambda fd, revents: writer.flush())
        writer = Writer(ours, event)
        event.start()
        frames = [bytes([number % 256]) * size for number, size in enumerate(sizes)]
        writer.out += frames
        writer.out_size = expected = sum(sizes)
        writer.flush()
        assert writer.blocked
        got = bytearray()
        while len(got) < expected:
            assert writer.out_size >= expected - len(got) - (1 << 20)
            reactor.run(NOWAIT)
            try:
                got += theirs.recv(1 << 20)
            except BlockingIOError:
                continue
        assert got == b"".join(frames)
        reactor.run(NOWAIT)
        assert (writer.out, writer.out_size, writer.blocked) == ([], 0, False)
        event.stop()


def test_a_framer_reads_what_comes_in_pieces() -> None:
    framer = Framer()
    long = LongResponse(request(), [b"x" * 100_000, b"y" * 100_000])
    found = None
    for piece in long.frame():
        found = framer.next(bytes(piece))
    assert found is not None
    assert found.raw == long.raw
