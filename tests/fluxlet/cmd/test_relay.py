"""flux relay: a router hop between stdin/stdout and a broker (spec 01, 2.5; recording wire-relay-stdio)."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from command_instance import Instance

import flux
from flux.constants import FLUX_MSGTYPE_REQUEST
from flux.message import Message
from flux.wire import Framer, encode


class Relay:
    """`flux relay`, with pipes as sshd gives it to a command, and what a client does on them."""

    def __init__(self, instance: Instance) -> None:
        self.process = subprocess.Popen(
            instance.command("relay", instance.path),
            env=instance.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.framer = Framer()

    def send(self, message: Message) -> None:
        data = memoryview(encode(message))
        while data:
            data = data[self.stdin.write(data) :]

    def recv(self) -> Message:
        while (message := self.framer.next()) is None:
            data = os.read(self.stdout.fileno(), 65536)
            assert data, "the relay has ended"
            self.framer.feed(data)
        return message

    def ask(self, topic: str, payload: Any = None, matchtag: int = 1, **fields: Any) -> Message:
        """Sends a request; the next message."""
        request = Message.request(topic.encode(), None, matchtag=matchtag)
        request.payload = {} if payload is None else payload
        for name, value in fields.items():
            setattr(request, name, value)
        self.send(request)
        return self.recv()

    def end(self) -> tuple[int, bytes, bytes]:
        """Closes stdin; exit code, what is left on stdout, stderr."""
        self.stdin.close()
        self.process.stdin = None
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def relay(instance: Instance) -> Iterator[Relay]:
    running = Relay(instance)
    assert os.read(running.stdout.fileno(), 1) == b"\0"
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.communicate()


def test_the_recorded_session(relay: Relay) -> None:
    """Line by line what the recording shows: four routes instead of three, credentials of the relay's user."""
    for matchtag, credentials in ((1, {}), (2, {"userid": 1234, "rolemask": 2})):
        response = relay.ask("broker.ping", {}, matchtag, **credentials)
        assert (response.aux2, response.routes, response._rolemask) == (matchtag, (), 5)
        assert (response.payload["userid"], response.payload["rolemask"]) == (os.getuid(), 5)
        assert len(response.payload["route"].split("!")) == 4
    for matchtag, topic, payload in ((3, "event.subscribe", {"topic": "foo"}), (4, "service.add", {"service": "foo"})):
        response = relay.ask(topic, payload, matchtag)
        assert (response.aux1, response.aux2, response.routes) == (0, matchtag, ())
        assert (response._userid, response._rolemask, response.raw) == (0xFFFFFFFF, 1, None)
    request = relay.ask("foo.x", {}, 5)
    assert (request.type_str, request.topic, request.aux2) == ("request", "foo.x", 5)
    assert (request._userid, request._rolemask) == (os.getuid(), 5)
    assert request.routes is not None
    assert len(request.routes) == 4
    relay.send(request.response(b"{}\0"))
    response = relay.recv()
    assert (response.type_str, response.routes, response.aux2, response.payload) == ("response", (), 5, {})
    assert (response._userid, response._rolemask) == (os.getuid(), 5)
    relay.send(Message.event(b"foo", b'{"x": 1}\0'))
    event = relay.recv()
    assert (event.type_str, event.topic, event.payload) == ("event", "foo", {"x": 1})
    assert relay.end() == (0, b"", b"")


@pytest.mark.parametrize(
    ("topic", "payload", "errnum"),
    [
        ("event.subscribe", {}, errno.EPROTO),
        ("event.unsubscribe", {}, errno.EPROTO),
        ("event.unsubscribe", {"topic": "x"}, errno.ENOENT),
        ("service.add", {}, errno.EPROTO),
        ("service.add", {"service": "a.b"}, errno.EINVAL),
        ("service.add", {"service": "attr"}, errno.EEXIST),
        ("service.remove", {}, errno.EPROTO),
        ("service.remove", {"service": "x"}, errno.ENOENT),
        ("nosuch.x", {}, errno.ENOSYS),
    ],
)
def test_errors_are_the_brokers(relay: Relay, topic: str, payload: dict[str, str], errnum: int) -> None:
    assert relay.ask(topic, payload).aux1 == errnum


def test_routes_of_the_client_stay_below(relay: Relay) -> None:
    response = relay.ask("broker.ping", {}, 1, routes=(b"mine",))
    assert response.routes == (b"mine",)
    assert response.payload["route"].split("!")[0] == "mine"


