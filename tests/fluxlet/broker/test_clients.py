"""Clients: stamping, disconnect notices, subscriptions and services (spec 01, 3.1, 3.7, 4, 5.2, 7.3)."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from linked_routers import GUEST_ROLES, OWNER, FakeBroker, FakeClient, FakeModule, FakeWorld, event, request

from flux.message import Message

NORESPONSE, ROUTE, UPSTREAM, PRIVATE, STREAMING, USER1 = 0x04, 0x08, 0x10, 0x20, 0x40, 0x80
UNKNOWN = 0xFFFFFFFF
GUEST = 54321


@pytest.fixture
def broker() -> FakeBroker:
    return FakeWorld().brokers[0]


@pytest.fixture
def service(broker: FakeBroker) -> FakeModule:
    """A module `foo` that only collects what it gets."""
    return FakeModule(broker, "foo", None)


def call(client: FakeClient, method: str, flags: int = 0, raw: bytes | None = None, **payload: Any) -> Message:
    """A call of one of the connector's methods, and its response."""
    import json

    raw = json.dumps(payload).encode() + b"\0" if raw is None else raw
    client.send(request(method, tag=77, flags=flags, raw=raw))
    response = client.only()
    assert (response._type, response.topic_bytes, response.aux2) == (2, method.encode(), 77)
    assert (response._userid, response._rolemask, response.routes) == (UNKNOWN, 1, ())
    return response


# Stamping (spec 01, 7.3).

OWNERS = [
    ((UNKNOWN, 0), (OWNER, 5)),
    ((1234, 2), (1234, 2)),
    ((1234, 0), (1234, 5)),
    ((UNKNOWN, 2), (OWNER, 2)),
    ((1234, 8), (1234, 8)),
    ((1234, 4), (1234, 4)),
    ((UNKNOWN, 0x8000), (OWNER, 0x8000)),
]


@pytest.mark.parametrize(("sent", "stamped"), OWNERS)
@pytest.mark.parametrize("kind", [1, 2, 4])
def test_owner_may_speak_for_anybody(
    broker: FakeBroker, service: FakeModule, kind: int, sent: tuple[int, int], stamped: tuple[int, int]
) -> None:
    assert delivered(broker, service, broker.client(), kind, sent) == stamped


@pytest.mark.parametrize("sent", [(UNKNOWN, 0), (0, 1), (OWNER, 5), (1234, 0xFFFFFFFF)])
@pytest.mark.parametrize("kind", [1, 2, 4])
def test_guest_is_stamped_whatever_it_says(
    broker: FakeBroker, service: FakeModule, kind: int, sent: tuple[int, int]
) -> None:
    assert delivered(broker, service, broker.client(GUEST), kind, sent) == (GUEST, GUEST_ROLES)


def delivered(
    broker: FakeBroker, service: FakeModule, sender: FakeClient, kind: int, sent: tuple[int, int]
) -> tuple[int, int]:
    """The credentials that the receiver of a request, response or event of `sender` sees."""
    receiver = broker.client()
    if kind == 1:
        message = request("foo.x")
    elif kind == 2:
        broker.router.services[b"svc"] = sender
        receiver.send(request("svc.x"))
        message = sender.only().response(b"{}\0")
    else:
        broker.router.subscribe(receiver, b"e")
        message = event("e")
    message._userid, message._rolemask = sent
    sender.send(message)
    got = service.inbox[0] if kind == 1 else receiver.only()
    assert got._type == kind
    return got._userid, got._rolemask


# What is dropped (spec 01, 1.6).


@pytest.mark.parametrize("kind", [1, 2, 4, 8])
def test_message_without_topic_is_dropped(broker: FakeBroker, kind: int) -> None:
    client = broker.client()
    broker.router.subscribe(client, b"")
    client.send(Message(kind))
    assert not client.inbox
    assert not broker.ping.inbox


def test_topic_whose_notice_would_be_too_long_is_refused(broker: FakeBroker, service: FakeModule) -> None:
    client = broker.client()
    client.send(request("foo." + "x" * 240 + ".y", tag=5))
    assert len(service.inbox) == 1
    client.send(request("foo." + "x" * 241 + ".y", tag=5))
    response = client.only()
    assert (response.aux1, response.aux2, response._rolemask) == (errno.EINVAL, 5, 1)
    assert len(service.inbox) == 1
    client.send(request("foo." + "x" * 241 + ".y", flags=NORESPONSE))
    assert len(service.inbox) == 2


# Disconnect notices (spec 01, 3.7).


