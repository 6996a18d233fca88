"""Peers that do what they must not, each kind by itself, against a running instance (spec 01, 1.5, 1.6, 2.1, 7.3).

Rule: a client that does everything right is connected all the time, and its requests are answered at every stage of
every test, as are those of another one in a process of its own: `others`.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from in_process import error_of, until
from peers import Bystander, RawPeer, connect, connect_as, frame, log_lines
from started import StartedInstance

import flux
from flux.constants import FLUX_MSGFLAG_NORESPONSE, FLUX_MSGFLAG_ROUTE, FLUX_MSGTYPE_EVENT, FLUX_MSGTYPE_RESPONSE
from flux.message import Message
from flux.wire import DEFAULT_LIMIT, MAGIC, encode

NOBODY = 65534
#: Of a connection without ROLE_OWNER: USER and LOCAL.
GUEST_ROLES = 6
PING = Message.request(b"broker.ping", b'{"seq":1}\0', matchtag=7)
BAD = b"not a frame at all"

#: Methods and a payload that each takes, of all kinds: plain, async, streaming; by name in three modules.
METHODS = {
    "attr.get": b'{"name":"rank"}',
    "attr.set": b'{"name":"test.a","value":"1"}',
    "attr.rm": b'{"name":"test.a"}',
    "barrier.enter": b'{"name":"b","nprocs":1}',
    "barrier.update": b'{"name":"b","count":1,"nprocs":3,"owner":0}',
    "broker.conf-builtin": b'{"keys":["rc1_path"]}',
    "broker.debug": b'{"op":"setbit","flags":0}',
    "broker.getenv": b'{"names":["HOME"]}',
    "broker.ping": b"{}",
    "broker.rusage": b'{"who":"self"}',
    "broker.setenv": b'{"env":{"HOSTILE":"1"}}',
    "broker.stats-get": b"{}",
    "config.get": b"{}",
    "config.load": b"{}",
    "connector-local.stats-get": b"{}",
    "event.publish": b'{"topic":"hostile.a","flags":0}',
    "event.subscribe": b'{"topic":"hostile"}',
    "groups.get": b'{"name":"broker.online"}',
    "groups.join": b'{"name":"hostile"}',
    "groups.leave": b'{"name":"hostile"}',
    "groups.update": b'{"update":{"hostile":[{"ranks":"0-3","set":true}]}}',
    "heartbeat.stats-get": b"{}",
    "log.cancel": b'{"matchtag":1}',
    "log.dmesg": b'{"follow":false}',
    "log.setattr": b'{"name":"log-stderr-level","value":"2"}',
    "module.list": b"{}",
    "runat.push": b'{"name":"hostile","commands":["true"]}',
    "service.add": b'{"service":"hostile"}',
    "service.remove": b'{"service":"hostile"}',
    "state-machine.get": b"{}",
    "state-machine.monitor": b'{"final":5}',
    "state-machine.post": b'{"event":"hostile"}',
    "hostile.unknown": b"{}",
}


@pytest.fixture(scope="module")
def instance() -> Iterator[StartedInstance]:
    """The instance that all tests of this file attack."""
    started = StartedInstance()
    with flux.Flux(started.uri) as handle:
        # Mistakes of clients are logged as errors: we make very many.
        handle.attr_set("log-stderr-level", "2")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def bystander(instance: StartedInstance) -> Iterator[Bystander]:
    """A client in another process, which pings without end from the first test to the last."""
    with Bystander(instance.uri) as started:
        yield started


class Others:
    """Everybody else: what they can tell of the instance.

    Args:
        handle: a client that does everything right.
        bystander: another.
    """

    def __init__(self, handle: flux.Flux, bystander: Bystander) -> None:
        self.handle = handle
        self._bystander = bystander
        self._count = 0

    def are_served(self) -> None:
        """Asserts that an answer comes, that it is the right one, and that nobody else misses theirs."""
        self._count += 1
        assert self.handle.rpc("broker.ping", {"seq": self._count}).wait_for(60).get()["seq"] == self._count
        assert self._bystander.alive()

    def clients(self) -> int:
        """How many there are besides the two who are always there."""
        return len(self.handle.rpc("connector-local.stats-get").get()["server"]["clients"]) - 2

    def memory(self) -> int:
        """Bytes of memory that the broker has."""
        status = Path(f"/proc/{self.handle.attr_get('broker.pid')}/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) << 10


@pytest.fixture(scope="module")
def _others(instance: StartedInstance, bystander: Bystander) -> Iterator[Others]:
    with flux.Flux(instance.uri) as handle:
        yield Others(handle, bystander)


@pytest.fixture
def others(_others: Others) -> Iterator[Others]:
    """Everybody else; afterwards they are served still, and nothing is left of whoever was not one of them."""
    yield _others
    _others.are_served()
    until(lambda: _others.clients() == 0)
    assert not [line for line in log_lines(_others.handle) if "module runtime failure" in line]


def ping(peer: RawPeer) -> None:
    """Asserts that a raw peer is served."""
    peer.send(PING)
    answer = peer.next()
    while answer.aux2 != PING.aux2:
        answer = peer.next()
    assert (answer.aux1, answer.topic) == (0, "broker.ping")


# Bad frames.


def test_a_frame_cut_off_anywhere_by_a_peer_that_goes(instance: StartedInstance, others: Others) -> None:
    whole = encode(PING)
    for size in range(len(whole)):
        with connect(instance.uri) as peer:
            peer.send(whole[:size])
        others.are_served()


def test_peers_that_begin_a_frame_and_wait(instance: StartedInstance, others: Others) -> None:
    whole = encode(PING)
    peers = [connect(instance.uri) for _ in range(len(whole))]
    for size, peer in enumerate(peers):
        peer.send(whole[:size])
    others.are_served()
    assert others.clients() == len(peers)
    for size, peer in enumerate(peers):
        peer.send(whole[size:])
        assert peer.next().aux2 == PING.aux2
        peer.sock.close()


def test_a_peer_that_sends_one_byte_at_a_time(instance: StartedInstance, others: Others) -> None:
    # Slow is when others have been served in between; how many seconds that takes is all the same.
    with connect(instance.uri) as peer:
        for byte in encode(PING):
            peer.send(bytes([byte]))
            others.are_served()
        assert peer.next().aux2 == PING.aux2


@pytest.mark.parametrize(
    "size", [DEFAULT_LIMIT + 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFF7, 0xFFFFFFF8, 0xFFFFFFFF, 0, 1, 20]
)
def test_a_length_that_no_frame_has_ends_the_connection(instance: StartedInstance, others: Others, size: int) -> None:
    with connect(instance.uri) as peer:
        peer.send(MAGIC + struct.pack("!I", size) + bytes(64))
        assert peer.closed()


def test_a_length_that_is_announced_takes_no_memory(instance: StartedInstance, others: Others) -> None:
    before = others.memory()
    peers = [connect(instance.uri) for _ in range(20)]
    for peer in peers:
        peer.send(MAGIC + struct.pack("!I", DEFAULT_LIMIT) + bytes(100_000))
    others.are_served()
    assert others.memory() - before < 32 << 20
    for peer in peers:
        peer.sock.close()


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"SSH-2.0-OpenSSH_9.6\r\n",
        bytes(1000),
        b"\xff" * 1000,
        random.Random(1).randbytes(1 << 20),
        frame(encode(PING)[8:], magic=MAGIC[::-1]),
        frame(b"\xff"),
        frame(bytes(20)),
        frame(b"\x14" + bytes(20)),
        frame(b"\x14\x8e\x02\x01" + bytes(17)),
        frame(b"\xff\xff\xff\xff\xff" + bytes(30)),
        frame(encode(PING)[8:-1]),
        frame(encode(PING)[8:] + b"\0"),
    ],
    ids=lambda data: repr(data[:12]),
)
def test_garbage_ends_the_connection(instance: StartedInstance, others: Others, data: bytes) -> None:
    with connect(instance.uri) as peer:
        with suppress(BrokenPipeError, ConnectionResetError):  # before all of it was sent
            peer.send(data)
        assert peer.closed()


def test_what_came_before_the_garbage_is_obeyed(instance: StartedInstance, others: Others) -> None:
    name = "test.before-the-garbage"
    with connect(instance.uri) as peer:
        request = Message.request(b"attr.set", b'{"name":"%s","value":"1"}\0' % name.encode(), matchtag=1)
        peer.send(encode(request) + BAD)
        assert peer.closed()
    assert others.handle.attr_get(name) == "1"
    others.handle.attr_remove(name)


# Peers that come and go, or do nothing.


def test_peers_that_say_nothing_and_read_nothing(instance: StartedInstance, others: Others) -> None:
    peers = [RawPeer(instance.uri) for _ in range(200)]
    others.are_served()
    until(lambda: others.clients() == len(peers))
    for peer in peers:
        peer.sock.close()


def test_peers_that_go_at_once(instance: StartedInstance, others: Others) -> None:
    for number in range(500):
        RawPeer(instance.uri).sock.close()
        if number % 50 == 0:
            others.are_served()


def test_a_peer_that_asks_and_goes_before_the_answer(instance: StartedInstance, others: Others) -> None:
    for _ in range(100):
        with RawPeer(instance.uri) as peer:
            peer.send(encode(PING) * 20)


def test_a_peer_that_ends_its_own_half_is_gone(instance: StartedInstance, others: Others) -> None:
    with connect(instance.uri) as peer:
        ping(peer)
        peer.sock.shutdown(socket.SHUT_WR)
        assert peer.closed()


# Good frames, too many of them or of no use.


def test_a_flood_of_requests_does_not_keep_others_waiting(instance: StartedInstance, others: Others) -> None:
    number = 20_000
    with connect(instance.uri) as peer:
        flood = memoryview(encode(PING) * number)
        peer.sock.setblocking(False)
        answers = 0
        while answers < number:
            with suppress(BlockingIOError):
                flood = flood[peer.sock.send(flood) :] if flood else flood
            others.are_served()
            try:
                message = peer.framer.next(peer.sock.recv(1 << 20))
            except BlockingIOError:
                continue
            while message is not None:
                answers += 1
                message = peer.framer.next()


def test_messages_that_lead_nowhere(instance: StartedInstance, others: Others) -> None:
    with connect(instance.uri) as peer:
        for message in [
            Message(FLUX_MSGTYPE_RESPONSE),
            Message(8),
            Message(FLUX_MSGTYPE_EVENT),
            Message(),
            Message.request(b"a.b").response(),
            Message._make(2, 9, 0, 0, 0, 1, (b"nobody",), b"a.b", None),
            Message._make(2, 9, 0, 0, 0, 1, (b"x" * 36, b"y" * 36, b"z"), b"a.b", None),
            Message.event(b"", None),
            Message.event(b"\xff" * 300, b"\0" * 300),
            Message.request(b"x" * 5000, None, flags=FLUX_MSGFLAG_NORESPONSE),
            Message._make(1, 9, 0, 5, 0, 0, (b"r" * 254,) * 1000, b"broker.ping", None),
        ]:
            peer.send(message)
            ping(peer)


def test_subscriptions_and_services_without_number_end_with_their_client(
    instance: StartedInstance, others: Others
) -> None:
    number = 5000
    with connect(instance.uri) as peer:
        for kind, key in (("event.subscribe", "topic"), ("service.add", "service")):
            for index in range(number):
                peer.request(kind, b'{"%s":"hostile%d"}\0' % (key.encode(), index))
            assert [peer.next().aux1 for _ in range(number)] == [0] * number
        others.are_served()
    until(lambda: others.clients() == 0)
    services = [name for module in others.handle.rpc("module.list").get()["mods"] for name in module["services"]]
    assert not [name for name in services if name.startswith("hostile")]


def test_a_service_that_never_answers_keeps_only_those_waiting_who_ask_it(
    instance: StartedInstance, others: Others
) -> None:
    with connect(instance.uri) as peer:
        peer.request("service.add", b'{"service":"silent"}\0')
        assert peer.next().aux1 == 0
        futures = [others.handle.rpc("silent.method", {"number": number}) for number in range(100)]
        others.are_served()
        assert not any(future.is_ready() for future in futures)
        assert peer.next().topic == "silent.method"
    for future in futures:
        assert error_of(future.wait_for(60).get)[0] == errno.EHOSTUNREACH


def _nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * depth + b'"\\u0000"' + b"]" * depth + b"}\0"


@pytest.mark.parametrize(
    "payload",
    [
        b"\0",
        b"{}",
        b"[]\0",
        b"null\0",
        b"{}\0{}\0",
        b"\xff\xfe\0",
        b'{"name":null,"value":1,"topic":[],"keys":{},"env":7,"names":"x","update":[],"event":0,"service":{}}\0',
        b'{"name":"\\ud800","value":"\\ud800","topic":"\\udfff","event":"\\ud800","service":"\\ud800"}\0',
        b'{"name":"\\u0000","topic":"\\u0000","env":{"A=":"1"},"keys":["\\u0000"],"names":["\\u0000"]}\0',
        b'{"name":"' + b"x" * 300_000 + b'","topic":"' + b"." * 300_000 + b'"}\0',
        b'{"seq":' + b"9" * 5000 + b"}\0",
        b'{"final":1e999,"flags":-1,"nprocs":9223372036854775807,"matchtag":-1,"count":-1,"owner":-1}\0',
        b'{"update":{"g":[{"ranks":"0-4294967295","set":true},{"ranks":"1-0","set":true}]}}\0',
        b'{"name":"b","nprocs":9223372036854775808}\0',
        *[_nested(depth) for depth in (100, 254, 255, 256, 300, 480, 900, 960, 980, 1000, 5000, 100_000)],
    ],
    ids=lambda payload: f"{payload[:16]!r}-{len(payload)}",
)
def test_payloads_that_no_method_expects(instance: StartedInstance, others: Others, payload: bytes) -> None:
    with connect(instance.uri) as peer:
        for method in METHODS:
            for flags in (0, FLUX_MSGFLAG_NORESPONSE, 64):
                peer.request(method, payload, matchtag=1, flags=flags)
        ping(peer)


def test_methods_whose_sender_wants_no_answer_and_cannot_be_obeyed(instance: StartedInstance, others: Others) -> None:
    with connect(instance.uri) as peer:
        for method, payload in METHODS.items():
            for raw in (payload[:-1] + b"\0", payload, None, payload.replace(b'"', b"") + b"\0"):
                peer.request(method, raw, matchtag=0, flags=FLUX_MSGFLAG_NORESPONSE)
        ping(peer)


# Who somebody is.


@pytest.fixture
def guest(instance: StartedInstance) -> Callable[[], RawPeer]:
    """A function that connects as somebody who is not the owner."""
    if os.getuid() != 0:
        pytest.skip("only root can be somebody else")
    # The directory is the owner's alone by default, so that a guest would not get as far as the socket.
    Path(instance.uri.removeprefix("local://")).parent.chmod(0o711)
    return lambda: connect_as(instance.uri, NOBODY)


@pytest.fixture
def let_in(others: Others, guest: Callable[[], RawPeer]) -> Iterator[Callable[[], RawPeer]]:
    """As `guest`, where guests may be: the peer that it returns has been let in."""
    others.handle.rpc("config.load", {"access": {"allow-guest-user": True}}).get()

    def enter() -> RawPeer:
        peer = guest()
        assert peer.greeted() == 0
        return peer

    yield enter
    others.handle.rpc("config.load", {}).get()


def test_a_stranger_is_turned_away_by_the_kernels_word(others: Others, guest: Callable[[], RawPeer]) -> None:
    with guest() as peer:
        assert peer.greeted() == errno.EPERM
        assert peer.closed()
    assert [line for line in log_lines(others.handle) if f"client_authenticate: uid={NOBODY} no assigned roles" in line]


@pytest.mark.parametrize(("userid", "rolemask"), [(0, 1), (0, 0xFFFFFFFF), (0xFFFFFFFF, 0), (1234, 5), (NOBODY, 15)])
def test_what_a_guest_says_of_itself_is_overruled(
    others: Others, let_in: Callable[[], RawPeer], userid: int, rolemask: int
) -> None:
    with let_in() as peer:
        request = Message.request(b"broker.ping", b"{}\0", matchtag=1)
        request.userid, request.rolemask = userid, rolemask
        peer.send(request)
        answer = peer.next().payload
        assert (answer["userid"], answer["rolemask"]) == (NOBODY, GUEST_ROLES)


def test_a_guests_forged_event_says_who_has_sent_it(others: Others, let_in: Callable[[], RawPeer]) -> None:
    handle = others.handle
    handle.event_subscribe("hostile.")
    with let_in() as peer:
        event = Message.event(b"hostile.event", b"{}\0")
        event.userid, event.rolemask = 0, 1
        peer.send(event)
        seen = handle.event_recv("hostile.event")
    handle.event_unsubscribe("hostile.")
    assert (seen.userid, seen.rolemask) == (NOBODY, GUEST_ROLES)


@pytest.mark.parametrize(
    "method",
    [
        "attr.set",
        "attr.rm",
        "barrier.update",
        "broker.debug",
        "broker.getenv",
        "broker.setenv",
        "config.load",
        "connector-local.stats-get",
        "groups.join",
        "groups.update",
        "log.append",
        "log.dmesg",
        "runat.push",
        "service.add",
        "shutdown.start",
        "state-machine.monitor",
        "state-machine.post",
    ],
)
def test_a_guest_may_not_do_what_is_the_owners_however_it_signs(
    others: Others, let_in: Callable[[], RawPeer], method: str
) -> None:
    with let_in() as peer:
        request = Message.request(method.encode(), METHODS.get(method, b"{}") + b"\0", matchtag=1)
        request.userid, request.rolemask = 0, 1
        peer.send(request)
        assert peer.next().aux1 == errno.EPERM


def test_a_guest_cannot_end_what_another_has_asked_for(
    instance: StartedInstance, others: Others, let_in: Callable[[], RawPeer]
) -> None:
    with connect(instance.uri) as owner, let_in() as peer:
        owner.request("groups.get", b'{"name":"hostile"}\0', matchtag=5, flags=64)
        assert owner.next().aux2 == 5
        clients = others.handle.rpc("connector-local.stats-get").get()["server"]["clients"]
        owner_routes = tuple(client["uuid"].encode() for client in clients if client["pid"] == os.getpid())
        for route in owner_routes:
            # As if it had come from there: the last route says who has asked.
            notice = Message.request(b"groups.disconnect", None, flags=FLUX_MSGFLAG_NORESPONSE | FLUX_MSGFLAG_ROUTE)
            notice.routes = (route,)
            notice.userid, notice.rolemask = 0, 1
            peer.send(notice)
        ping(peer)
        others.handle.rpc("groups.join", {"name": "hostile"}).get()
        assert owner.next().payload == {"members": "0"}
        others.handle.rpc("groups.leave", {"name": "hostile"}).get()


def test_a_guests_garbage_is_the_guests_alone(others: Others, let_in: Callable[[], RawPeer]) -> None:
    with let_in() as bad, let_in() as good:
        bad.send(BAD)
        assert bad.closed()
        ping(good)


def test_the_owner_may_speak_for_others_and_for_itself(instance: StartedInstance, others: Others) -> None:
    for userid, rolemask, seen in ((0xFFFFFFFF, 0, (os.getuid(), 5)), (1234, 2, (1234, 2))):
        with connect(instance.uri) as peer:
            request = Message.request(b"broker.ping", b"{}\0", matchtag=1)
            request.userid, request.rolemask = userid, rolemask
            peer.send(request)
            answer: Any = peer.next().payload
            assert (answer["userid"], answer["rolemask"]) == seen


def test_a_peer_that_sends_a_byte_now_and_then_is_waited_for(instance: StartedInstance, others: Others) -> None:
    with connect(instance.uri) as peer:
        whole = encode(PING)
        for byte in whole[:3]:
            peer.send(bytes([byte]))
            until_then = time.monotonic() + 0.3
            while time.monotonic() < until_then:
                others.are_served()
        peer.send(whole[3:])
        assert peer.next().aux2 == PING.aux2


def test_a_client_that_is_in_a_barrier_and_plays_a_broker_with_entrants(
    instance: StartedInstance, others: Others
) -> None:
    with connect(instance.uri) as peer:
        peer.request("barrier.update", b'{"name":"b","count":1,"nprocs":2,"owner":%d}\0' % os.getuid())
        peer.request("barrier.enter", b'{"name":"b","nprocs":2}\0', matchtag=2)
        assert sorted((peer.next().aux2, peer.next().aux2)) == [1, 2]
        ping(peer)


@pytest.mark.parametrize(("word", "errnum"), [(0xFFFFFFFF, -1), (0x80000000, -(1 << 31)), (0x7FFFFFFF, 0x7FFFFFFF)])
def test_a_service_that_answers_with_an_errno_that_is_none(
    instance: StartedInstance, others: Others, word: int, errnum: int
) -> None:
    with connect(instance.uri) as peer:
        peer.request("service.add", b'{"service":"liar"}\0')
        assert peer.next().aux1 == 0
        future = others.handle.rpc("liar.method")
        peer.send(peer.next().response(None, word))
        assert error_of(future.wait_for(60).get) == (errnum, f"Unknown error {errnum}")
