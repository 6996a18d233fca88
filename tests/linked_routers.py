"""Routers linked in memory as a tree, with clients and modules that do what a test tells them."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable

from flux.constants import FLUX_ROLE_USER
from flux.message import Message
from flux.wire import decode_body, encode_body
from fluxlet.broker.clients import Client, Clients
from fluxlet.broker.router import LOCAL_OWNER, Delivery, Endpoint, Peer, Router

OWNER = os.getuid()
GUEST_ROLES = FLUX_ROLE_USER | 4


def uuid(letter: str, number: int) -> bytes:
    return f"{letter}{number:07d}-0000-4000-8000-000000000000".encode()


class FakeClient(Client):
    """A client; what it receives is in `inbox`."""

    def __init__(self, broker: FakeBroker, number: int, userid: int, rolemask: int) -> None:
        super().__init__(uuid("c", number), broker.connector, userid, rolemask)
        self.broker = broker
        self.inbox: deque[Message] = deque()

    def deliver(self, message: Message) -> None:
        # As the socket does: what the router may change later on is not what the client has.
        self.inbox.append(decode_body(encode_body(message)))

    def send(self, message: Message) -> None:
        """Sends a message and lets the instance come to rest."""
        self.broker.clients_queue(self, message)
        self.broker.world.run()

    def close(self) -> None:
        self.broker.dispatch(self.broker.clients.remove(self))
        self.broker.world.run()

    def take(self) -> Message:
        return self.inbox.popleft()

    def only(self) -> Message:
        """The one message that came."""
        assert len(self.inbox) == 1, list(self.inbox)
        return self.inbox.popleft()


class FakeModule(Endpoint):
    """A module; requests go to `serve`, which gives the response or None, all else to `inbox`."""

    def __init__(self, broker: FakeBroker, name: str, serve: Callable[[Message], Message | None] | None) -> None:
        identity = uuid("m", broker.world.number())
        super().__init__(identity, (identity,))
        self.broker = broker
        self.serve = serve
        self.inbox: deque[Message] = deque()
        broker.router.attach(self)
        if name:
            broker.router.services[name.encode()] = self

    def deliver(self, message: Message) -> None:
        if message._type != 1 or self.serve is None:
            self.inbox.append(message)
            return
        response = self.serve(message)
        if response is not None and not message.flags & 4:
            self.send(response)

    def send(self, message: Message) -> None:
        if message._userid == 0xFFFFFFFF and not message._rolemask:
            message._userid, message._rolemask = OWNER, LOCAL_OWNER
        self.broker.world.queue.append((self.broker, self, message))


class Link(Peer):
    """The other end of an overlay connection: a message goes over it encoded."""

    def __init__(self, broker: FakeBroker, other: FakeBroker, is_parent: bool) -> None:
        super().__init__(other.rank, other.router.uuid, is_parent)
        self.broker = broker
        self.other = other

    def deliver(self, message: Message) -> None:
        peers = self.other.router
        back = peers.parent if peers.parent is not None and peers.parent.rank == self.broker.rank else None
        source = back or peers.children.get(self.broker.rank)
        if source is not None:
            self.broker.world.queue.append((self.other, source, decode_body(encode_body(message))))


class FakeBroker:
    """A router, its clients and a `broker` module that answers ping."""

    def __init__(self, world: FakeWorld, rank: int) -> None:
        self.world = world
        self.rank = rank
        self.router = Router(rank, uuid("b", rank), OWNER, lambda target: world.child_towards(rank, target))
        self.connector = uuid("k", rank)
        self.clients = Clients(self.router)
        self.ping = FakeModule(self, "broker", self.answer)

    def answer(self, request: Message) -> Message:
        route = "!".join(hop[:8].decode() for hop in reversed(request.routes or ()))
        text = {"route": route, "userid": request._userid, "rolemask": request._rolemask, "rank": self.rank}
        return request.response(json.dumps(text).encode() + b"\0")

    def client(self, userid: int = OWNER) -> FakeClient:
        roles = LOCAL_OWNER if userid == OWNER else GUEST_ROLES
        client = FakeClient(self, self.world.number(), userid, roles)
        self.clients.add(client)
        return client

    def clients_queue(self, client: FakeClient, message: Message) -> None:
        self.world.queue.append((self, client, message))

    def dispatch(self, deliveries: list[Delivery]) -> None:
        for endpoint, message in deliveries:
            endpoint.deliver(message)


class FakeWorld:
    """Brokers in a tree.

    Args:
        parents: the parent of each rank but 0, in order of the ranks.
    """

    def __init__(self, *parents: int) -> None:
        self.parents = (-1, *parents)
        self.queue: deque[tuple[FakeBroker, Endpoint, Message]] = deque()
        self._number = 0
        self.steps = 0
        self.brokers = [FakeBroker(self, rank) for rank in range(len(self.parents))]
        for broker, parent in zip(self.brokers[1:], parents, strict=True):
            broker.router.attach(Link(broker, self.brokers[parent], True))
            self.brokers[parent].router.attach(Link(self.brokers[parent], broker, False))

    def number(self) -> int:
        self._number += 1
        return self._number

    def child_towards(self, rank: int, target: int) -> int | None:
        if not 0 <= target < len(self.parents):
            return None
        while target > 0 and self.parents[target] != rank:
            target = self.parents[target]
        return target if target > 0 else None

    def run(self, limit: int = 10_000) -> None:
        """Works off all messages under way; AssertionError if they go round for ever."""
        while self.queue:
            limit -= 1
            assert limit, "messages circulate"
            broker, source, message = self.queue.popleft()
            if isinstance(source, FakeClient):
                if source.uuid in broker.clients.all:
                    broker.dispatch(broker.clients.receive(source, message))
            else:
                broker.dispatch(broker.router.receive(message, source))

    def cut(self, child: int) -> None:
        """The connection of a rank with its parent is lost; what is under way on it, too."""
        low, high = self.brokers[child], self.brokers[self.parents[child]]
        up, down = low.router.parent, high.router.children[child]
        assert up is not None
        self.queue = deque(entry for entry in self.queue if entry[1] not in (up, down))
        low.dispatch(low.router.detach(up, "overlay disconnect"))
        high.dispatch(high.router.detach(down))
        self.run()


def request(topic: str, nodeid: int = 0xFFFFFFFF, tag: int = 1, flags: int = 0, raw: bytes | None = b"{}\0") -> Message:
    return Message.request(topic.encode(), raw, nodeid, tag, flags)


def event(topic: str, flags: int = 0) -> Message:
    return Message.event(topic.encode(), None, flags)