def notices(service: FakeModule, client: FakeClient) -> set[tuple[str, int, int, int]]:
    """(topic, nodeid, flags, matchtag) of what the service gets when the client goes."""
    service.inbox.clear()
    client.close()
    for message in service.inbox:
        assert message.raw is None
    got = [((m.topic_bytes or b"").decode(), m.aux1, m.flags, m.aux2) for m in service.inbox]
    assert len(set(got)) == len(got)
    return set(got)


NOTICE = 0x01 | NORESPONSE | ROUTE


@pytest.mark.parametrize(
    ("requests", "wanted"),
    [
        ([request("foo.a")], {("foo.disconnect", UNKNOWN, NOTICE, 1)}),
        ([request("foo.a.b")], {("foo.a.disconnect", UNKNOWN, NOTICE, 1)}),
        ([request("foo.a", 0)], {("foo.disconnect", 0, NOTICE, 1)}),
        ([request("foo.")], {("foo.disconnect", UNKNOWN, NOTICE, 1)}),
        ([request("foo.a", tag=5), request("foo.b", tag=6)], {("foo.disconnect", UNKNOWN, NOTICE, 5)}),
        (
            [request("foo.a"), request("foo.a", 0, 2)],
            {("foo.disconnect", UNKNOWN, NOTICE, 1), ("foo.disconnect", 0, NOTICE, 2)},
        ),
        ([request("foo.a", flags=NORESPONSE)], set()),
        ([request("foo.a", flags=NORESPONSE), request("foo.a", tag=8)], {("foo.disconnect", UNKNOWN, NOTICE, 8)}),
        ([request("foo.a", flags=STREAMING)], {("foo.disconnect", UNKNOWN, NOTICE, 1)}),
        ([request("foo.a", flags=USER1 | PRIVATE)], {("foo.disconnect", UNKNOWN, NOTICE | USER1 | PRIVATE, 1)}),
        (
            [request("foo.a", 3), request("foo.a", 3, 2, UPSTREAM), request("foo.b", 3, 3, UPSTREAM)],
            {("foo.disconnect", 3, NOTICE | UPSTREAM, 2)},  # the other's rank is nowhere
        ),
        ([], set()),
    ],
    ids=lambda value: None,
)  # fmt: skip
def test_notice_for_each_service_used(
    broker: FakeBroker, service: FakeModule, requests: list[Message], wanted: set[tuple[str, int, int, int]]
) -> None:
    client = broker.client()
    for message in requests:
        client.send(message.copy())
    assert notices(service, client) == wanted


def test_notice_has_routes_and_credentials_of_its_request(broker: FakeBroker, service: FakeModule) -> None:
    client = broker.client()
    message = request("foo.a")
    message.routes = (b"mine",)
    message._userid, message._rolemask = 1234, 2
    client.send(message)
    asked = service.inbox.popleft()
    client.close()
    notice = service.inbox.popleft()
    assert notice.topic_bytes == b"foo.disconnect"
    assert notice.routes == asked.routes == (broker.router.uuid, broker.connector, client.uuid, b"mine")
    assert (notice._userid, notice._rolemask) == (1234, 2)


def test_bare_topic_has_a_bare_notice(broker: FakeBroker) -> None:
    """`a` -> `disconnect`: it goes to a service of that name, if there is one."""
    module = FakeModule(broker, "disconnect", None)
    FakeModule(broker, "a", None)
    client = broker.client()
    client.send(request("a"))
    client.close()
    assert [message.topic_bytes for message in module.inbox] == [b"disconnect"]


def test_notice_reaches_other_ranks() -> None:
    world = FakeWorld(0, 1)
    service = FakeModule(world.brokers[2], "foo", None)
    client = world.brokers[0].client()
    client.send(request("foo.a", 2))
    assert notices(service, client) == {("foo.disconnect", 2, NOTICE, 1)}


def test_services_hear_of_the_end_before_the_clients_own_services_end(broker: FakeBroker) -> None:
    """Order on close: notices, services, subscriptions."""
    client = broker.client()
    call(client, "service.add", service="foo")
    order = []
    broker.router.subscribe(client, b"")
    client.send(request("foo.self"))
    client.inbox.clear()

    def serve(message: Message) -> None:
        order.append((b"foo" in broker.router.services, broker.router.subscribers(b"x") == [client]))

    FakeModule(broker, "other", serve)
    client.send(request("other.x"))
    order.clear()
    for endpoint, message in broker.clients.remove(client)[:]:
        if endpoint is not client:
            endpoint.deliver(message)
    assert order
    assert b"foo" not in broker.router.services
    assert broker.router.subscribers(b"x") == []


def test_notices_to_services_without_the_method_are_swallowed(broker: FakeBroker) -> None:
    client = broker.client()
    client.send(request("nosuch.x"))
    client.inbox.clear()
    client.close()
    assert not client.inbox