def test_requests_may_follow_each_other_without_waiting(relay: Relay) -> None:
    for matchtag, topic in enumerate(("event.subscribe", "event.unsubscribe", "event.unsubscribe"), 1):
        request = Message.request(topic.encode(), b'{"topic": "x"}\0', matchtag=matchtag)
        relay.send(request)
    answers = {(message.aux2, message.aux1) for message in (relay.recv(), relay.recv(), relay.recv())}
    assert answers == {(1, 0), (2, 0), (3, errno.ENOENT)}


def test_large_messages_pass_both_ways(relay: Relay) -> None:
    """A pipe takes 64 KiB: the relay must read while it cannot write."""
    pad = "x" * 5_000_000
    assert relay.ask("broker.ping", {"pad": pad}).payload["pad"] == pad


def test_subscriptions_are_prefixes_and_end_with_unsubscribe(instance: Instance, relay: Relay) -> None:
    for matchtag in (1, 2):
        relay.ask("event.subscribe", {"topic": "fo"}, matchtag)
    relay.ask("event.unsubscribe", {"topic": "fo"}, 3)
    with flux.Flux(instance.uri) as handle:
        handle.event_send("bar")
        handle.event_send("foo")
        assert relay.recv().topic == "foo"
        relay.ask("event.unsubscribe", {"topic": "fo"}, 4)
        handle.rpc("event.publish", {"topic": "foo", "flags": 0}).get()
    assert relay.ask("broker.ping").topic == "broker.ping"


def test_the_end_of_stdin_is_a_disconnect(instance: Instance) -> None:
    with flux.Flux(instance.uri) as server:
        server.service_register("svc").get()
        relay = Relay(instance)
        assert os.read(relay.stdout.fileno(), 1) == b"\0"
        relay.send(Message.request(b"svc.wait", b"{}\0", matchtag=9))
        request = server.recv(FLUX_MSGTYPE_REQUEST)
        assert relay.end() == (0, b"", b"")
        notices = [server.recv(FLUX_MSGTYPE_REQUEST) for _ in range(2)]
    # One of the relay about its client, and one of the broker about the relay.
    assert [notice.topic for notice in notices] == ["svc.disconnect", "svc.disconnect"]
    assert request.routes in [notice.routes for notice in notices]


def test_services_end_with_the_client_and_what_they_were_asked_fails(instance: Instance) -> None:
    relay = Relay(instance)
    assert os.read(relay.stdout.fileno(), 1) == b"\0"
    relay.ask("service.add", {"service": "svc"})
    with flux.Flux(instance.uri) as handle:
        pending = handle.rpc("svc.x", {})
        assert relay.recv().topic == "svc.x"
        assert relay.end()[0] == 0
        with pytest.raises(OSError) as info:  # noqa: PT011  # the errno is what matters
            pending.get()
        assert info.value.errno == errno.EHOSTUNREACH
        with pytest.raises(OSError, match=r"No service matching svc\.x"):
            handle.rpc("svc.x", {}).get()


def test_a_bad_frame_ends_it(relay: Relay) -> None:
    relay.stdin.write(b"GET / HTTP/1.0\r\n\r\n")
    code, out, err = relay.end()
    assert (code, out) == (1, b"")
    assert err.decode() == f"{socket.gethostname()}: bad message on stdin: Protocol error\n"


def test_a_lost_broker_ends_it(instance: Instance, relay: Relay) -> None:
    instance.stop()
    relay.process.wait(60)
    code, out, err = relay.end()
    assert (code, out) == (1, b"")
    assert err.decode() == f"{socket.gethostname()}: {instance.uri}: lost connection to Flux\n"


def test_errors_begin_with_the_host(instance: Instance) -> None:
    done = instance.run("relay", "/no/such", FLUX_LOCAL_CONNECTOR_RETRY_COUNT="0")
    assert done.stderr == f"{socket.gethostname()}: local:///no/such: No such file or directory\n"
    assert (done.stdout, done.returncode) == ("", 1)


def test_without_path_it_shows_its_usage(instance: Instance) -> None:
    done = instance.run("relay")
    assert (done.stdout, done.stderr.splitlines()[0], done.returncode) == ("", "Usage: flux relay [OPTIONS] path", 1)


def test_descriptors_are_given_back_in_their_mode(instance: Instance) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = instance.command("relay", instance.path)
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, env=instance.environment())
        assert ours.recv(1) == b"\0"
        ours.shutdown(socket.SHUT_WR)
        assert process.wait(60) == 0
        assert os.get_blocking(theirs.fileno())
