"""Neighbours linked in memory, without sockets or a clock: joining, parting, losses, silence (spec 04, 2.3 to 2.8)."""

from __future__ import annotations

import errno
from collections import deque

import pytest

from flux.constants import FLUX_NODEID_ANY
from flux.message import Message
from fluxlet.broker.router import Delivery, Endpoint, Router
from fluxlet.overlay.framing import DISCONNECT, control, from_parts, to_parts
from fluxlet.overlay.greeting import version_text
from fluxlet.overlay.neighbours import Neighbours
from fluxlet.overlay.topology import Topology


def uuid(rank: int, life: int = 0) -> bytes:
    return f"{rank:08d}-{life:04d}-4000-8000-000000000000".encode()


class Module(Endpoint):
    """A service that keeps what it gets."""

    def __init__(self, router: Router, name: bytes) -> None:
        super().__init__(name + b"-module", (name + b"-module",))
        self.inbox: list[Message] = []
        router.attach(self)
        router.services[name] = self

    def deliver(self, message: Message) -> None:
        self.inbox.append(message)


class Node:
    """One broker; a `Port` that puts everything on the world's wire."""

    def __init__(self, world: World, rank: int, life: int = 0) -> None:
        self.world = world
        self.rank = rank
        self.router = Router(rank, uuid(rank, life), 0, lambda target: world.topology.towards(rank, target))
        self.neighbours = Neighbours(self.router, world.topology, world.hosts, self)
        self.told: list[object] = []
        self.service = Module(self.router, b"service")
        self.alive = True

    # Port.

    def to_parent(self, message: Message) -> None:
        self.neighbours.sent_to_parent()
        self.world.wire.append((self.world.topology.parent(self.rank), self.router.uuid, to_parts(message)))

    def to_child(self, uuid: bytes, message: Message) -> None:
        self.world.wire.append((uuid, None, to_parts(message)))

    def submit(self, source: Endpoint, message: Message) -> None:
        self.route(self.router.receive(message, source))

    def route(self, deliveries: list[Delivery]) -> None:
        for endpoint, message in deliveries:
            endpoint.deliver(message)

    def log(self, severity: int, text: str) -> None:
        self.told.append(text)

    def child_is(self, rank: int, status: str, error: str) -> None:
        self.told.append((rank, status, error))

    def child_refused(self, rank: int, error: str) -> None:
        self.told.append((rank, "refused", error))

    def child_is_torpid(self, rank: int, torpid: bool) -> None:
        self.told.append((rank, torpid))

    def parent_found(self) -> None:
        self.told.append("found")

    def parent_lost(self) -> None:
        self.told.append("lost")

    def said_goodbye(self) -> None:
        self.told.append("goodbye")

    def take(self) -> list[object]:
        told, self.told = self.told, []
        return told


class World:
    """Nodes and the wire between them; what is on it arrives in order."""

    def __init__(self, size: int, shape: str = "kary:1") -> None:
        self.topology = Topology.parse(shape, size)
        self.hosts = [f"n{rank}" for rank in range(size)]
        self.wire: deque[tuple[int | bytes, bytes | None, list[bytes]]] = deque()
        self.now = 0.0
        self.nodes = {rank: Node(self, rank) for rank in range(size)}
        for rank in range(1, size):
            self.join(rank)

    def join(self, rank: int) -> None:
        self.nodes[rank].neighbours.say_hello(self.hosts[rank], "full", self.now)
        self.run()

    def run(self) -> None:
        limit = 10_000
        while self.wire:
            limit -= 1
            assert limit
            to, source, parts = self.wire.popleft()
            message = from_parts(parts)
            if isinstance(to, int):
                assert source is not None
                if self.nodes[to].alive:
                    self.nodes[to].neighbours.from_child(source, message, self.now)
            else:
                for node in self.nodes.values():
                    if node.router.uuid == to and node.alive:
                        node.neighbours.from_parent(message, self.now)

    def kill(self, rank: int) -> None:
        node = self.nodes[rank]
        node.alive = False
        parent = self.topology.parent(rank)
        if parent >= 0:
            self.nodes[parent].neighbours.child_gone(node.router.uuid)
        for child in self.topology.children(rank):
            self.nodes[child].neighbours.parent_gone()
        self.run()

    def request(self, at: int, to: int, topic: str = "service.x", tag: int = 7) -> None:
        """A request of the service of a rank, to that of another."""
        node = self.nodes[at]
        message = Message.request(topic.encode(), None, to, tag)
        message.routes = ()
        node.route(node.router.receive(message, node.service))
        self.run()

    def tick(self, seconds: float, torpid_min: float = 5.0, torpid_max: float = 30.0) -> None:
        self.now += seconds
        for node in self.nodes.values():
            if node.alive:
                node.neighbours.tick(self.now, torpid_min, torpid_max)
        self.run()


