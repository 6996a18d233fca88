"""RPCs: matchtags, cancelling, what comes late, and responses of every kind (spec 01, 3.5 and 3.8; spec 02, 8)."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from service_thread import serving

import flux
from flux.constants import (
    FLUX_MSGFLAG_STREAMING,
    FLUX_NODEID_UPSTREAM,
    FLUX_RPC_NORESPONSE,
    FLUX_RPC_STREAMING,
)
from flux.message import Message
from flux.rpc import RPC
from flux.wire import Framer, encode

BOTH = FLUX_RPC_NORESPONSE | FLUX_RPC_STREAMING


class Peer:
    """The broker's end of a connection: gets requests, and answers them by hand."""

    def __init__(self) -> None:
        self.socket, other = socket.socketpair()
        self.socket.settimeout(60.0)
        self.socket.send(b"\0")
        self.handle = flux.Flux(f"fd://{other.detach()}")
        self._framer = Framer()

    def request(self) -> Message:
        """The next message of the client."""
        while (message := self._framer.next()) is None:
            data = self.socket.recv(65536)
            assert data, "the client has gone"
            self._framer.feed(data)
        return message

    def respond(self, request: Message, payload: Any = None, errnum: int = 0, raw: bytes | None = None) -> None:
        """A response as a broker sends it on."""
        if raw is None and payload is not None:
            raw = json.dumps(payload).encode() + b"\0"
        self.send(request.response(raw, errnum))

    def send(self, message: Message) -> None:
        message.userid, message.rolemask = 0, 1
        self.socket.sendall(encode(message))

    def settle(self) -> None:
        """Has the client read all that was sent to it."""
        rpc = self.handle.rpc("settle")
        while (request := self.request()).topic != "settle":
            pass
        self.respond(request)
        rpc.get()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    yield peer
    peer.handle.__exit__(None, None, None)
    peer.socket.close()


def tags(*rpcs: RPC) -> list[int]:
    return [rpc.pimpl.get_matchtag() for rpc in rpcs]


