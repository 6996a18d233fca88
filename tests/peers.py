"""Peers for tests of the socket: raw ones, that send whatever bytes they like, and one that must not notice.

Run as a program, with a URI, this is the one that must not notice: it pings until its standard input ends, checks
every answer, and prints how many there were and the longest it had to wait for one, in seconds.
"""

from __future__ import annotations

import errno
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import flux
from flux.constants import FLUX_RPC_STREAMING
from flux.message import Message
from flux.wire import MAGIC, Framer, encode

PATIENCE = 60.0


class RawPeer:
    """A connection to a broker's socket, with nothing in between.

    Args:
        uri: of the broker, ``local://PATH``.
        sock: a socket that is connected already; None: connect.
    """

    def __init__(self, uri: str, sock: socket.socket | None = None) -> None:
        self.sock = sock or socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.framer = Framer()
        try:
            if sock is None:
                self.sock.connect(uri.removeprefix("local://"))
        except BaseException:
            self.sock.close()
            raise

    def greeted(self) -> int:
        """The first byte that the broker sends: 0, or the errno for which it refuses us."""
        return self.sock.recv(1)[0]

    def send(self, data: bytes | Message) -> None:
        """Sends bytes, or a message. Raises OSError if the broker has closed the connection."""
        self.sock.sendall(encode(data) if isinstance(data, Message) else data)

    def request(self, topic: str, raw: bytes | None = None, matchtag: int = 1, flags: int = 0) -> None:
        """Sends a request; `raw` is its payload as it goes on the wire."""
        self.send(Message.request(topic.encode(), raw, matchtag=matchtag, flags=flags))

    def messages(self) -> Iterator[Message]:
        """The messages that the broker sends, until it closes the connection."""
        while True:
            message = self.framer.next()
            while message is None:
                try:
                    data = self.sock.recv(65536)
                except ConnectionResetError:
                    return  # closed, with bytes of ours unread
                if not data:
                    return
                message = self.framer.next(data)
            yield message

    def next(self) -> Message:
        """The next message. Raises EOFError if the broker closes the connection instead."""
        for message in self.messages():
            return message
        raise EOFError("the broker has closed the connection")

    def closed(self) -> bool:
        """True once the broker has closed the connection; fails after a time if it does not."""
        for _ in self.messages():
            pass
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()


def connect(uri: str) -> RawPeer:
    """A raw peer that has been let in."""
    peer = RawPeer(uri)
    assert peer.greeted() == 0
    return peer


#: Connects as somebody else, and hands the socket over: whose it is was decided when it was connected.
_CONNECT_AS = """
import os, socket, sys
path, uid, channel = sys.argv[1], int(sys.argv[2]), socket.socket(fileno=int(sys.argv[3]))
os.setgroups([])
os.setgid(uid)
os.setuid(uid)
peer = socket.socket(socket.AF_UNIX)
peer.connect(path)
socket.send_fds(channel, [b"!"], [peer.fileno()])
"""


def connect_as(uri: str, uid: int) -> RawPeer:
    """A raw peer that the kernel says is another user's; only root can make one."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        path = uri.removeprefix("local://")
        words = [sys.executable, "-I", "-S", "-c", _CONNECT_AS, path, str(uid), str(theirs.fileno())]
        subprocess.run(words, pass_fds=[theirs.fileno()], check=True, timeout=PATIENCE)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    return RawPeer(uri, socket.socket(fileno=descriptors[0]))


def frame(body: bytes, size: int | None = None, magic: bytes = MAGIC) -> bytes:
    """A frame around any bytes, with any length in front of them; None: the right one."""
    return magic + struct.pack("!I", len(body) if size is None else size) + body


def log_lines(handle: flux.Flux) -> list[str]:
    """What is in the instance's log."""
    lines = []
    stream = handle.rpc("log.dmesg", {"follow": False}, flags=FLUX_RPC_STREAMING)
    try:
        while True:
            lines.append(stream.get_str() or "")
            stream.reset()
    except OSError as exc:
        if exc.errno != errno.ENODATA:
            raise
    return lines


class Bystander:
    """A well-behaved client in a process of its own, which pings all the time; see the file's docstring."""

    def __init__(self, uri: str) -> None:
        self.answers = 0
        self.longest = 0.0
        self._process = subprocess.Popen(
            [sys.executable, __file__, uri],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._process.stdout is not None
        self._first = self._process.stdout.readline()

    def alive(self) -> bool:
        """False as soon as an answer was wrong or missing."""
        return self._process.poll() is None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        output = ""
        try:
            output, _ = self._process.communicate(timeout=PATIENCE)
        finally:
            self._process.kill()
        if exc is None:
            assert self._process.returncode == 0, f"the bystander has noticed:\n{self._first}{output}"
        if self._process.returncode == 0:
            answers, longest = output.split()
            self.answers, self.longest = int(answers), float(longest)


def _ping_until_told(uri: str) -> None:
    over = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    longest = 0.0
    number = 0
    with flux.Flux(uri) as handle:
        while not over.is_set():
            began = time.monotonic()
            future = handle.rpc("broker.ping", {"seq": number, "pad": "x" * (number % 500)})
            answer = future.wait_for(PATIENCE).get()
            longest = max(longest, time.monotonic() - began)
            assert (answer["seq"], len(answer["pad"]), answer["rank"]) == (number, number % 500, 0), answer
            if not number:
                print("pinging", flush=True)
            number += 1
    print(number, f"{longest:.3f}")


if __name__ == "__main__":
    _ping_until_told(sys.argv[1])