def test_client_goes_once(broker: FakeBroker, service: FakeModule) -> None:
    client = broker.client()
    client.send(request("foo.a"))
    client.close()
    service.inbox.clear()
    client.close()
    assert not service.inbox


def test_many_topics_take_bounded_memory(broker: FakeBroker, service: FakeModule) -> None:
    """One notice is all that a client's use of one service leaves behind, whatever it asks for."""
    client = broker.client()
    for number in range(5000):
        client.send(request(f"foo.{number}"))
    assert len(client.known_topics) <= 1024
    assert len(client.notices.first) == 1


# Subscriptions (spec 01, 5.2).


@pytest.mark.parametrize("flags", [0, STREAMING, USER1])
@pytest.mark.parametrize("nodeid", [UNKNOWN, 0, 9])
def test_subscribe_is_the_connectors_own(broker: FakeBroker, flags: int, nodeid: int) -> None:
    client = broker.client()
    client.send(request("event.subscribe", nodeid, 3, flags, b'{"topic":"e"}\0'))
    response = client.only()
    assert (response.aux1, response.aux2, response.raw, response.flags) == (0, 3, None, 0x01 | ROUTE | flags)
    client.send(event("e1"))
    assert client.only().topic_bytes == b"e1"


@pytest.mark.parametrize("method", ["event.subscribe", "event.unsubscribe", "service.add", "service.remove"])
@pytest.mark.parametrize(
    "raw", [b"{}\0", b'{"topic":1,"service":1}\0', b'{"topic":null,"service":null}\0', b"[]\0", b"\0", b"", b"{}"]
)
def test_missing_or_wrong_argument_is_a_protocol_error(broker: FakeBroker, method: str, raw: bytes) -> None:
    assert call(broker.client(), method, raw=raw).aux1 == errno.EPROTO


@pytest.mark.parametrize("method", ["event.subscribe", "event.unsubscribe", "service.add", "service.remove"])
def test_own_method_without_payload_is_a_protocol_error(broker: FakeBroker, method: str) -> None:
    client = broker.client()
    client.send(request(method, raw=None))
    assert client.only().aux1 == errno.EPROTO


def test_unsubscribe_without_subscription(broker: FakeBroker) -> None:
    client, other = broker.client(), broker.client()
    call(other, "event.subscribe", topic="e")
    assert call(client, "event.unsubscribe", topic="e").aux1 == errno.ENOENT
    call(client, "event.subscribe", topic="e")
    assert call(client, "event.unsubscribe", topic="e1").aux1 == errno.ENOENT
    assert call(client, "event.unsubscribe", topic="e").aux1 == 0
    assert call(client, "event.unsubscribe", topic="e").aux1 == errno.ENOENT


def test_noresponse_subscribe_takes_effect_in_silence(broker: FakeBroker) -> None:
    client = broker.client()
    client.send(request("event.subscribe", flags=NORESPONSE, raw=b'{"topic":"e"}\0'))
    assert not client.inbox
    client.send(event("e"))
    assert client.only().topic_bytes == b"e"
    client.send(request("event.unsubscribe", flags=NORESPONSE, raw=b'{"topic":"e"}\0'))
    client.send(request("event.unsubscribe", flags=NORESPONSE, raw=b'{"topic":"e"}\0'))
    client.send(event("e"))
    assert not client.inbox


def test_guest_may_subscribe_to_anything_and_sees_no_private_events(broker: FakeBroker) -> None:
    guest, owner = broker.client(GUEST), broker.client()
    assert call(guest, "event.subscribe", topic="").aux1 == 0
    owner.send(event("e", PRIVATE))
    assert not guest.inbox
    owner.send(event("e"))
    assert guest.only()._userid == OWNER


def test_subscriptions_end_with_the_connection(broker: FakeBroker) -> None:
    client = broker.client()
    call(client, "event.subscribe", topic="e")
    client.close()
    broker.client().send(event("e"))
    assert not client.inbox


def test_string_argument_ends_at_its_nul(broker: FakeBroker) -> None:
    client = broker.client()
    call(client, "event.subscribe", raw=b'{"topic":"e\\u0000x"}\0')
    client.send(event("e"))
    assert client.only()


# Services (spec 01, section 4).


def add(client: FakeClient, name: str) -> int:
    return call(client, "service.add", service=name).aux1


def remove(client: FakeClient, name: str) -> int:
    return call(client, "service.remove", service=name).aux1


