"""Barriers whose names are in use again before all ranks have heard that they were over."""

from __future__ import annotations

import errno
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
    return len(services) == 3 and not any(
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