def error_of(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(OSError) as info:  # noqa: PT011  # the caller compares it
        call()
    return info.value.errno, info.value.strerror


# Matchtags.


def test_matchtags_are_the_lowest_that_are_free(peer: Peer) -> None:
    h = peer.handle
    calls = [h.rpc("a.b") for _ in range(5)]
    assert tags(*calls) == [1, 2, 3, 4, 5]
    requests = [peer.request() for _ in calls]
    assert [request.aux2 for request in requests] == [1, 2, 3, 4, 5]
    for number in (1, 3):
        peer.respond(requests[number])
        calls[number].get()
    # Answered, and still there.
    assert tags(h.rpc("a.b")) == [6]
    del calls[3], calls[1]
    again = [h.rpc("a.b") for _ in range(3)]
    assert tags(*again) == [2, 4, 7]


def test_the_tag_of_a_dropped_rpc_is_reserved_until_its_answer_comes(peer: Peer) -> None:
    h = peer.handle
    h.rpc("a.b")
    request = peer.request()
    assert tags(h.rpc("a.c")) == [2]
    peer.respond(request, {"late": True})
    peer.settle()
    assert tags(h.rpc("a.d")) == [1]


def test_the_tag_of_a_dropped_stream_is_reserved_until_its_end_comes(peer: Peer) -> None:
    h = peer.handle
    h.rpc("a.b", flags=FLUX_RPC_STREAMING)
    request = peer.request()
    assert request.flags & FLUX_MSGFLAG_STREAMING
    peer.respond(request, {})
    peer.settle()
    assert tags(h.rpc("a.c")) == [2]
    peer.request()
    peer.respond(request, None, errno.ENODATA)
    peer.settle()
    assert tags(h.rpc("a.d")) == [1]


def test_a_thousand_tags_and_more_can_be_had_and_come_back(peer: Peer) -> None:
    h = peer.handle
    available = h.core.link.tags_available
    calls, requests = [], []
    for _ in range(3000):
        calls.append(h.rpc("a.b"))
        requests.append(peer.request())
    assert tags(*calls) == list(range(1, 3001))
    for call, request in zip(calls, requests, strict=True):
        peer.respond(request)
        call.get()
    del calls, call
    link = h.core.link
    assert link.tags_available == link.tags_size >= 3000 > available
    assert tags(h.rpc("a.b")) == [1]


def test_a_request_that_cannot_be_sent_takes_no_tag(peer: Peer) -> None:
    with pytest.raises(TypeError):
        peer.handle.rpc("a.b", object())
    with pytest.raises(OverflowError):
        peer.handle.rpc("a.b", nodeid=1 << 32)
    assert peer.handle.core.link.pending == {}
    assert tags(peer.handle.rpc("a.b")) == [1]


# Responses.


def test_responses_in_any_order_find_their_requests(peer: Peer) -> None:
    calls = [peer.handle.rpc("a.b", {"n": n}) for n in range(10)]
    requests = [peer.request() for _ in calls]
    for request in reversed(requests):
        peer.respond(request, {"n": request.payload["n"]})
    assert [call.get()["n"] for call in calls] == list(range(10))


def test_what_nobody_waits_for_is_ignored(peer: Peer) -> None:
    rpc = peer.handle.rpc("a.b")
    request = peer.request()
    unknown = Message.request(b"a.b", None, matchtag=77)
    untagged = Message.request(b"a.b", None, matchtag=0)
    for stray in (unknown, untagged):
        peer.respond(stray, {"stray": True})
    peer.respond(request, {"first": True})
    peer.respond(request, {"second": True})
    assert rpc.get() == {"first": True}
    peer.settle()
    assert rpc.get() == {"first": True}


@pytest.mark.parametrize(
    ("raw", "errnum", "text", "value"),
    [
        (None, 0, None, None),
        (b'{"a":1}\0', 0, '{"a":1}', {"a": 1}),
        (b"null\0", 0, "null", None),
        (b"no json\0", 0, "no json", ValueError),
        (b'{"a":1}', 0, (errno.EPROTO, "EPROTO: Protocol error"), (errno.EPROTO, "EPROTO: Protocol error")),
        (b'"\xed\xb2\x80 \xff"\0', 0, '"\udced\udcb2\udc80 \udcff"', "\udced\udcb2\udc80 \udcff"),
        (b"why\0", errno.EXDEV, (errno.EXDEV, "why"), (errno.EXDEV, "why")),
        (b"\0", errno.EXDEV, (errno.EXDEV, "Invalid cross-device link"), (errno.EXDEV, "Invalid cross-device link")),
        (None, errno.ENOENT, (errno.ENOENT, "No such file or directory"), (errno.ENOENT, "No such file or directory")),
        (b"untermin", errno.EPERM, (errno.EPERM, "Operation not permitted"), (errno.EPERM, "Operation not permitted")),
        (None, 12345, (12345, "Unknown error 12345"), (12345, "Unknown error 12345")),
    ],
)
def test_a_response_is_read_as_text_or_as_json(
    peer: Peer, raw: bytes | None, errnum: int, text: Any, value: Any
) -> None:
    rpc = peer.handle.rpc("a.b")
    peer.respond(peer.request(), None, errnum, raw)
    rpc.wait_for(60.0)
    for call, wanted in ((rpc.get_str, text), (rpc.get, value), (rpc.get, value)):
        if isinstance(wanted, tuple):
            assert error_of(call) == wanted
        elif wanted is ValueError:
            with pytest.raises(ValueError, match="Expecting value"):
                call()
        else:
            assert call() == wanted
    assert rpc.error_string() == (value[1] if errnum else None)


# Flags and addresses.


@pytest.mark.parametrize("flags", [FLUX_RPC_NORESPONSE, BOTH])
def test_a_request_without_response_has_no_tag_and_is_ready_at_once(peer: Peer, flags: int) -> None:
    rpc = peer.handle.rpc("a.b", {"x": 1}, flags=flags)
    assert rpc.is_ready()
    assert error_of(rpc.get) == (errno.EINVAL, "EINVAL: Invalid argument")
    request = peer.request()
    assert (request.aux2, request.payload) == (0, {"x": 1})
    assert peer.handle.core.link.pending == {}


def test_other_flags_and_no_handle_are_refused(peer: Peer) -> None:
    for call in (lambda: peer.handle.rpc("a.b", flags=8), lambda: RPC(None, "a.b")):  # type: ignore[arg-type]
        assert error_of(call) == (errno.EINVAL, "EINVAL: Invalid argument")
    with pytest.raises(OverflowError):
        peer.handle.rpc("a.b", nodeid=-1)


def test_upstream_is_unreachable_on_rank_0(instance_handle: flux.Flux) -> None:
    rpc = instance_handle.rpc("broker.ping", {}, nodeid=FLUX_NODEID_UPSTREAM)
    assert error_of(rpc.get) == (errno.EHOSTUNREACH, "No route to host")
    assert rpc.pimpl.get_nodeid() == FLUX_NODEID_UPSTREAM


# Cancel.


@pytest.mark.parametrize(
    ("topic", "argument", "cancel"),
    [
        ("a.watch", None, "a.watch-cancel"),
        ("kvs-watch.lookup", None, "kvs-watch.cancel"),
        ("log.dmesg", None, "log.cancel"),
        ("a.watch", "a.stop", "a.stop"),
    ],
)
def test_cancel_tells_the_service_and_the_stream_ends_when_it_says_so(
    peer: Peer, topic: str, argument: str | None, cancel: str
) -> None:
    rpc = peer.handle.rpc(topic, flags=FLUX_RPC_STREAMING, nodeid=3)
    request = peer.request()
    rpc.cancel(argument)
    notice = peer.request()
    assert (notice.topic, notice.payload, notice.aux1, notice.aux2) == (cancel, {"matchtag": 1}, 3, 0)
    peer.respond(request, {"on": "its way"})
    peer.respond(request, None, errno.ENODATA)
    assert rpc.get() == {"on": "its way"}
    rpc.reset()
    assert error_of(rpc.get)[0] == errno.ENODATA
    rpc.cancel()
    peer.handle.rpc("a.next")
    assert peer.request().topic == "a.next"


def test_there_is_nothing_to_cancel_about_a_plain_rpc(peer: Peer) -> None:
    peer.handle.rpc("a.b").cancel()
    peer.handle.rpc("a.c")
    assert [peer.request().topic for _ in range(2)] == ["a.b", "a.c"]


def test_a_real_stream_is_cancelled(instance_handle: flux.Flux) -> None:
    rpc = instance_handle.rpc("log.dmesg", {"follow": True, "nobacklog": True}, flags=FLUX_RPC_STREAMING)
    rpc.cancel()
    assert error_of(rpc.get) == (errno.ENODATA, "No data available")


def test_a_synchronous_rpc_to_oneself_in_another_thread_and_nested_calls(instance_uri: str) -> None:
    """A handler that waits for other RPCs of its own handle meanwhile."""

    def handler(handle: flux.Flux, message: Message) -> None:
        answers = [handle.rpc("broker.ping", {"seq": n}).get()["seq"] for n in range(3)]
        handle.respond(message, answers)

    with serving(instance_uri, "rpcnested", handler), flux.Flux(instance_uri) as h:
        calls = [h.rpc("rpcnested.go") for _ in range(10)]
        assert [call.get() for call in calls] == 10 * [[0, 1, 2]]