def test_a_chain_joins_and_says_so() -> None:
    world = World(3)
    assert world.nodes[1].take() == [
        f"hello parent 0 {uuid(0).decode()}",
        "found",
        "accepting connection from n2 (rank 2) status full",
        (2, "full", ""),
    ]
    world.request(2, 0)
    (request,) = world.nodes[0].service.inbox
    assert [hop[:8] for hop in request.routes or ()][1:3] == [b"00000001", b"00000002"]


def test_what_was_asked_of_a_lost_child_fails_and_services_hear_of_its_clients() -> None:
    world = World(3)
    world.request(2, 0, tag=1)
    world.request(0, 2, tag=2)
    root = world.nodes[0]
    assert [message.topic for message in root.service.inbox] == ["service.x"]
    world.kill(1)
    assert [(message.topic, message.aux1) for message in root.service.inbox[1:]] == [
        ("service.disconnect", 0),
        ("service.x", 113),
    ]
    assert root.service.inbox[1].routes == root.service.inbox[0].routes
    assert root.take()[-2:] == [
        "n1 (rank 1) failed and severed contact with 1 other nodes",
        (1, "lost", "lost connection"),
    ]
    assert world.nodes[2].take()[-2:] == ["n1 (rank 1) lost connection", "lost"]
    world.request(0, 2, tag=3)
    assert root.service.inbox[-1].aux1 == 113


def test_who_has_left_a_service_is_not_reported_again() -> None:
    world = World(2)
    world.request(1, 0, tag=1)
    node = world.nodes[1]
    notice = Message.request(b"service.disconnect", None, 0, 0, 4)
    notice.routes = ()
    node.route(node.router.receive(notice, node.service))
    world.run()
    root = world.nodes[0]
    assert [message.topic for message in root.service.inbox] == ["service.x", "service.disconnect"]
    assert not next(iter(root.neighbours.children.values())).notices
    world.kill(1)
    assert len(root.service.inbox) == 2


def test_a_goodbye_is_answered_and_the_last_word() -> None:
    world = World(2)
    root, node = world.nodes[0], world.nodes[1]
    root.take(), node.take()
    assert node.neighbours.say_goodbye()
    assert not node.neighbours.say_goodbye()
    world.run()
    assert node.take() == ["goodbye"]
    assert root.take() == [(1, "offline", "administrative shutdown")]
    node.neighbours.report_status("degraded")
    node.neighbours.parent_gone()
    assert node.take() == []
    assert not world.wire


def test_a_broker_that_is_about_to_go_lets_nobody_in() -> None:
    world = World(2)
    world.kill(1)
    world.nodes[0].neighbours.accepting = False
    world.nodes[1] = Node(world, 1, life=1)
    world.join(1)
    assert world.nodes[1].take() == ["n0 (rank 0) sent disconnect control message", "lost"]


def test_who_comes_back_has_another_identity() -> None:
    world = World(2)
    world.kill(1)
    world.nodes[1] = Node(world, 1, life=0)
    world.join(1)
    assert "overlay.hello: rank 1 is lost: its uuid cannot be used again" in world.nodes[1].take()
    world.nodes[1] = Node(world, 1, life=1)
    world.join(1)
    assert "found" in world.nodes[1].take()
    world.request(0, 1)
    assert world.nodes[1].service.inbox


