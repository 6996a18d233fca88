"""The service `event`: what the recordings do not show."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from in_process import GUEST, BrokerThread, ask, error_of, outcome, receive, tell, until

import flux
from flux.brokermod import event_handler
from flux.constants import FLUX_MSGFLAG_PRIVATE
from flux.message import Message
from fluxlet.service import Service


def publish(handle: flux.Flux, topic: str = "t", flags: int = 0, **more: Any) -> int:
    return handle.rpc("event.publish", {"topic": topic, "flags": flags, **more}).get()["seq"]


def test_sequence_numbers_go_up_by_one_for_every_event(handle: flux.Flux) -> None:
    handle.event_subscribe("")  # heartbeats count as well
    published = [publish(handle) for _ in range(3)]
    handle.event_send("t")
    numbers = [receive(handle).aux1 for _ in range(4)]
    assert numbers == list(range(numbers[0], numbers[0] + 4))
    assert published[0] in numbers
    assert published == sorted(set(published))


def test_the_publisher_sees_its_event_before_the_answer(handle: flux.Flux) -> None:
    handle.event_subscribe("t")
    tell(handle, "event.publish", {"topic": "t.x", "flags": 0}, matchtag=9)
    event, answer = receive(handle), receive(handle)
    assert (event.type_str, event.topic, event.raw) == ("event", "t.x", None)
    assert answer.payload == {"seq": event.aux1}


@pytest.mark.parametrize(
    ("text", "raw"),
    [("eyJhIjoxfQA=", b'{"a":1}\0'), ("YQ", b"a"), ("YQ==", b"a"), ("", None), ("AAH/", b"\0\1\xff")],
)
def test_payloads(handle: flux.Flux, text: str, raw: bytes | None) -> None:
    handle.event_subscribe("t")
    publish(handle, payload=text)
    assert receive(handle).raw == raw


@pytest.mark.parametrize(
    "request_",
    [
        None,
        {},
        {"topic": "t"},
        {"flags": 0},
        {"topic": 1, "flags": 0},
        {"topic": "t", "flags": 1},
        {"topic": "t", "flags": 0x21},
        {"topic": "t", "flags": -1},
        {"topic": "t", "flags": 0, "payload": "!!!"},
        {"topic": "t", "flags": 0, "payload": "YQ==x"},
        {"topic": "t", "flags": 0, "payload": "ä"},
        {"topic": "t", "flags": 0, "payload": "a"},
        {"topic": "t", "flags": 0, "payload": None},
    ],
)
def test_bad_requests_publish_nothing(handle: flux.Flux, request_: Any) -> None:
    handle.event_subscribe("t")
    assert outcome(ask(handle, "event.publish", request_)) == (errno.EPROTO, None)
    publish(handle, "t.next")
    assert receive(handle).topic == "t.next"


def test_an_event_has_the_credentials_of_its_publisher(handle: flux.Flux) -> None:
    handle.event_subscribe("")
    tell(handle, "event.publish", {"topic": "t", "flags": FLUX_MSGFLAG_PRIVATE}, **GUEST)
    event = receive(handle)
    assert (event.userid, event.rolemask, event.flags & FLUX_MSGFLAG_PRIVATE) == (1234, 2, FLUX_MSGFLAG_PRIVATE)


def test_publishing_takes_a_role(handle: flux.Flux) -> None:
    request = {"topic": "t", "flags": 0}
    assert ask(handle, "event.publish", request, userid=1, rolemask=4).aux1 == errno.EPERM


class Listener(Service):
    """A module that subscribes in every way there is."""

    seen: list[str]

    @event_handler("x")
    def heard(self, msg: Message) -> None:
        self.seen = [*getattr(self, "seen", []), msg.topic]


def test_modules_subscribe_by_handler_and_by_request(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    module = broker_thread.call(lambda: broker_thread.broker.load("listener", Listener))
    answers: list[Any] = []

    def ask_for(method: str) -> None:
        def answered(future: Any) -> None:
            try:
                answers.append(future.get())
            except OSError as exc:
                answers.append(exc.errno)

        module.flux.rpc(method, {"topic": "other"}).then(answered)

    def subscriptions() -> bool:
        return module in broker_thread.broker.router.subscribers(b"other.x")

    publish(handle, "listener.x")
    assert broker_thread.call(lambda: module.instance.seen) == ["listener.x"]  # type: ignore[union-attr]
    broker_thread.call(lambda: ask_for("event.subscribe"))
    assert broker_thread.call(subscriptions)
    broker_thread.call(lambda: ask_for("event.unsubscribe"))
    assert not broker_thread.call(subscriptions)
    broker_thread.call(lambda: ask_for("event.unsubscribe"))
    handle.attr_get("log-stderr-level")
    assert broker_thread.call(lambda: answers) == [None, None, errno.ENOENT]


def test_subscriptions_end_with_the_connection(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    with broker_thread.open() as other:
        other.event_subscribe("t")
        assert broker_thread.call(lambda: len(broker_thread.broker.router.subscribers(b"t"))) == 1
    until(lambda: broker_thread.call(lambda: len(broker_thread.broker.clients.all)) == 1)
    assert broker_thread.call(lambda: broker_thread.broker.router.subscribers(b"t")) == []


def test_one_unsubscribe_too_many(handle: flux.Flux) -> None:
    assert error_of(lambda: handle.event_unsubscribe("t"))[0] == errno.ENOENT
