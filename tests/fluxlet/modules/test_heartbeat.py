"""The module `heartbeat` (spec 03, 13.6; spec 04, 3.7)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from in_process import GUEST, BrokerThread, ask, error_of, receive, until

import flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.broker.router import Peer
from fluxlet.modules.heartbeat import Heartbeat, Settings


def load(broker: BrokerThread, *args: str) -> Any:
    """A heartbeat of another name, with arguments."""
    return broker.call(lambda: broker.broker.load("hb2", Heartbeat, args=args)).instance


def test_it_beats(start_broker: Callable[..., BrokerThread]) -> None:
    broker = start_broker(config={"heartbeat": {"period": "10ms"}})
    with broker.open() as handle:
        handle.event_subscribe("heartbeat.pulse")
        pulses = [receive(handle) for _ in range(3)]
        assert {(pulse.topic, pulse.raw, pulse.rolemask) for pulse in pulses} == {("heartbeat.pulse", None, 5)}
        stats = handle.rpc("heartbeat.stats-get").get()
    assert stats.pop("count") >= 3
    assert stats == {"period": 0.01, "timeout": 300.0, "warn_thresh": 3}


def test_the_first_pulse_comes_at_once(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    until(lambda: handle.rpc("heartbeat.stats-get").get()["count"] == 1)


def test_another_period_takes_effect_at_once(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    handle.rpc("config.load", {"heartbeat": {"period": "1h", "timeout": "0"}}).get()
    assert handle.rpc("heartbeat.stats-get").get()["period"] == 3600.0
    handle.event_subscribe("heartbeat.pulse")
    handle.rpc("config.load", {"heartbeat": {"period": "10ms", "timeout": "infinity", "warn_thresh": 7}}).get()
    assert receive(handle).topic == "heartbeat.pulse"
    stats = handle.rpc("heartbeat.stats-get").get()
    assert (stats["period"], stats["timeout"], stats["warn_thresh"]) == (0.01, 0.0, 7)


def test_an_argument_goes_over_the_configuration(start_broker: Callable[..., BrokerThread]) -> None:
    broker = start_broker(config={"heartbeat": {"period": "3s"}})
    load(broker, "period=5s")
    with broker.open() as handle:
        assert handle.rpc("hb2.stats-get").get()["period"] == 5.0
        handle.rpc("config.load", {"heartbeat": {"period": "4s"}}).get()
        assert handle.rpc("hb2.stats-get").get()["period"] == 5.0
        assert handle.rpc("heartbeat.stats-get").get()["period"] == 4.0


@pytest.mark.parametrize("argument", ["foo=1", "period", "period=", "period=x", "period=0", "period=infinity"])
def test_other_arguments_are_refused(broker_thread: BrokerThread, handle: flux.Flux, argument: str) -> None:
    assert error_of(lambda: load(broker_thread, argument))[0] == errno.EINVAL
    assert error_of(lambda: handle.rpc("hb2.ping", {}).get())[0] == errno.ENOSYS


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"foo": 1}, "error reading [heartbeat] config table: 1 object item(s) left unpacked: foo"),
        ({"period": 2}, "error reading [heartbeat] config table: Expected string, got integer"),
        ({"period": "xx"}, "error parsing heartbeat.period FSD value"),
        ({"timeout": "xx"}, "error parsing heartbeat.timeout FSD value"),
        ({"period": "0"}, "heartbeat.period must be greater than zero, and finite"),
        (
            {"period": "1m", "timeout": "90s"},
            "heartbeat.timeout must be at least twice heartbeat.period, or 0 for none",
        ),
        ({"warn_thresh": 0}, "heartbeat.warn_thresh must be greater than zero"),
    ],
)
def test_configurations_that_will_not_do(table: Any, text: str) -> None:
    with pytest.raises(ValueError) as info:  # noqa: PT011  # compared below
        Settings({"heartbeat": table})
    assert str(info.value) == text


def test_statistics_are_the_owners(handle: flux.Flux) -> None:
    assert ask(handle, "heartbeat.stats-get", None, **GUEST).aux1 == errno.EPERM


class Parent(Peer):
    """A rank 0 that says nothing, and keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(0, b"parent", True)
        self.told: list[Message] = []

    def deliver(self, message: Message) -> None:
        self.told.append(message)


@pytest.fixture
def child(request: pytest.FixtureRequest, start_broker: Callable[..., BrokerThread]) -> tuple[BrokerThread, Parent]:
    """Rank 1, which expects a pulse every 20 ms; indirectly, for how long it goes without."""
    parent = Parent()

    def prepare(broker: Broker) -> None:
        broker.router.attach(parent)

    config = {"heartbeat": {"period": "20ms", "timeout": request.param, "warn_thresh": 3}}
    return start_broker({"rank": "1", "size": "2"}, config, prepare), parent


def logged(broker: BrokerThread) -> list[str]:
    ring = broker.call(lambda: list(broker.broker.log.ring))
    return [raw.decode().partition(" - - ")[2] for raw in ring if b" heartbeat " in raw]


def pulse(broker: BrokerThread, parent: Parent) -> None:
    event = Message.event(b"heartbeat.pulse")
    event.userid, event.rolemask, event.aux1 = broker.broker.owner, 1, 1
    broker.call(lambda: broker.broker.submit(parent, event))


@pytest.mark.parametrize("child", ["1h"], indirect=True)
def test_other_ranks_miss_it(child: tuple[BrokerThread, Parent]) -> None:
    broker, parent = child
    until(lambda: logged(broker) == ["heartbeat overdue"])
    pulse(broker, parent)
    assert logged(broker)[:2] == ["heartbeat overdue", "heartbeat received"]


@pytest.mark.parametrize("child", ["200ms"], indirect=True)
def test_other_ranks_do_not_beat_and_give_their_parent_up_once(child: tuple[BrokerThread, Parent]) -> None:
    broker, parent = child
    until(lambda: broker.call(lambda: broker.broker.router.parent is None))
    until(lambda: broker.call(lambda: broker.broker.modules["heartbeat"].instance.lost))  # type: ignore[union-attr]
    ring = broker.call(lambda: list(broker.broker.log.ring))
    assert [raw.rpartition(b" - - ")[2] for raw in ring if b"<16>" in raw] == [b"disconnecting: no heartbeat for 0.2s"]
    assert not [message for message in parent.told if message.type_str == "event"]
