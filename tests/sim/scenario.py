"""What happens in a run: programs ask, publish, join groups and meet at barriers; the network and brokers fail; then
all is repaired, and what must hold is checked.

The rules (issue 5): every request is answered once, or fails; events come to every living rank in order and without
gaps; a barrier is never left before all have entered; groups converge; what nobody waits for is not kept.
"""

from __future__ import annotations

import errno
import random
import uuid
from collections.abc import Callable

from sim.services import Call, SimClient
from sim.world import Broken, Link, Node, World

from flux.constants import FLUX_MSGFLAG_STREAMING, FLUX_NODEID_ANY, FLUX_NODEID_UPSTREAM
from flux.message import Message
from fluxlet.modules.barrier import BarrierService

#: Seconds, in the simulated world, of trouble; and after that, of repair.
_TROUBLE = 8.0
_REPAIR = 12.0
#: Seconds that a connection stands still at most.
_LONGEST_HOLD = 2.0

_TOPOLOGIES = ("kary:1", "kary:2", "kary:3", "kary:16", "kary:0", "binomial", "mincrit:3", "custom")


class Barrier:
    """A barrier, as one who sees everything knows it.

    Args:
        name: of it.
        nprocs: how many are to enter.
        faults: how many connections had broken when the first of them entered.
    """

    def __init__(self, name: str, nprocs: int, faults: int) -> None:
        self.name = name
        self.nprocs = nprocs
        self.faults = faults
        self.entered: list[Entry] = []
        self.passed = 0


class Entry:
    """Somebody has entered a barrier."""

    def __init__(self, client: SimClient, since: float) -> None:
        self.client = client
        self.since = since
        self.call = Call("barrier.enter", FLUX_NODEID_ANY, False, None)

    @property
    def lost_at(self) -> float:
        """When it, or its broker, went; -1 if it has not."""
        ends = [end for end in (self.client.left_at, self.client.node.died_at) if end >= 0]
        return min(ends, default=-1.0)

    @property
    def waits(self) -> bool:
        """It is there, and has not been answered."""
        return not self.call.done and self.lost_at < 0


