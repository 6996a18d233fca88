"""What the brokers of the simulator serve besides their own modules, and who asks for it.

`SimService` answers at once, later, in a stream, or never; `SimClient` is a connection of a program, and knows what it
may still hear: a request is answered once, whatever happens, unless its client is gone.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from flux.brokermod import request_handler
from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
    FLUX_MSGFLAG_STREAMING,
    FLUX_MSGTYPE_EVENT,
    FLUX_NODEID_ANY,
    FLUX_ROLE_LOCAL,
    FLUX_ROLE_OWNER,
)
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.broker.clients import Client
from fluxlet.payload import decode
from fluxlet.service import Service, may_end, sender

if TYPE_CHECKING:
    from sim.world import Node, World

_encode = msgspec.json.Encoder().encode
_OWNER = FLUX_ROLE_OWNER | FLUX_ROLE_LOCAL


class Request(msgspec.Struct):
    """Payload of sim.echo, .later, .stream and .never."""

    id: int
    count: int = 0


class SimService(Service):
    """Answers."""

    world: World

    def __init__(self, handle: Flux, broker: Broker) -> None:
        self.held: list[Message] = []
        """Requests that are open."""
        super().__init__(handle, broker)

    def _done(self, msg: Message, end: Callable[[], None]) -> None:
        """Ends a request that is still open."""
        if msg in self.held:
            self.held.remove(msg)
            end()

    @request_handler("echo")
    def echo(self, msg: Message) -> None:
        """Answers at once."""
        request = decode(msg, Request)
        self.handle.respond(msg, {"id": request.id, "rank": self.broker.rank})

    @request_handler("later")
    def later(self, msg: Message) -> None:
        """Answers after a while."""
        request = decode(msg, Request)
        self.held.append(msg)
        answer = {"id": request.id, "rank": self.broker.rank}
        self.world.soon(0.2, lambda: self._done(msg, lambda: self.handle.respond(msg, answer)))

    @request_handler("stream")
    def stream(self, msg: Message) -> None:
        """Answers `count` times, then ends the stream."""
        request = decode(msg, Request)
        self.held.append(msg)

        def step(number: int) -> None:
            if msg not in self.held:
                return
            if number == request.count:
                self._done(msg, lambda: self.handle.respond_error(msg, errno.ENODATA))
            else:
                self.handle.respond(msg, {"id": request.id, "rank": self.broker.rank, "number": number})
                self.world.soon(0.02, lambda: step(number + 1))

        step(0)

    @request_handler("never")
    def never(self, msg: Message) -> None:
        """Does not answer before `release`."""
        self.held.append(msg)

    def release(self) -> None:
        """Answers all that is open."""
        for msg in tuple(self.held):
            self._done(msg, lambda msg=msg: self.handle.respond_error(msg, errno.ENODATA))  # type: ignore[misc]

    @request_handler("disconnect", allow_guest=True)
    def disconnect(self, msg: Message) -> None:
        """Forgets what a client that is gone has asked for."""
        self.held = [request for request in self.held if not may_end(request, msg)]

    def clients(self) -> set[bytes]:
        """Whose requests are open."""
        return {sender(msg) for msg in self.held}


class Call:
    """A request of a client, and what it has heard."""

    def __init__(self, topic: str, nodeid: int, streaming: bool, answered: Callable[[Call], None] | None) -> None:
        self.topic = topic
        self.nodeid = nodeid
        self.streaming = streaming
        self.done = False
        self.errnum = 0
        self.payload: Any = None
        self.heard = 0
        self.answered = answered


class SimClient(Client):
    """A program connected to a broker."""

    def __init__(self, node: Node, uuid: bytes, events: bool = False) -> None:
        super().__init__(uuid, b"connector", 0, _OWNER)
        self.node = node
        self.calls: dict[int, Call] = {}
        self.left_at = -1.0
        """When it has disconnected."""
        self.sequence = 0
        """The number of the last event."""
        self.on_event: Callable[[Message], None] = lambda event: None
        self._matchtag = 0
        node.broker.clients.add(self)
        if events:
            self.ask("event.subscribe", {"topic": ""})

    def ask(
        self,
        topic: str,
        payload: Any = None,
        nodeid: int = FLUX_NODEID_ANY,
        flags: int = 0,
        answered: Callable[[Call], None] | None = None,
    ) -> Call:
        """Sends a request."""
        self._matchtag += 1
        raw = None if payload is None else _encode(payload) + b"\0"
        request = Message.request(topic.encode(), raw, nodeid, self._matchtag, flags)
        request.routes = ()
        call = Call(topic, nodeid, bool(flags & FLUX_MSGFLAG_STREAMING), answered)
        if not flags & FLUX_MSGFLAG_NORESPONSE:
            self.calls[self._matchtag] = call
        broker = self.node.broker
        self.node.world.say(f"{self.node.rank} client {self.uuid[:4].decode()} asks {topic} of {nodeid}")
        broker.route(broker.clients.receive(self, request))
        return call

    def deliver(self, message: Message) -> None:
        """Takes what comes."""
        if message._type == FLUX_MSGTYPE_EVENT:
            self.on_event(message)
            return
        call = self.calls.get(message.aux2)
        if call is None:
            self.node.fail(f"an answer to nothing: {message!r}")
            return
        if call.done:
            self.node.fail(f"a second answer to {call.topic}: {message!r}")
        call.heard += 1
        if message.aux1 or not call.streaming:
            call.done = True
            call.errnum = message.aux1
        if message.raw is not None and not message.aux1:
            call.payload = json.loads(message.raw[:-1])
        if call.answered is not None and call.done:
            call.answered(call)

    @property
    def gone(self) -> bool:
        """It has disconnected."""
        return self.left_at >= 0

    def leave(self) -> None:
        """Disconnects."""
        self.left_at = self.node.world.now
        broker = self.node.broker
        broker.route(broker.clients.remove(self))
