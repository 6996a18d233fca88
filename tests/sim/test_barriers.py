"""Barriers whose names are in use again before all ranks have heard that they were over.

First the ways in which that can happen, one by one; then teams whose members enter again as soon as they are answered,
on a network that stands still every now and then, while members and brokers are lost.
"""

from __future__ import annotations

import errno
import random
import uuid
from collections.abc import Iterator

import pytest
from sim.services import Call, SimClient
from sim.world import Link, Node, World

from fluxlet.modules import barrier
from fluxlet.modules.barrier import BarrierService


@pytest.fixture
def world() -> Iterator[World]:
    """Ranks 0, 1 and 2, one below the other."""
    with World(1, 3, "kary:1").time() as world:
        for rank in range(3):
            world.boot(rank)
        world.run(5.0)
        yield world


def node(world: World, rank: int) -> Node:
    found = world.nodes[rank]
    assert found is not None
    return found


def client(world: World, rank: int) -> SimClient:
    return SimClient(node(world, rank), str(uuid.uuid4()).encode())


def enter(who: SimClient, nprocs: int, name: str = "b") -> Call:
    return who.ask("barrier.enter", {"name": name, "nprocs": nprocs})


def link(world: World, rank: int) -> Link:
    found = node(world, rank).link
    assert found is not None
    return found


def delay(world: World, rank: int, seconds: float, upwards: bool = False) -> None:
    """What goes from a rank's parent to it comes late, or what it sends to its parent; the other way nothing is."""
    link(world, rank)._arrivals[0 if upwards else 1] = world.now + seconds


def outcome(*calls: Call) -> list[int | None]:
    """The error number of each, None if it waits."""
    return [call.errnum if call.done else None for call in calls]


def nothing_left(world: World) -> bool:
    services = [member.broker.modules["barrier"].instance for member in world.living()]
    return len(services) == world.size and not any(
        service.barriers or service._of_sender for service in services if isinstance(service, BarrierService)
    )


def test_who_enters_one_that_is_over_already_is_not_counted_for_the_next(world: World) -> None:
    gone = client(world, 0)
    enter(gone, 3)
    world.run(1.0)
    delay(world, 2, 1.0)
    gone.leave()
    late = enter(client(world, 2), 3)  # to its broker it is the first barrier that is open
    world.run(0.5)
    again = [enter(client(world, 1), 3) for _ in range(2)]
    world.run(1.0)
    assert outcome(late, *again) == [errno.ECONNABORTED, None, None]
    assert outcome(enter(client(world, 2), 3)) == [None]
    world.run(1.0)
    assert outcome(*again) == [0, 0]
    assert nothing_left(world)


def test_it_can_be_ended_by_two_brokers_at_once(world: World) -> None:
    gone = [client(world, rank) for rank in (2, 1)]
    for one in gone:
        enter(one, 3)
    waits = enter(client(world, 0), 3)
    world.run(0.0)
    delay(world, 1, 1.0, upwards=True)
    for one in gone:
        one.leave()
    late = enter(client(world, 2), 3)
    world.run(2.0)
    assert outcome(waits, late) == [errno.ECONNABORTED] * 2
    assert nothing_left(world)
    calls = [enter(client(world, rank), 3) for rank in (0, 1)]
    world.run(1.0)
    assert outcome(*calls) == [None, None]
    calls.append(enter(client(world, 2), 3))
    world.run(1.0)
    assert outcome(*calls) == [0, 0, 0]
    assert nothing_left(world)


def test_a_broker_that_has_come_later_counts_for_a_name_that_was_used_before(world: World) -> None:
    calls = [enter(client(world, rank), 3) for rank in range(3)]
    world.run(1.0)
    assert outcome(*calls) == [0, 0, 0]
    world.kill(2)
    world.run(1.0)
    world.boot(2)
    world.run(5.0)
    calls = [enter(client(world, rank), 3) for rank in range(3)]
    world.run(1.0)
    assert outcome(*calls) == [0, 0, 0]
    assert nothing_left(world)


def test_who_has_not_heard_that_others_are_over_is_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    # Of those that are over, only the last is remembered: of the others nobody knows which they were.
    monkeypatch.setattr(barrier, "_REMEMBERED", 1)
    delay(world, 2, 1.0)
    others = [enter(client(world, 0), 2, name) for name in ("c", "d", "e") for _ in range(2)]
    waits = enter(client(world, 2), 2)
    world.run(0.5)
    last = enter(client(world, 1), 2)
    world.run(0.2)
    assert outcome(*others, waits, last) == [0] * 6 + [None, None]
    world.run(1.0)
    assert outcome(waits, last) == [0, 0]
    assert nothing_left(world)
    services = [member.broker.modules["barrier"].instance for member in world.living()]
    assert [len(service._over) for service in services if isinstance(service, BarrierService)] == [1, 1, 1]