class Scenario:
    """One run. Raises Broken when a rule does not hold."""

    def __init__(self, seed: int, size: int | None = None, keep: int = 5000) -> None:
        chance = random.Random(f"scenario {seed}")
        if size is None:
            size = chance.choice((2, 3, 5, 8, 13, 16, 24, 32, 48, 64)) if seed % 20 else 256
        self.seed = seed
        topo = chance.choice(_TOPOLOGIES if size <= 64 else _TOPOLOGIES[1:])
        self.world = World(seed, size, topo, keep)
        self.world.slow = chance.choice((0.0001, 0.001, 0.02, 0.2))
        self.peaceful = chance.random() < 0.15
        """Nothing breaks in this run."""
        self.clients: list[SimClient] = []
        self.barriers: list[Barrier] = []
        self.published: dict[int, tuple[str, bytes | None]] = {}
        """Events by number, as the first rank has seen them."""
        self.observers: dict[Node, SimClient] = {}
        self._names = 0
        self.world.on_join = self._joined
        self._actions: list[tuple[float, Callable[[], None]]] = [
            (30, self._request),
            (12, self._publish),
            (6, self._group),
            (4, self._barrier),
            (3, self._client_leaves),
            (0 if self.peaceful else 1.5, self._kill),
            (0 if self.peaceful else 1.5, self._cut),
            (2, self._hold),
            (0 if self.peaceful else 0.5, self._goodbye),
        ]

    def run(self) -> World:
        """The whole of it."""
        world = self.world
        world.say(f"seed {self.seed}: {world.size} ranks, {world.topology.uri}, messages take {world.slow} s")
        with world.time():
            for rank in range(world.size):
                world.boot(rank)
            world.run(3.0 + (0.3 + 40 * world.slow) * world.topology.max_level)
            self._everybody_is_there()
            steps = 40 + min(world.size, 64) * 2 if world.size <= 1024 else 40
            for _ in range(steps):
                self._act()
                world.run(world.random.expovariate(steps / _TROUBLE))
            self._repair()
            self._check()
            self._end()
        return world

    # People.

    def _joined(self, node: Node) -> None:
        observer = SimClient(node, self._uuid(), events=True)
        observer.on_event = lambda event: self._seen(observer, event)
        self.observers[node] = observer

    def _uuid(self) -> bytes:
        return str(uuid.uuid4()).encode()

    def _client(self) -> SimClient:
        """Somebody: a new program, or one that is there already."""
        world = self.world
        there = [client for client in self.clients if not client.gone and client.node.alive]
        if there and world.random.random() < 0.6:
            return world.random.choice(there)
        client = SimClient(world.random.choice(world.living()), self._uuid())
        self.clients.append(client)
        return client

    # What they do.

    def _act(self) -> None:
        if not self.world.living():
            return
        weights = [weight for weight, _ in self._actions]
        _, action = self.world.random.choices(self._actions, weights)[0]
        action()
        self.world.settle()

    def _request(self) -> None:
        chance = self.world.random
        client = self._client()
        kind = chance.choice(("echo", "echo", "later", "stream", "never", "nosuch"))
        nodeid = chance.choice((FLUX_NODEID_ANY, *(chance.randrange(self.world.size) for _ in range(4)), 10**6))
        flags = FLUX_MSGFLAG_STREAMING if kind == "stream" else 0
        if chance.random() < 0.1:
            nodeid = FLUX_NODEID_UPSTREAM
        self._names += 1
        client.ask(f"sim.{kind}", {"id": self._names, "count": chance.randrange(5)}, nodeid, flags)

    def _publish(self) -> None:
        self._names += 1
        client = self._client()
        client.ask("event.publish", {"topic": f"sim.event.{client.uuid.decode()}.{self._names}", "flags": 0})

    def _group(self) -> None:
        client = self._client()
        name = self.world.random.choice(("a", "b", "c"))
        client.ask(f"groups.{self.world.random.choice(('join', 'join', 'leave'))}", {"name": name})

    def _barrier(self) -> None:
        """Some enter a barrier, at their time; or one too few of them."""
        chance = self.world.random
        nprocs = chance.choice((1, 2, 3, 5, 8))
        self._names += 1
        barrier = Barrier(f"b{self._names}", nprocs, self.world.faults)
        self.barriers.append(barrier)
        for _ in range(nprocs - (chance.random() < 0.2)):
            self.world.soon(0.1, lambda: self._enter(barrier))

    def _enter(self, barrier: Barrier) -> None:
        living = self.world.living()
        if not living:
            return
        client = SimClient(self.world.random.choice(living), self._uuid())
        self.clients.append(client)
        entry = Entry(client, self.world.now)
        barrier.entered.append(entry)

        def answered(call: Call) -> None:
            if not call.errnum:
                barrier.passed += 1
                if len(barrier.entered) < barrier.nprocs:
                    count = len(barrier.entered)
                    self.world.fail(f"barrier {barrier.name} was left when {count} of {barrier.nprocs} had entered")

        request = {"name": barrier.name, "nprocs": barrier.nprocs}
        entry.call = client.ask("barrier.enter", request, answered=answered)

    def _client_leaves(self) -> None:
        there = [client for client in self.clients if not client.gone and client.node.alive]
        if there:
            client = self.world.random.choice(there)
            self.world.say(f"{client.node.rank} client {client.uuid[:4].decode()} leaves")
            client.leave()
            self._client_lost(client)

    def _client_lost(self, client: SimClient) -> None:
        """Barriers that it waited at are over."""
        self.world.faults += any(client is entry.client for barrier in self.barriers for entry in barrier.entered)

    # What befalls them.

    def _some_rank(self) -> int:
        """Not the first one: with it the instance ends."""
        return self.world.random.randrange(1, self.world.size)

    def _kill(self) -> None:
        rank = self._some_rank()
        self.world.kill(rank)
        self.world.soon(2.0, lambda: self.world.boot(rank))

    def _cut(self) -> None:
        link = self._link()
        if link is not None:
            link.cut(self.world.random.random() < 0.5)

    def _hold(self) -> None:
        link = self._link()
        if link is not None:
            self.world.say(f"hold {link.child.rank}-{link.parent.rank}")
            link.hold(self.world.random.uniform(0.01, _LONGEST_HOLD))

    def _link(self) -> Link | None:
        node = self.world.nodes[self._some_rank()]
        return node.link if node is not None else None

    def _goodbye(self) -> None:
        """A rank leaves in good order; it has no children, as those leave before it does."""
        node = self.world.nodes[self._some_rank()]
        if node is not None and node.online and not node.neighbours.children:
            self.world.say(f"goodbye of {node.rank}")
            self.world.faults += 1
            node.neighbours.say_goodbye()

    # In the end.

    def _everybody_is_there(self) -> None:
        missing = [rank for rank, node in enumerate(self.world.nodes) if node is None or not node.online]
        if missing:
            raise Broken(f"ranks {missing[:10]} are not part of the instance")

    def _repair(self) -> None:
        """Nothing breaks any more; everybody comes back; what was left open is answered."""
        world = self.world
        world.say("repair")
        for _ in range(40):
            world.run(_REPAIR / 4 + 40 * world.slow * world.topology.max_level)
            for rank in range(world.size):
                world.boot(rank)
            if len(world.living()) == world.size:
                break
        world.run(_REPAIR)
        self._everybody_is_there()
        gone = {client.uuid for client in self.clients if client.gone or not client.node.alive}
        for node in world.living():
            assert node.service is not None
            if node.service.clients() & gone:
                node.fail("requests of clients that are gone are kept")
            node.service.release()
        world.run(_REPAIR + 40 * world.slow * world.topology.max_level)
        # A last event: who has missed one before finds out now.
        self.observers[world.living()[0]].ask("event.publish", {"topic": "sim.last", "flags": 0})
        world.run(5.0 + 40 * world.slow * world.topology.max_level)

    def _end(self) -> None:
        """The first rank is lost: so is the instance, and nobody waits for it for ever."""
        world = self.world
        living = world.living()
        waiting = []
        for node in world.random.sample(living[1:], min(len(living) - 1, 20)):
            client = SimClient(node, self._uuid())
            waiting += [client.ask("sim.never", {"id": 0}, nodeid) for nodeid in (0, self._some_rank())]
            waiting.append(client.ask("barrier.enter", {"name": "last", "nprocs": world.size}))
        world.run(world.random.uniform(0.0, 1.0))
        world.kill(0)
        world.run(5.0 + (0.1 + 40 * world.slow) * world.topology.max_level)
        left = [rank for rank, node in enumerate(world.nodes) if node is not None]
        if left:
            raise Broken(f"ranks {left[:10]} have outlived rank 0")
        for call in waiting:
            if not call.done and call.nodeid == 0:
                raise Broken(f"{call.topic} to rank 0 was never answered")

    def _seen(self, observer: SimClient, event: Message) -> None:
        """An event has come to a rank."""
        number = event.aux1
        entry = (event.topic, event.raw)
        if observer.sequence and number != observer.sequence + 1:
            observer.node.fail(f"event {number} came after event {observer.sequence}")
        observer.sequence = number
        if self.published.setdefault(number, entry) != entry:
            observer.node.fail(f"event {number} is not what others have seen")

    def _check(self) -> None:
        self._check_requests()
        self._check_events()
        self._check_barriers()
        self._check_groups()
        self._check_memory()

    def _check_requests(self) -> None:
        waiting = {id(entry.call) for barrier in self.barriers for entry in barrier.entered}
        for client in (*self.clients, *self.observers.values()):
            if client.gone or not client.node.alive:
                continue
            for call in client.calls.values():
                if not call.done and id(call) not in waiting:
                    client.node.fail(f"{call.topic} to {call.nodeid} was never answered")
                if call.topic == "sim.echo" and call.payload is not None:
                    rank = call.payload["rank"]
                    if call.nodeid not in (FLUX_NODEID_ANY, FLUX_NODEID_UPSTREAM, rank):
                        client.node.fail(f"sim.echo to {call.nodeid} was answered by {rank}")
                if call.topic == "sim.nosuch" and call.errnum not in (errno.ENOSYS, errno.EHOSTUNREACH):
                    client.node.fail(f"sim.nosuch was answered with {call.errnum}")

    def _check_events(self) -> None:
        living = self.world.living()
        last = living[0].broker.router.sequence
        for node in living:
            if self.observers[node].sequence != last:
                node.fail(f"the last event seen is {self.observers[node].sequence}, and there was {last}")
        order: dict[str, int] = {}
        for number in sorted(self.published):
            words = (self.published[number][0] or "").split(".")
            if len(words) == 4 and words[1] == "event":
                if order.get(words[2], 0) >= int(words[3]):
                    raise Broken(f"events of client {words[2]} are out of order at event {number}")
                order[words[2]] = int(words[3])

    def _check_barriers(self) -> None:
        faults = self.world.faults
        for barrier in self.barriers:
            if len(barrier.entered) == barrier.nprocs and faults == barrier.faults and barrier.passed != barrier.nprocs:
                raise Broken(f"barrier {barrier.name}: {barrier.passed} of {barrier.nprocs} passed, and nothing broke")
            waiting = [entry for entry in barrier.entered if entry.waits]
            if len(waiting) == barrier.nprocs:
                raise Broken(f"barrier {barrier.name} is never over: all have entered")
            for entry in waiting:
                # Who is lost while others wait ends it; unless it had entered so late that nobody had heard of it.
                for lost in barrier.entered:
                    if lost.lost_at > max(entry.since, lost.since) + self._news and not lost.call.done:
                        entry.client.node.fail(f"barrier {barrier.name} is never over: {lost.client.node.rank} is lost")
        # Who still waits, waits for somebody who may come: now they do.
        waiting_in = [barrier for barrier in self.barriers if any(entry.waits for entry in barrier.entered)]
        for barrier in waiting_in:
            for _ in range(barrier.nprocs - sum(entry.waits for entry in barrier.entered)):
                self._enter(barrier)
        self.world.run(5.0 + 40 * self.world.slow * self.world.topology.max_level)
        for barrier in waiting_in:
            for entry in barrier.entered:
                if entry.waits:
                    entry.client.node.fail(f"barrier {barrier.name} is never over, though all have come")

    @property
    def _news(self) -> float:
        """Seconds within which everybody who is to hear of something has."""
        world = self.world
        return 1.0 + _LONGEST_HOLD * world.topology.max_level + 20 * world.slow * world.topology.max_level

    def _check_groups(self) -> None:
        living = self.world.living()
        names = {name for node in living for name in self._groups_of(node).groups}
        for name in names:
            members = {node.rank for node in living if name in self._groups_of(node).joined}
            for node in living:
                below = set(self.world.topology.below(node.rank)) if node.rank else members
                known = set(self._groups_of(node).groups.get(name, ()))
                if known != members & below:
                    node.fail(
                        f"group {name} has members {sorted(known)} here, and should have {sorted(members & below)}"
                    )

    @staticmethod
    def _groups_of(node: Node):  # type: ignore[no-untyped-def]  # of the module
        return node.broker.modules["groups"].instance  # type: ignore[union-attr]

    def _check_memory(self) -> None:
        """Nothing is kept for those who are gone."""
        living = self.world.living()
        clients = (*self.clients, *self.observers.values())
        here = {client.uuid for client in clients if client.node.alive and not client.gone}
        here |= {module.uuid for node in living for module in node.broker.modules.values()}
        for node in living:
            router = node.broker.router
            for peer in (router.parent, *router.children.values()):
                open_requests = sum(map(len, peer.pending.values())) if peer is not None and peer.pending else 0
                if open_requests:
                    node.fail(f"{open_requests} requests are kept that nobody waits for")
            for child in node.neighbours.children.values():
                kept = {routes[-1] for routes in child.notices if routes} - here
                if kept:
                    node.fail(f"notices of {len(kept)} who are gone are kept")
            barriers = node.broker.modules["barrier"].instance
            assert isinstance(barriers, BarrierService)
            left = sorted({name for _, name in barriers.barriers} | {str(who) for who in barriers._of_sender})
            if left:
                node.fail(f"barriers are kept that are over: {left}")