@pytest.mark.parametrize(
    ("name", "errnum"),
    [
        ("foo", 0),
        ("", 0),
        ("with space", 0),
        ("ƒ", 0),
        ("a*b", 0),
        ("a.b", errno.EINVAL),
        (".", errno.EINVAL),
        ("broker", errno.EEXIST),
        ("taken", errno.EEXIST),
    ],
)
def test_owner_registers_any_free_name(broker: FakeBroker, name: str, errnum: int) -> None:
    other, client = broker.client(), broker.client()
    assert add(other, "taken") == 0
    assert add(client, name) == errnum
    if not errnum:
        client.send(request(f"{name}.x"))
        assert client.only().topic_bytes == f"{name}.x".encode()
        assert add(client, name) == errno.EEXIST


@pytest.mark.parametrize(
    ("name", "errnum"),
    [
        (f"{GUEST}-foo", 0),
        (f"{GUEST}-", 0),
        ("foo", errno.EPERM),
        (f"{GUEST}", errno.EPERM),
        (f"{GUEST}1-foo", errno.EPERM),
        (f"{GUEST + 1}-foo", errno.EPERM),
        ("a.b", errno.EPERM),
        ("broker", errno.EPERM),
        (f"{GUEST}-a.b", errno.EINVAL),
    ],
)
def test_guest_registers_names_with_its_userid(broker: FakeBroker, name: str, errnum: int) -> None:
    assert add(broker.client(GUEST), name) == errnum


@pytest.mark.parametrize(("rolemask", "errnum"), [(2, 0), (8, errno.EPERM), (4, errno.EPERM), (1, 0)])
def test_owner_impersonating_registers_as_who_it_plays(broker: FakeBroker, rolemask: int, errnum: int) -> None:
    client = broker.client()
    message = request("service.add", raw=b'{"service":"1234-x"}\0')
    message._userid, message._rolemask = 1234, rolemask
    client.send(message)
    assert client.only().aux1 == errnum


def test_remove(broker: FakeBroker) -> None:
    client, other, guest = broker.client(), broker.client(), broker.client(GUEST)
    assert add(client, "foo") == 0
    assert remove(other, "foo") == errno.ENOENT
    assert remove(guest, "foo") == errno.ENOENT
    assert remove(client, "nope") == errno.ENOENT
    assert remove(client, "broker") == errno.ENOENT
    assert remove(client, "foo") == 0
    assert remove(client, "foo") == errno.ENOENT
    assert add(other, "foo") == 0


def test_refused_removal_leaves_the_service(broker: FakeBroker) -> None:
    client = broker.client()
    assert add(client, "foo") == 0
    message = request("service.remove", raw=b'{"service":"foo"}\0')
    message._userid, message._rolemask = 1234, 2
    client.send(message)
    assert client.only().aux1 == errno.EPERM
    client.send(request("foo.x"))
    assert client.only().topic_bytes == b"foo.x"
    assert remove(client, "foo") == 0


def test_service_name_is_literal(broker: FakeBroker) -> None:
    client = broker.client()
    add(client, "a*")
    client.send(request("ab.x"))
    assert client.only().aux1 == errno.ENOSYS


def test_name_is_free_when_its_connection_closes(broker: FakeBroker) -> None:
    client, other = broker.client(), broker.client()
    add(client, "foo")
    client.close()
    other.send(request("foo.x"))
    assert other.only().aux1 == errno.ENOSYS
    assert add(other, "foo") == 0


def test_noresponse_add_registers_in_silence(broker: FakeBroker) -> None:
    client = broker.client()
    client.send(request("service.add", flags=NORESPONSE, raw=b'{"service":"foo"}\0'))
    assert not client.inbox
    client.send(request("foo.x"))
    assert client.only().topic_bytes == b"foo.x"


def test_service_may_call_itself(broker: FakeBroker) -> None:
    client = broker.client()
    add(client, "foo")
    client.send(request("foo.x", tag=9))
    asked = client.only()
    assert asked.routes == (broker.router.uuid, broker.connector, client.uuid)
    client.send(asked.response(b"{}\0"))
    assert (client.only().aux2, client.inbox) == (9, client.inbox)


def test_late_answers_after_removal_are_delivered(broker: FakeBroker) -> None:
    client, other = broker.client(), broker.client()
    add(client, "foo")
    other.send(request("foo.x"))
    asked = client.only()
    remove(client, "foo")
    client.send(asked.response(b"{}\0"))
    assert other.only().raw == b"{}\0"


def test_refusal_says_why_where_the_errno_does_not(broker: FakeBroker) -> None:
    client, guest = broker.client(), broker.client(GUEST)
    add(client, "foo")
    assert call(guest, "service.add", service="x").raw == b"a guest's service name must begin with 54321-\0"
    assert call(client, "service.add", service="a.b").raw is None
    assert call(client, "service.add", service="foo").raw is None