#: Seconds within which everybody hears of a loss.
_NEWS = 6.0


class Member:
    """A place in a team, and who has it: it enters again and again.

    Args:
        team: all of its places.
        name: of the barrier.
    """

    def __init__(self, world: World, team: list[Member], name: str) -> None:
        self.world = world
        self.team = team
        self.name = name
        self.passed = 0
        self.tries: list[tuple[float, float, int]] = []
        """From when it has waited, until when, and with which outcome, -1: it was lost."""
        self.since = -1.0
        """When it has entered; negative: it is not waiting."""
        self.stops = False
        self.lost = False
        self.client = self._somebody()

    def _somebody(self) -> SimClient:
        return client(self.world, self.world.random.choice(self.world.living()).rank)

    def enter(self) -> None:
        if not self.stops and not self.lost and self.client.node.alive:
            self.since = self.world.now
            request = {"name": self.name, "nprocs": len(self.team)}
            self.client.ask("barrier.enter", request, answered=self._answered)

    def _answered(self, call: Call) -> None:
        if not call.errnum:
            self.passed += 1
            for other in self.team:
                waits = other.since >= 0
                if not waits and not any(self._together(end, how) for _, end, how in other.tries):
                    self.client.node.fail(f"barrier {self.name} was left while another was not there")
        self.tries.append((self.since, self.world.now, call.errnum))
        self.since = -1.0
        self.world.soon(0.05, self.enter)

    def _together(self, end: float, outcome: int) -> bool:
        """True if one who has waited until then may have passed with us; a loss is one when all have heard of it."""
        return end >= self.since if not outcome else outcome < 0 and end + _NEWS >= self.since

    def lose(self) -> None:
        """Its client goes, or is gone with its broker; another comes when all have heard of that."""
        if not self.lost:
            self.lost = True
            if self.client.node.alive:
                self.client.leave()
            if self.since >= 0:
                self.tries.append((self.since, self.world.now, -1))
            self.since = -1.0
            self.world.at(self.world.now + _NEWS, self._replace)

    def _replace(self) -> None:
        self.lost = False
        self.client = self._somebody()
        self.enter()


def trouble(world: World, chance: random.Random, members: list[Member]) -> None:
    """The network stands still somewhere, or somebody is lost."""
    rank, what = chance.randrange(1, world.size), chance.random()
    found = world.nodes[rank]
    if what < 0.3:
        chance.choice(members).lose()
    elif what < 0.4:
        world.kill(rank)
    elif found is not None and found.link is not None:
        found.link.hold(chance.uniform(0.01, 0.3))


@pytest.mark.parametrize("seed", range(12))
def test_teams_meet_again_and_again(seed: int) -> None:
    chance = random.Random(f"teams {seed}")
    size = chance.choice((2, 3, 5, 8, 13))
    with World(seed, size, chance.choice(("kary:1", "kary:2", "binomial", "custom"))).time() as world:
        world.slow = chance.choice((0.0001, 0.001, 0.01))
        for rank in range(size):
            world.boot(rank)
        world.run(10.0)
        teams: list[list[Member]] = []
        for number in range(3):
            team: list[Member] = []
            team += [Member(world, team, f"team{number}") for _ in range(chance.choice((2, 3, 6)))]
            teams.append(team)
        members = [member for team in teams for member in team]
        for member in members:
            member.enter()
        for _ in range(20):
            world.run(chance.expovariate(4.0))
            trouble(world, chance, members)
            for member in members:
                if not member.client.node.alive:
                    member.lose()
        for _ in range(5):
            world.run(3.0)
            for rank in range(size):
                world.boot(rank)
            for member in members:
                if not member.client.node.alive:
                    member.lose()
        world.run(10.0)
        before = [member.passed for member in members]
        world.run(5.0)
        assert all(member.passed > passed + 1 for member, passed in zip(members, before, strict=True))
        for member in members:
            member.stops = True
        world.run(5.0)
        for member in members:
            member.client.leave()
        world.run(10.0)
        assert nothing_left(world)
