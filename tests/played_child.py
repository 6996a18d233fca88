"""A broker that is none: a socket that says to a parent what a test has it say."""

from __future__ import annotations

import uuid
from types import TracebackType
from typing import Any, Self

import msgspec
import zmq

from flux.constants import FLUX_MSGTYPE_EVENT
from flux.message import Message
from fluxlet.overlay.certificate import Certificate
from fluxlet.overlay.framing import from_parts, to_parts

VERSION = 0x5800


class PlayedChild:
    """A connection to a parent.

    Args:
        endpoint: of the parent.
        server: its public key; None: without CURVE.
        keys: our own; None: new ones.
        identity: of the connection; None: a new one.
        kind: of the socket.
    """

    def __init__(
        self,
        endpoint: str,
        server: str | None,
        keys: Certificate | None = None,
        identity: str | None = None,
        kind: int = zmq.DEALER,
    ) -> None:
        self.uuid = identity or str(uuid.uuid4())
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(1)
        self.sock = self.context.socket(kind)
        self.sock.setsockopt(zmq.LINGER, 0)
        self.sock.setsockopt(zmq.IDENTITY, self.uuid.encode())
        self.sock.setsockopt(zmq.RCVHWM, 0)
        if server is not None:
            own = keys or Certificate.new()
            self.sock.setsockopt(zmq.CURVE_SERVERKEY, server.encode())
            self.sock.setsockopt(zmq.CURVE_PUBLICKEY, own.public.encode())
            self.sock.setsockopt(zmq.CURVE_SECRETKEY, own.secret.encode())
        self.sock.connect(endpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection."""
        if not self.sock.closed:
            self.sock.close()
            self.context.term()

    def send(self, message: Message) -> None:
        """Sends a message."""
        self.sock.send_multipart(to_parts(message))

    def receive(self, seconds: float = 30.0) -> Message | None:
        """The next message that is no event; None if there is none for so long."""
        while self.sock.poll(int(seconds * 1000)):
            message = from_parts(self.sock.recv_multipart())
            if message._type != FLUX_MSGTYPE_EVENT:
                return message
        return None

    def expect(self, topic: str) -> Message:
        """The next message with this topic; AssertionError if it does not come."""
        while True:
            message = self.receive()
            assert message is not None, f"waited in vain for {topic}"
            if message.topic_bytes == topic.encode():
                return message

    def request(
        self, topic: str, payload: Any = None, rolemask: int = 1, nodeid: int = 0xFFFFFFFF, tag: int = 0
    ) -> None:
        """Sends a request."""
        raw = None if payload is None else msgspec.json.encode(payload) + b"\0"
        message = Message.request(topic.encode(), raw, nodeid, tag)
        message.routes = ()
        message._rolemask = rolemask
        self.send(message)

    def hello(self, rank: int, **fields: Any) -> Message:
        """Says hello; returns the answer."""
        payload = {"rank": rank, "version": VERSION, "uuid": self.uuid, "status": 1, **fields}
        self.request("overlay.hello", payload)
        answer = self.receive()
        assert answer is not None, "no answer to hello"
        return answer
