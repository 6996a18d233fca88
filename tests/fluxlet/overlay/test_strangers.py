"""Who may be a child, and what becomes of those who may not, over real sockets (spec 04, 2.1, 2.4; recordings)."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from played_child import PlayedChild
from waiting import PATIENCE, wait_until

from flux.message import Message
from flux.reactor import Reactor
from fluxlet.overlay.certificate import Certificate
from fluxlet.overlay.framing import control
from fluxlet.overlay.settings import Settings
from fluxlet.overlay.zmq import Transport
from fluxlet.testing import Instance

VECTORS = Path(__file__).parents[2] / "vectors"


class Parent(Instance):
    """Rank 0 of two, whose other one never comes; `certificate` is what they share."""

    def __init__(self, directory: Path) -> None:
        path = directory / "curve.cert"
        self.certificate = Certificate.new()
        self.certificate.write(str(path))
        with socket.create_server(("127.0.0.1", 0)) as sock:
            port = sock.getsockname()[1]
        self.endpoint = f"tcp://127.0.0.1:{port}"
        hosts = [{"host": "fake[0-1]", "bind": self.endpoint, "connect": self.endpoint}]
        config = {"bootstrap": {"curve_cert": str(path), "hosts": hosts}}
        attributes = {"hostname": "fake0", "broker.quorum": "1"}
        super().__init__(config=config, attributes=attributes, env={"SHELL": "/bin/sh"})

    def child(self, **options: Any) -> PlayedChild:
        """A connection of somebody who has the certificate."""
        return PlayedChild(self.endpoint, self.certificate.public, self.certificate, **options)


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parent]:
    instance = Parent(tmp_path_factory.mktemp("t"))
    with instance:
        yield instance


def child_of(parent: Parent) -> dict[str, Any]:
    with parent.handle() as handle:
        found: dict[str, Any] = handle.rpc("overlay.health").get()["children"][0]
        return found


def undisturbed(parent: Parent) -> None:
    """The instance serves its clients."""
    with parent.handle() as handle:
        assert handle.rpc("broker.ping", {}).get()


def test_the_hello_of_the_reference_is_answered_as_it_does(parent: Parent) -> None:
    cases: dict[str, list[dict[str, Any]]] = {}
    entries = [json.loads(line) for line in (VECTORS / "overlay-hello-cases.jsonl").read_text().splitlines()]
    current: PlayedChild | None = None
    good: PlayedChild | None = None
    opened: list[PlayedChild] = []
    for entry in entries:
        cases.setdefault(entry["case"], []).append(entry)
    seen = set()
    try:
        for entry in entries:
            case = entry["case"]
            if entry["dir"] == "child>parent":
                if case not in seen and (entry.get("topic") == "overlay.hello" or case == "request before hello"):
                    identity = entry["payload"].get("uuid")
                    if case == "unauthorized CURVE key":
                        current = PlayedChild(parent.endpoint, parent.certificate.public, None, identity)
                    elif case == "no CURVE":
                        current = PlayedChild(parent.endpoint, None, None, identity)
                    else:
                        current = parent.child(identity=identity)
                    opened.append(current)
                    good = current if case == "good hello" else good
                seen.add(case)
                speaker = good if case.startswith("old connection") else current
                assert speaker is not None
                speaker.send(played(entry))
            elif "none_within_ms" in entry:
                assert current is not None
                assert current.receive(0.3) is None, case
            else:
                speaker = good if case.startswith("old connection") else current
                assert speaker is not None
                answer = speaker.receive()
                assert answer is not None, case
                compare(case, entry, answer)
    finally:
        for child in opened:
            child.close()
    wait_until(lambda: child_of(parent)["status"] in ("lost", "offline"), "the end of the last child")


def played(entry: dict[str, Any]) -> Message:
    kind = {"request": 1, "control": 8}[entry["type"]]
    topic = entry.get("topic")
    raw = json.dumps(entry["payload"]).encode() + b"\0" if "payload" in entry else None
    userid = os.getuid() if entry["userid"] == 0 else entry["userid"]
    flags = int(entry["flags"], 16)
    return Message._make(
        kind, flags, userid, entry["rolemask"], entry["aux1"], entry["aux2"], (), topic and topic.encode(), raw
    )


def compare(case: str, entry: dict[str, Any], answer: Message) -> None:
    """What came is what was recorded; where the reference gives an errno without text, ours may add one."""
    owner = {0: os.getuid()}.get(entry["userid"], entry["userid"])
    assert (answer._userid, answer._rolemask) == (owner, entry["rolemask"]), case
    assert (answer.aux1, answer.aux2) == (entry["aux1"], entry["aux2"]), case
    if entry["type"] == "control":
        assert answer._type == 8, case
        return
    assert answer.topic_bytes == entry["topic"].encode(), case
    payload = entry.get("payload")
    if payload is None:
        assert entry["aux1"] or answer.raw is None, case
    elif "text" in payload:
        assert (answer.raw or b"").rstrip(b"\0").decode() == payload["text"], case
    else:
        found = json.loads((answer.raw or b"").rstrip(b"\0"))
        assert shape(found) == shape(payload), case


def shape(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: shape(item) if key not in ("uuid", "duration") else key for key, item in value.items()}
    return [shape(item) for item in value] if isinstance(value, list) else value


def test_another_version_is_told_why_and_shows_in_the_health(parent: Parent) -> None:
    with parent.child() as child:
        answer = child.hello(1, version=(1 << 16) + 2)
        text = "client (1.0.2) version mismatched with server (0.88.0)"
        assert (answer.aux1, answer.payload_str) == (errno.EINVAL, text)
    assert child_of(parent).get("error") == text
    assert f"(rank 1): {text}" in parent.log()


def test_a_replayed_hello_changes_nothing(parent: Parent) -> None:
    with parent.child() as child:
        assert child.hello(1).aux1 == 0
        assert child_of(parent)["status"] == "full"
        again = child.hello(1)
        assert (again.aux1, again.payload_str) == (errno.EINVAL, "hello was said before")
        assert child_of(parent)["status"] == "full"
        # The same from elsewhere: a connection with an identity that is in use gets nowhere.
        with parent.child(identity=child.uuid) as other:
            other.request("overlay.hello", {"rank": 1, "version": 0x5800, "uuid": child.uuid, "status": 1})
            assert other.receive(0.3) is None
        child.request("broker.ping", {}, tag=3)
        assert child.expect("broker.ping").aux1 == 0
        used = child.uuid
    wait_until(lambda: child_of(parent)["status"] == "lost", "the loss")
    # And after its end, its uuid is spent.
    with parent.child(identity=used) as late:
        answer = late.hello(1)
        assert answer.aux1 == errno.EINVAL
        assert "its uuid cannot be used again" in str(answer.payload_str)
    undisturbed(parent)


@pytest.mark.parametrize(
    "payload",
    [
        None,
        {},
        {"rank": "1", "version": 0x5800, "uuid": "x", "status": 1},
        {"rank": 1, "version": 0x5800, "uuid": "somebody else", "status": 1},
        {"rank": 1, "version": 0x5800, "status": 1},
        {"rank": 1, "version": 0x5800, "uuid": None, "status": 9},
        {"rank": -1, "version": 0x5800, "uuid": None, "status": 1},
        {"rank": 1 << 40, "version": 0x5800, "uuid": None, "status": 1},
    ],
)
def test_a_hello_that_makes_no_sense_is_refused(parent: Parent, payload: dict[str, Any] | None) -> None:
    with parent.child() as child:
        if payload is not None and payload.get("uuid", "") is None:
            payload = {**payload, "uuid": child.uuid}
        child.request("overlay.hello", payload)
        answer = child.receive()
        assert answer is not None
        assert answer.aux1 in (errno.EPROTO, errno.EINVAL)
    undisturbed(parent)


def test_bad_messages_of_a_child_are_left_out(parent: Parent) -> None:
    dice = random.Random(7)
    with parent.child() as child:
        assert child.hello(1).aux1 == 0
        for _ in range(500):
            child.sock.send_multipart([dice.randbytes(dice.choice((0, 1, 20, 36))) for _ in range(dice.randint(1, 6))])
        for kind in (1, 2, 4, 8):
            for flags in range(256):
                head = bytes((0x8E, 1, kind, flags)) + dice.randbytes(16)
                child.sock.send_multipart([b"", b"x.y", b"\xff{", head])
        child.request("broker.ping", {}, tag=3)
        assert child.expect("broker.ping").aux1 == 0
    wait_until(lambda: "bad message of" in parent.log(), "a line in the log")
    undisturbed(parent)


def test_strangers_get_no_answer_and_a_line_in_the_log(parent: Parent) -> None:
    with PlayedChild(parent.endpoint, parent.certificate.public) as stranger:
        stranger.request("overlay.hello", {})
        assert stranger.receive(0.3) is None
    with PlayedChild(parent.endpoint, None) as stranger:
        stranger.request("overlay.hello", {})
        assert stranger.receive(0.3) is None
    with PlayedChild(parent.endpoint, parent.certificate.public, parent.certificate, kind=zmq.REQ) as stranger:
        assert stranger.receive(0.1) is None
    wait_until(lambda: re.search(r"overlay\.err\[0\]: overlay: auth No access", parent.log()), "a line in the log")
    undisturbed(parent)


def test_garbage_on_the_port_is_no_harm(parent: Parent) -> None:
    dice = random.Random(3)
    host, port = parent.endpoint.removeprefix("tcp://").split(":")
    for length in (1, 10, 64, 5000):
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(dice.randbytes(length))
        with socket.create_connection((host, int(port))) as sock:
            sock.sendall(b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01CURVE" + bytes(15) + dice.randbytes(length))
    undisturbed(parent)
    with parent.child() as child:
        assert child.hello(1).aux1 == 0


def test_a_child_that_is_replaced_is_told_to_go(parent: Parent) -> None:
    with parent.child() as old, parent.child() as new:
        assert old.hello(1).aux1 == 0
        assert new.hello(1).aux1 == 0
        assert "(rank 1) reconnected after crash, dropping old connection state" in parent.log()
        old.request("broker.ping", {}, tag=1)
        answer = old.receive()
        assert answer is not None
        assert (answer._type, answer.aux1) == (8, 2)
        new.request("broker.ping", {}, tag=1)
        assert new.expect("broker.ping").aux1 == 0


def test_a_child_that_is_silent_is_torpid_until_it_is_heard(parent: Parent) -> None:
    with parent.handle() as handle, parent.child() as child:
        config = handle.rpc("config.get").get()
        handle.rpc("config.load", {**config, "tbon": {"torpid_min": "0.1s", "torpid_max": "0.2s"}}).get()
        try:
            assert child.hello(1).aux1 == 0

            def torpid() -> str:
                return str(handle.rpc("groups.get", {"name": "broker.torpid"}).get()["members"])

            wait_until(lambda: torpid() == "1", "torpidity")
            assert re.search(r"broker on fake1 \(rank 1\) has been unresponsive for [0-9.]+s", parent.log())
            child.send(control(0))
            wait_until(lambda: torpid() == "", "its end")
            assert "broker on fake1 (rank 1) is responsive now" in parent.log()
        finally:
            handle.rpc("config.load", config).get()


# The transport by itself.


class Listener:
    """What a transport tells."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def from_child(self, uuid: bytes, message: Message) -> None:
        self.got.append(("message", uuid))

    def from_parent(self, message: Message) -> None:
        """Not used."""

    def child_gone(self, uuid: bytes) -> None:
        self.got.append(("gone", uuid))

    def parent_gone(self) -> None:
        """Not used."""

    def parent_unreachable(self) -> None:
        """Not used."""


