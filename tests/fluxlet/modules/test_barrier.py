"""The module `barrier` (spec 04, 4.2)."""

from __future__ import annotations

import errno
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import GUEST, BrokerThread, ask, error_of, outcome, receive, tell, until
from linked import LinkedInstance

import flux
from flux.message import Message
from fluxlet.modules.barrier import BarrierService

Open = Callable[[], flux.Flux]


@pytest.fixture
def connect(broker_thread: BrokerThread) -> Iterator[Open]:
    """Opens handles that are closed after the test."""
    opened: list[flux.Flux] = []

    def connect() -> flux.Flux:
        opened.append(broker_thread.open())
        return opened[-1]

    yield connect
    for handle in opened:
        handle.handle = None


def enter(handle: flux.Flux, nprocs: int, name: str = "b") -> Any:
    return handle.rpc("barrier.enter", {"name": name, "nprocs": nprocs})


def entered(broker: BrokerThread) -> dict[str, int]:
    """How many have entered each open barrier."""
    service = broker.broker.modules["barrier"].instance
    assert isinstance(service, BarrierService)
    return broker.call(lambda: {name: barrier.entered for (_, name), barrier in service.barriers.items()})


def nothing_left(broker: BrokerThread) -> bool:
    service = broker.broker.modules["barrier"].instance
    assert isinstance(service, BarrierService)
    return broker.call(lambda: not (service.barriers or service._of_sender))


def test_all_are_released_by_the_last(broker_thread: BrokerThread, connect: Open) -> None:
    first = [enter(connect(), 3) for _ in range(2)]
    until(lambda: entered(broker_thread) == {"b": 2})
    assert not any(future.is_ready() for future in first)
    last = enter(connect(), 3)
    assert [future.get() for future in (*first, last)] == [None] * 3
    assert nothing_left(broker_thread)


def test_a_barrier_of_one(connect: Open) -> None:
    assert enter(connect(), 1).get() is None


def test_a_name_can_be_used_again_and_again(connect: Open, broker_thread: BrokerThread) -> None:
    handles = [connect() for _ in range(4)]
    for _ in range(25):
        futures = [enter(handle, 4) for handle in random.sample(handles, 4)]
        assert [future.get() for future in futures] == [None] * 4
    assert nothing_left(broker_thread)


def test_barriers_of_different_users_and_names_are_different(connect: Open, broker_thread: BrokerThread) -> None:
    a, b, guest = connect(), connect(), connect()
    waiting = enter(a, 2)
    other_name = enter(b, 2, "c")
    tell(guest, "barrier.enter", {"name": "b", "nprocs": 2}, matchtag=5, **GUEST)
    until(lambda: entered(broker_thread) == {"b": 1, "c": 1})  # of the two called b, one shows
    assert not waiting.is_ready()
    assert not other_name.is_ready()


def test_entering_twice_aborts_it_for_all(broker_thread: BrokerThread, connect: Open) -> None:
    a, b = connect(), connect()
    other, first = enter(b, 3), enter(a, 3)
    until(lambda: entered(broker_thread) == {"b": 2})
    second = enter(a, 3)
    assert error_of(second.get)[0] == errno.EEXIST
    assert error_of(first.get)[0] == errno.ECONNABORTED
    assert error_of(other.get)[0] == errno.ECONNABORTED
    assert nothing_left(broker_thread)


def test_a_client_that_goes_aborts_it_for_the_others(broker_thread: BrokerThread, connect: Open) -> None:
    a, b = connect(), connect()
    waiting = [enter(a, 3), enter(a, 3, "c")]
    gone = [enter(b, 3), enter(b, 3, "c"), enter(b, 2, "alone")]
    until(lambda: entered(broker_thread) == {"b": 2, "c": 2, "alone": 1})
    del gone
    b.handle = None
    assert [error_of(future.get)[0] for future in waiting] == [errno.ECONNABORTED] * 2
    until(lambda: nothing_left(broker_thread))


def test_one_who_comes_with_another_number_is_refused_alone(broker_thread: BrokerThread, connect: Open) -> None:
    a, b, c = connect(), connect(), connect()
    waiting = enter(a, 2)
    until(lambda: entered(broker_thread) == {"b": 1})
    errnum, text = error_of(enter(b, 3).get)
    assert (errnum, text) == (errno.EINVAL, "barrier b is for 2 processes, not 3")
    assert error_of(enter(b, 1).get)[0] == errno.EINVAL
    assert enter(c, 2).get() is None
    assert waiting.get() is None


@pytest.mark.parametrize("nprocs", [0, -1])
def test_a_barrier_for_nobody(handle: flux.Flux, nprocs: int) -> None:
    assert error_of(enter(handle, nprocs).get)[0] == errno.EINVAL


@pytest.mark.parametrize("payload", [None, {}, {"name": "b"}, {"name": 1, "nprocs": 1}, {"name": "b", "nprocs": "1"}])
def test_bad_requests(handle: flux.Flux, payload: Any) -> None:
    assert ask(handle, "barrier.enter", payload).aux1 == errno.EPROTO


def test_the_keys_of_old_releases_are_ignored(handle: flux.Flux) -> None:
    request = {"name": "b", "count": 1, "nprocs": 1, "internal": False}
    assert outcome(ask(handle, "barrier.enter", request, **GUEST)) == (0, None)


def test_guests_do_not_speak_for_brokers(handle: flux.Flux) -> None:
    update = {"name": "b", "count": 1, "nprocs": 2, "owner": 0}
    assert ask(handle, "barrier.update", update, **GUEST).aux1 == errno.EPERM