def test_a_second_one_of_a_rank_replaces_the_first() -> None:
    world = World(2)
    old = world.nodes[1]
    world.request(0, 1, tag=4)
    world.nodes[1] = Node(world, 1, life=1)
    world.join(1)
    root = world.nodes[0]
    assert root.service.inbox[-1].aux1 == 113
    assert "n1 (rank 1) reconnected after crash, dropping old connection state" in root.take()
    root.neighbours.from_child(old.router.uuid, Message.request(b"service.x", None, 0, 1), 0.0)
    to, _, parts = world.wire.popleft()
    assert to == old.router.uuid
    assert parts == to_parts(control(DISCONNECT))


def test_silence_makes_torpid_and_a_word_ends_it() -> None:
    world = World(2)
    root = world.nodes[0]
    root.take()
    for _ in range(4):
        world.tick(10.0)  # who is there says so
    assert root.take() == []
    world.nodes[1].alive = False
    world.tick(29.0)
    world.tick(2.0)
    assert root.take() == ["broker on n1 (rank 1) has been unresponsive for 31s", (1, True)]
    world.nodes[1].alive = True
    world.tick(1.0)
    world.tick(6.0)
    assert root.take() == ["broker on n1 (rank 1) is responsive now", (1, False)]
    world.nodes[1].alive = False
    world.tick(40.0)
    root.take()
    world.tick(1.0, torpid_max=0.0)
    assert root.take()[-1] == (1, False)


def test_a_status_that_changed_before_the_welcome_is_told_after_it() -> None:
    world = World(2)
    world.kill(1)
    node = world.nodes[1] = Node(world, 1, life=1)
    world.nodes[0].take()
    node.neighbours.say_hello("n1", "partial", 0.0)
    node.neighbours.report_status("full")
    world.run()
    assert [entry for entry in world.nodes[0].take() if isinstance(entry, tuple)] == [
        (1, "partial", ""),
        (1, "full", ""),
    ]


def test_events_that_are_missing_are_mentioned() -> None:
    world = World(2)
    node = world.nodes[1]
    node.take()
    for number in (5, 6, 8, 8, 12):
        event = Message.event(b"a", None)
        event.aux1 = number
        node.neighbours.from_parent(event, 0.0)
    assert node.take() == ["lost event 7", "duplicate event 8", "lost events 9-11"]


@pytest.mark.parametrize("kind", range(2))
def test_what_a_child_that_is_lost_has_sent_before_counts(kind: int) -> None:
    world = World(2)
    if kind:
        world.nodes[1].neighbours.report_status("degraded")
        world.run()
    assert (1, "degraded", "") in world.nodes[0].told if kind else True
    world.nodes[0].neighbours.from_child(uuid(1), control(1, 4), 0.0)
    assert world.nodes[0].take()[-1] == (1, "lost", "lost connection")
    assert not world.nodes[0].neighbours.children


def test_versions_are_read_as_they_are_written() -> None:
    assert version_text(0x5800) == "0.88.0"
    assert FLUX_NODEID_ANY == 0xFFFFFFFF


def test_brokers_of_ours_find_out_that_they_may_pack() -> None:
    world = World(1)
    world.topology = Topology.parse("kary:1", 2)
    world.hosts.append("n1")
    root = world.nodes[0] = Node(world, 0)
    node = world.nodes[1] = Node(world, 1)
    packing: list[bytes | None] = []
    root.neighbours.pack = node.neighbours.pack = packing.append
    world.join(1)
    assert packing == [node.router.uuid, None]
    # One that does not know of it takes no offence.
    world.nodes[1] = Node(world, 1, life=1)
    world.nodes[1].neighbours.pack = packing.append
    root.neighbours.pack = None
    world.join(1)
    assert len(packing) == 2
    assert "found" in world.nodes[1].take()


def test_a_hello_that_is_nested_beyond_all_measure_is_refused() -> None:
    world = World(3)
    hello = Message.request(b"overlay.hello", b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\0", FLUX_NODEID_ANY)
    hello.routes = ()
    world.nodes[0].neighbours.from_child(b"stranger", hello, 0.0)
    to, _, parts = world.wire.pop()
    assert to == b"stranger"
    assert from_parts(parts).aux1 == errno.EPROTO