def run_until(reactor: Reactor, condition: Callable[[], Any]) -> None:
    tick = reactor.timer(0.01, 0.01, lambda: None)
    tick.start()
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        reactor.run(2)
    tick.stop()


def test_a_child_that_does_not_read_is_lost_and_memory_is_not(tmp_path_factory: pytest.TempPathFactory) -> None:
    endpoint = f"ipc://{tmp_path_factory.mktemp('t')}/s"
    server = Certificate.new()
    reactor, listener, lines = Reactor(), Listener(), list[str]()
    transport = Transport(server, Settings(waiting=100))
    try:
        transport.authorized.add(server.raw_public)
        transport.bind([endpoint])
        transport.watch(reactor, listener, lambda severity, text: lines.append(text))
        with PlayedChild(endpoint, server.public, server) as child:
            child.sock.setsockopt(zmq.RCVHWM, 1)
            child.send(control(0))
            uuid = child.uuid.encode()
            run_until(reactor, lambda: ("message", uuid) in listener.got)
            big = Message.request(b"x.y", b"x" * 65536 + b"\0")
            for _ in range(100_000):
                transport.to_child(uuid, big)
                if any("does not read" in line for line in lines):
                    break
            run_until(reactor, lambda: ("gone", uuid) in listener.got)
        assert any("does not read, 100 messages wait for it" in line for line in lines)
    finally:
        transport.close()
        reactor.close()


def test_messages_come_before_the_end_of_their_connection(tmp_path_factory: pytest.TempPathFactory) -> None:
    endpoint = f"ipc://{tmp_path_factory.mktemp('t')}/s"
    server = Certificate.new()
    reactor, listener = Reactor(), Listener()
    transport = Transport(server, Settings())
    try:
        transport.authorized.add(server.raw_public)
        transport.bind([endpoint])
        transport.watch(reactor, listener, lambda severity, text: None)
        for _ in range(5):
            listener.got.clear()
            with PlayedChild(endpoint, server.public, server) as child:
                uuid = child.uuid.encode()
                child.send(control(0))
                run_until(reactor, lambda: listener.got)  # it is let in by us, who are not running in between
                child.sock.setsockopt(zmq.LINGER, 5000)
                for _ in range(999):
                    child.send(control(0))
            run_until(reactor, lambda: ("gone", uuid) in listener.got)  # noqa: B023  # called in this round
            assert listener.got == [("message", uuid)] * 1000 + [("gone", uuid)]
    finally:
        transport.close()
        reactor.close()
