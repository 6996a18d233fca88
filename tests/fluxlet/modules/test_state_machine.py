"""The service `state-machine` (spec 03, section 6)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from in_process import GUEST, BrokerThread, ask, error_of, outcome, receive, tell, until

import flux
from flux.constants import FLUX_MSGFLAG_NORESPONSE, FLUX_MSGFLAG_STREAMING
from fluxlet.broker.broker import Broker
from fluxlet.broker.state import STATES, StateMachine


def with_machine(broker: Broker) -> None:
    broker.state = StateMachine(broker.log.write)


@pytest.fixture
def staged(start_broker: Callable[..., BrokerThread]) -> BrokerThread:
    """A broker in its first state; nothing happens by itself."""
    return start_broker(prepare=with_machine)


@pytest.fixture
def client(staged: BrokerThread) -> Any:
    with staged.open() as handle:
        yield handle


def post(broker: BrokerThread, *events: str) -> None:
    machine = broker.broker.state
    assert machine is not None
    for event in events:
        broker.call(lambda event=event: machine.post(event))  # type: ignore[misc]


TO_RUN = ("builtins-success", "parent-none", "sync-none", "rc1-none", "quorum-full")


def test_without_life_cycle_a_broker_is_in_state_run(handle: flux.Flux) -> None:
    answer = handle.rpc("state-machine.get").get()
    assert answer["state"] == "run"
    assert answer["duration"] >= 0
    assert handle.rpc("state-machine.wait").get() is None
    assert handle.rpc("state-machine.monitor").get() == {"state": 5}


def test_get_follows_the_states(staged: BrokerThread, client: flux.Flux) -> None:
    seen = [client.rpc("state-machine.get").get()["state"]]
    for event in TO_RUN:
        post(staged, event)
        seen.append(client.rpc("state-machine.get").get()["state"])
    assert seen == list(STATES[:6])


def test_wait_is_held_until_run(staged: BrokerThread, client: flux.Flux) -> None:
    future = client.rpc("state-machine.wait")
    post(staged, *TO_RUN[:-1])
    client.attr_get("log-stderr-level")
    assert not future.is_ready()
    post(staged, TO_RUN[-1])
    assert future.get() is None


@pytest.mark.parametrize("early", [True, False])
def test_wait_fails_when_run_will_not_come(staged: BrokerThread, client: flux.Flux, early: bool) -> None:
    future = client.rpc("state-machine.wait") if early else None
    if early:
        client.attr_get("log-stderr-level")
    post(staged, *TO_RUN[:3], "rc1-fail")
    future = future or client.rpc("state-machine.wait")
    assert error_of(future.get) == (errno.ENOENT, "broker has surpassed RUN state")


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (None, [5, 6, 7, 8, 9, 10, 11, None]),
        ({"final": -1}, [5, 6, 7, 8, 9, 10, 11, None]),
        ("rubbish", [5, 6, 7, 8, 9, 10, 11, None]),
        ({"final": "x"}, [5, 6, 7, 8, 9, 10, 11, None]),
        ({"final": 7}, [5, 6, 7, None]),
        ({"final": 5}, [5, None]),
        ({"final": 4}, [None]),
    ],
)
def test_monitor_streams_states_up_to_the_final_one(
    staged: BrokerThread, client: flux.Flux, payload: Any, expected: list[int | None]
) -> None:
    post(staged, *TO_RUN)
    tell(client, "state-machine.monitor", payload, matchtag=3, flags=FLUX_MSGFLAG_STREAMING)
    client.attr_get("log-stderr-level")
    post(staged, "rc2-none", "shutdown", "cleanup-none", "children-none", "rc3-none", "goodbye", "builtins-done")
    heard = [receive(client) for _ in expected]
    assert [None if m.aux1 == errno.ENODATA else m.payload["state"] for m in heard] == expected
    assert ask(client, "attr.get", {"name": "rank"}).topic == "attr.get"  # and nothing more


def test_a_final_state_that_is_skipped_ends_the_stream(staged: BrokerThread, client: flux.Flux) -> None:
    tell(client, "state-machine.monitor", {"final": 5}, matchtag=3, flags=FLUX_MSGFLAG_STREAMING)
    client.attr_get("log-stderr-level")
    post(staged, "builtins-success", "parent-fail")
    heard = [receive(client) for _ in range(3)]
    assert [(m.aux1, m.payload["state"] if m.raw else None) for m in heard] == [(0, 0), (0, 1), (errno.ENODATA, None)]


@pytest.mark.parametrize(("final", "expected"), [(3, (errno.ENODATA, None)), (5, (0, '{"state": 5}'))])
def test_monitor_without_stream(handle: flux.Flux, final: int, expected: tuple[int, str | None]) -> None:
    assert outcome(ask(handle, "state-machine.monitor", {"final": final})) == expected


def test_events_are_posted_without_answer(staged: BrokerThread, client: flux.Flux) -> None:
    tell(client, "state-machine.post", {"event": "builtins-success"}, flags=FLUX_MSGFLAG_NORESPONSE)
    assert client.rpc("state-machine.get").get()["state"] == "join"
    assert outcome(ask(client, "state-machine.post", {"event": "parent-none"})) == (errno.EPROTO, None)
    assert client.rpc("state-machine.get").get()["state"] == "join"


def test_a_malformed_post_is_logged(staged: BrokerThread, client: flux.Flux) -> None:
    tell(client, "state-machine.post", {"event": 1}, flags=FLUX_MSGFLAG_NORESPONSE)
    client.attr_get("log-stderr-level")
    assert b" - - state-machine.post: Protocol error" in staged.call(lambda: staged.broker.log.ring[-1])


def test_who_goes_waits_no_more(staged: BrokerThread, client: flux.Flux) -> None:
    service = staged.broker.modules["state-machine"].instance
    with staged.open() as other:
        tell(other, "state-machine.wait", matchtag=3)
        tell(other, "state-machine.monitor", matchtag=4, flags=FLUX_MSGFLAG_STREAMING)
        receive(other)
        assert staged.call(lambda: (len(service.waiting), len(service.monitors))) == (1, 1)  # type: ignore[union-attr]
    until(lambda: staged.call(lambda: len(staged.broker.clients.all)) == 1)
    assert staged.call(lambda: (len(service.waiting), len(service.monitors))) == (0, 0)  # type: ignore[union-attr]


@pytest.mark.parametrize(("topic", "errnum"), [("get", 0), ("wait", 0), ("monitor", 1), ("post", 1), ("sd-notify", 1)])
def test_roles(handle: flux.Flux, topic: str, errnum: int) -> None:
    assert ask(handle, f"state-machine.{topic}", None, **GUEST).aux1 == errnum