@pytest.mark.parametrize("payload", [None, "x", {"name": "b"}, {"name": "b", "owner": 0, "errnum": "0"}])
def test_a_bad_exit_event_harms_nobody(
    broker_thread: BrokerThread, connect: Open, handle: flux.Flux, payload: Any
) -> None:
    waiting = enter(connect(), 2)
    handle.event_send("barrier.exit", payload)
    assert enter(connect(), 2).get() is None
    assert waiting.get() is None


def test_a_guest_cannot_end_a_barrier(broker_thread: BrokerThread, connect: Open, handle: flux.Flux) -> None:
    waiting = enter(connect(), 2)
    forged = {"name": "b", "owner": os.getuid(), "errnum": 0}
    exit_event = Message.event(b"barrier.exit", json.dumps(forged).encode() + b"\0")
    exit_event.userid, exit_event.rolemask = 1234, 2
    until(lambda: entered(broker_thread) == {"b": 1})
    handle.event_subscribe("barrier.exit")
    handle.send(exit_event)
    assert receive(handle).topic == "barrier.exit"
    assert entered(broker_thread) == {"b": 1}
    assert not waiting.is_ready()


def test_thousands_enter(broker_thread: BrokerThread) -> None:
    # One connection plays them all: to the service, a sender is the last of its routes.
    count = 3000
    with broker_thread.open() as handle:
        for number in range(count):
            request = Message.request(b"barrier.enter", b'{"name":"b","nprocs":%d}\0' % count, matchtag=number + 1)
            request.routes = (b"client-%d" % number,)
            handle.send(request)
        released = [receive(handle) for _ in range(count)]
    assert {message.aux2 for message in released} == set(range(1, count + 1))
    assert {(message.aux1, len(message.routes or ())) for message in released} == {(0, 1)}
    assert nothing_left(broker_thread)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[tuple[LinkedInstance, Callable[[int], flux.Flux]]]:
    """Ranks 0 to 4: 0 with children 1 and 2, and 3 and 4 below 1; and a function that connects to a rank."""
    instance = LinkedInstance(str(tmp_path), 0, 0, 1, 1)
    instance.start()
    opened: list[flux.Flux] = []

    def connect(rank: int) -> flux.Flux:
        opened.append(flux.Flux(f"local://{tmp_path}/local-{rank}"))
        return opened[-1]

    yield instance, connect
    for handle in opened:
        handle.handle = None
    instance.stop()


@pytest.mark.parametrize("ranks", [(0, 1, 2, 3, 4), (3, 3, 4), (3, 3), (0, 4), (2, 2, 2, 1, 0)])
def test_over_several_ranks(tree: tuple[LinkedInstance, Callable[[int], flux.Flux]], ranks: tuple[int, ...]) -> None:
    _, connect = tree
    handles = [connect(rank) for rank in ranks]
    for _ in range(5):
        futures = [enter(handle, len(ranks)) for handle in handles]
        assert [future.get() for future in futures] == [None] * len(ranks)


def test_entering_twice_on_a_leaf_aborts_it_on_all_ranks(
    tree: tuple[LinkedInstance, Callable[[int], flux.Flux]],
) -> None:
    instance, connect = tree
    waiting = [enter(connect(rank), 4) for rank in (0, 2)]
    leaf = connect(3)
    waiting.append(enter(leaf, 4))
    service = instance.brokers[0].modules["barrier"].instance
    assert isinstance(service, BarrierService)
    until(lambda: any(barrier.entered == 3 for barrier in list(service.barriers.values())))
    assert error_of(enter(leaf, 4).get)[0] == errno.EEXIST
    assert [error_of(future.get)[0] for future in waiting] == [errno.ECONNABORTED] * 3


def test_a_client_of_a_leaf_that_goes_aborts_it_everywhere(
    tree: tuple[LinkedInstance, Callable[[int], flux.Flux]],
) -> None:
    instance, connect = tree
    waiting = [enter(connect(rank), 4) for rank in (0, 2)]
    leaf = connect(3)
    gone = enter(leaf, 4)
    service = instance.brokers[0].modules["barrier"].instance
    assert isinstance(service, BarrierService)
    until(lambda: any(barrier.entered == 3 for barrier in list(service.barriers.values())))
    del gone
    leaf.handle = None
    assert [error_of(future.get)[0] for future in waiting] == [errno.ECONNABORTED] * 2


@pytest.mark.parametrize("rank", [0, 1])
def test_a_broker_that_loses_the_service_ends_it_for_those_below(
    tree: tuple[LinkedInstance, Callable[[int], flux.Flux]], rank: int
) -> None:
    instance, connect = tree
    waiting = [enter(connect(below), 4) for below in (3, 4)]
    service = instance.brokers[0].modules["barrier"].instance
    assert isinstance(service, BarrierService)
    until(lambda: any(barrier.entered == 2 for barrier in list(service.barriers.values())))
    connect(rank).rpc("module.remove", {"name": "barrier"}).get()
    assert [error_of(future.get)[0] for future in waiting] == [errno.ECONNABORTED] * 2


def test_updates_of_another_number_end_it(broker_thread: BrokerThread, handle: flux.Flux, connect: Open) -> None:
    waiting = enter(connect(), 3)
    until(lambda: entered(broker_thread) == {"b": 1})
    owner = handle.rpc("broker.ping", {}).get()["userid"]
    tell(handle, "barrier.update", {"name": "b", "count": 1, "nprocs": 4, "owner": owner})
    assert error_of(waiting.get)[0] == errno.EINVAL
