"""Recordings of the reference, `wire-*.jsonl` and `pycore-handle.jsonl`, replayed on our brokers' sockets (spec 01)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from linked import LinkedInstance, PlayedCredentials
from recordings import VECTORS, Deviation, load, replay

import flux.kvs
from flux.message import Message
from flux.wire import Framer, encode

#: Until a message that must come counts as missing, in seconds.
PATIENCE = 20
LAST = b"the last word.x"

NAMES = sorted(path.stem for pattern in ("wire-*.jsonl", "pycore-*.jsonl") for path in VECTORS.glob(pattern))
PARENTS = {"wire-routing-4brokers": (0, 0, 1)}
RANKS = {"wire-routing-4brokers": {0: 0, 1: 1, 2: 3}}

#: A call that a connection leaves open when its service goes.
_UNREACHABLE = {
    "type": "response",
    "topic": "foo.slow",
    "flags": ["topic", "route"],
    "userid": 0,
    "rolemask": 5,
    "routes": [],
    "errnum": 113,
    "matchtag": 25,
}

#: By recording and line.
DEVIATIONS: dict[str, dict[int, Deviation]] = {
    "wire-event-pubsub": {
        66: Deviation("do better 5: a subscribe that wants no response gets none", absent=True),
    },
    "wire-python-rpc": {
        27: Deviation("do better 5: an unsubscribe that wants no response gets none", absent=True),
    },
    "wire-service": {
        73: Deviation("do better 3: what a service leaves unanswered fails", extra=(1, _UNREACHABLE)),
    },
}


class SocketWorld:
    """Raw connections to the brokers of a linked instance."""

    def __init__(self, instance: LinkedInstance, ranks: dict[int, int], played: PlayedCredentials) -> None:
        self.instance = instance
        self.ranks = ranks
        self.played = played
        self.connections: dict[int, tuple[socket.socket, Framer]] = {}

    def open(self, conn: int, uid: int) -> None:
        self.played.uid = uid or os.getuid()
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(PATIENCE)
        sock.connect(f"{self.instance.directory}/local-{self.ranks.get(conn, 0)}")
        assert sock.recv(1) == b"\0"
        self.connections[conn] = sock, Framer()

    def close(self, conn: int) -> None:
        sock, _ = self.connections.pop(conn)
        # All that we have sent is dealt with before the end of the stream, which the broker answers with its own.
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass
        sock.close()

    def send(self, conn: int, message: Message, frame: bytes | None) -> None:
        self.connections[conn][0].sendall(encode(message) if frame is None else frame)

    def receive(self, conn: int) -> Message:
        sock, framer = self.connections[conn]
        while (message := framer.next()) is None:
            try:
                data = sock.recv(65536)
            except TimeoutError:
                raise AssertionError(f"nothing comes to connection {conn}") from None
            assert data, f"connection {conn} was closed"
            framer.feed(data)
        return message

    def break_off(self, conn: int) -> None:
        sock, framer = self.connections.pop(conn)
        frame = bytearray(encode(Message.request(b"broker.ping")))
        frame[-19] = 7  # header version
        sock.sendall(frame)
        assert framer.next() is None
        assert sock.recv(65536) == b""
        sock.close()

    def rest(self, conn: int) -> list[Message]:
        """What comes before the answer to a last question, which the broker of every rank answers itself."""
        rank = self.ranks.get(conn, 0)
        self.send(conn, Message.request(LAST, None, rank, 7), None)
        rest = []
        while (message := self.receive(conn)).topic_bytes != LAST:
            rest.append(message)
        return rest

    def end(self) -> None:
        for sock, _ in self.connections.values():
            sock.close()


class RelayWorld(SocketWorld):
    """The same, each connection through the input and output of a `flux relay`."""

    def __init__(self, instance: LinkedInstance, ranks: dict[int, int], played: PlayedCredentials) -> None:
        super().__init__(instance, ranks, played)
        self.relays: list[subprocess.Popen[bytes]] = []

    def open(self, conn: int, uid: int) -> None:
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        command = [sys.executable, "-m", "fluxlet.cmd.driver", "relay", f"{self.instance.directory}/local-0"]
        self.relays.append(subprocess.Popen(command, stdin=theirs, stdout=theirs))
        theirs.close()
        assert ours.recv(1) == b"\0"
        self.connections[conn] = ours, Framer()

    def end(self) -> None:
        super().end()
        assert [relay.wait(PATIENCE) for relay in self.relays] == [0] * len(self.relays)


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SocketWorld]:
    name = request.node.callspec.params["name"]
    # The recordings `wire-*` have guests; `pycore-handle` reads the configuration, which was empty.
    access = {"access": {"allow-guest-user": True}} if name.startswith("wire-") else {}
    played = PlayedCredentials(monkeypatch)
    parents = PARENTS.get(name, ())
    instance = LinkedInstance(str(tmp_path), *parents, config=access)
    instance.start()
    instance.settle()  # some of them read the log
    if name == "wire-stream-cancel":
        with flux.Flux(f"local://{tmp_path}/local-0") as handle:
            flux.kvs.put(handle, "wiretest", 1)  # somebody did, out of sight
            flux.kvs.commit(handle)
    kind = RelayWorld if name == "wire-relay-stdio" else SocketWorld
    replayed = kind(instance, RANKS.get(name, {}), played)
    try:
        yield replayed
    finally:
        replayed.end()
        instance.stop()


@pytest.mark.parametrize("name", NAMES)
def test_recording(name: str, world: SocketWorld) -> None:
    replay(load(name), world, DEVIATIONS.get(name))


def test_every_deviation_is_of_a_recorded_line() -> None:
    for name, deviations in DEVIATIONS.items():
        lines = load(name)
        for number, deviation in deviations.items():
            assert deviation.why
            assert 1 <= number <= len(lines)
            assert deviation.extra or lines[number - 1].get("dir") == "b>c"
