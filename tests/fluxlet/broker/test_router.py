"""Router: the routing rules of spec 01 section 3 and spec 04, 1.3 to 1.6, row by row."""

from __future__ import annotations

import errno
import json
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from linked_routers import OWNER, FakeBroker, FakeClient, FakeModule, FakeWorld, event, request
from recordings import Names, load, replay

from flux.message import Message
from fluxlet.broker.router import LOCAL_OWNER

NORESPONSE, ROUTE, UPSTREAM, PRIVATE, STREAMING = 0x04, 0x08, 0x10, 0x20, 0x40
ANY = 0xFFFFFFFF


def chain() -> FakeWorld:
    """0-(1-(3),2), with `low` served on rank 0 and `mid` on ranks 0 and 1 besides `broker` everywhere."""
    world = FakeWorld(0, 0, 1)
    for rank, names in ((0, ("low", "mid")), (1, ("mid",))):
        for name in names:
            FakeModule(world.brokers[rank], name, world.brokers[rank].answer)
    return world


def outcome(client: FakeClient, message: Message) -> tuple[int, Any]:
    """(rank, credentials' rolemask seen) of who answered, or (-errno, text)."""
    client.send(message)
    response = client.only()
    assert response._type == 2
    assert response.routes == ()
    assert response.aux2 == message.aux2
    if response.aux1:
        return -response.aux1, None if response.raw is None else response.raw.decode()
    answer = json.loads(response.raw[:-1])
    return answer["rank"], answer["rolemask"]


NO_SERVICE = -errno.ENOSYS
UNREACHABLE = (-errno.EHOSTUNREACH, None)


def no_service(topic: str) -> tuple[int, str]:
    return NO_SERVICE, f"No service matching {topic} is registered\0"


# Rows of the table in spec 01, 3.2 (and spec 04, 1.3): from rank, topic, nodeid, flags -> outcome.
TABLE = [
    # nodeid ANY: local, else up
    (0, "broker.ping", ANY, 0, (0, 5)),
    (3, "broker.ping", ANY, 0, (3, 5)),
    (3, "mid.x", ANY, 0, (1, 1)),
    (3, "low.x", ANY, 0, (0, 1)),
    (2, "mid.x", ANY, 0, (0, 1)),
    (0, "nosuch.x", ANY, 0, no_service("nosuch.x")),
    (3, "nosuch.x", ANY, 0, no_service("nosuch.x")),
    (3, "", ANY, 0, no_service("")),
    # own rank: never forwarded
    (3, "broker.ping", 3, 0, (3, 5)),
    (3, "low.x", 3, 0, no_service("low.x")),
    (0, "nosuch.x", 0, 0, no_service("nosuch.x")),
    # another rank: down, up, up and down
    (0, "broker.ping", 3, 0, (3, 1)),
    (0, "broker.ping", 1, 0, (1, 1)),
    (3, "broker.ping", 0, 0, (0, 1)),
    (3, "broker.ping", 1, 0, (1, 1)),
    (2, "broker.ping", 3, 0, (3, 1)),
    (3, "broker.ping", 2, 0, (2, 1)),
    (3, "mid.x", 2, 0, no_service("mid.x")),
    # no such rank
    (0, "broker.ping", 4, 0, UNREACHABLE),
    (3, "broker.ping", 4, 0, UNREACHABLE),
    (3, "broker.ping", ANY - 1, 0, UNREACHABLE),
    (0, "broker.ping", ANY - 1, 0, UNREACHABLE),
    # UPSTREAM with the own rank: the parent, and on from there
    (3, "broker.ping", 3, UPSTREAM, (1, 1)),
    (3, "low.x", 3, UPSTREAM, (0, 1)),
    (1, "mid.x", 1, UPSTREAM, (0, 1)),
    (0, "broker.ping", 0, UPSTREAM, UNREACHABLE),
    # UPSTREAM with another rank: like ANY
    (3, "broker.ping", 1, UPSTREAM, (3, 5)),
    (3, "low.x", 1, UPSTREAM, (0, 1)),
    (0, "broker.ping", 3, UPSTREAM, (0, 5)),
    # nobody upstream: it must not come down again (spec 04, 1.3)
    (3, "nosuch.x", 3, UPSTREAM, no_service("nosuch.x")),
    (2, "nosuch.x", 1, UPSTREAM, no_service("nosuch.x")),
]


@pytest.mark.parametrize(("rank", "topic", "nodeid", "flags", "wanted"), TABLE)
def test_request_is_answered_where_the_table_says(
    rank: int, topic: str, nodeid: int, flags: int, wanted: tuple[int, Any]
) -> None:
    client = chain().brokers[rank].client()
    assert outcome(client, request(topic, nodeid, 7, flags)) == wanted


@pytest.mark.parametrize(("rank", "topic", "nodeid", "flags", "wanted"), TABLE)
def test_request_that_wants_no_response_gets_none(
    rank: int, topic: str, nodeid: int, flags: int, wanted: tuple[int, Any]
) -> None:
    world = chain()
    client = world.brokers[rank].client()
    client.send(request(topic, nodeid, 7, flags | NORESPONSE))
    assert not client.inbox


def test_text_of_enosys_is_cut_at_63_bytes() -> None:
    client = chain().brokers[0].client()
    errnum, text = outcome(client, request("nosuch." + "x" * 60))
    assert errnum == NO_SERVICE
    assert text == "No service matching nosuch." + "x" * 36 + "\0"


def test_error_response_has_the_flags_of_its_request() -> None:
    client = chain().brokers[0].client()
    client.send(request("nosuch.x", flags=STREAMING | PRIVATE | 0x80))
    assert client.only().flags == 0x01 | 0x02 | ROUTE | STREAMING | PRIVATE | 0x80


def test_bare_name_of_a_clients_service_is_not_routed() -> None:
    broker = chain().brokers[0]
    service, client = broker.client(), broker.client()
    broker.router.services[b"foo"] = service
    assert outcome(client, request("foo")) == (NO_SERVICE, None)
    client.send(request("foo", flags=NORESPONSE))
    assert not client.inbox
    assert not service.inbox
    client.send(request("foo."))
    assert service.only().topic_bytes == b"foo."


def test_child_that_is_not_there_is_unreachable() -> None:
    world = chain()
    world.cut(3)
    assert outcome(world.brokers[0].client(), request("broker.ping", 3)) == UNREACHABLE
    assert outcome(world.brokers[1].client(), request("broker.ping", 3)) == UNREACHABLE


def test_broker_without_a_parent_reaches_only_itself() -> None:
    world = chain()
    world.cut(3)
    client = world.brokers[3].client()
    assert outcome(client, request("broker.ping", 0)) == UNREACHABLE
    assert outcome(client, request("broker.ping", 3, flags=UPSTREAM)) == UNREACHABLE
    assert outcome(client, request("broker.ping")) == (3, 5)
    assert outcome(client, request("low.x")) == no_service("low.x")


@pytest.mark.parametrize("flags", [0, UPSTREAM])
def test_request_that_the_parent_has_sent_does_not_go_back(flags: int) -> None:
    """Only a parent that routes otherwise than we do could send such a one."""
    world = chain()
    router = world.brokers[1].router
    parent = router.parent
    assert parent is not None
    for nodeid in (0, 1, 2, ANY):
        for endpoint, message in router.receive(request("nosuch.x", nodeid, flags=flags), parent):
            assert endpoint is not parent or message._type == 2


# Routes and credentials (spec 01, 3.1 and 3.4; spec 04, 1.4 and 1.5).


def test_request_collects_routes_and_response_loses_them() -> None:
    world = chain()
    service, client = world.brokers[3].client(), world.brokers[2].client()
    world.brokers[3].router.services[b"foo"] = service
    message = request("foo.x", 3)
    message.routes = (b"mine", b"below")
    client.send(message)
    got = service.only()
    hops = [world.brokers[rank].router.uuid for rank in (3, 1, 0, 2)]
    assert got.routes == (*hops, client.broker.connector, client.uuid, b"mine", b"below")
    assert (got._userid, got._rolemask) == (OWNER, 1)
    service.send(got.response(b"{}\0"))
    response = client.only()
    assert response.routes == (b"mine", b"below")
    assert (response._userid, response._rolemask) == (OWNER, 1)


def test_request_without_route_flag_gets_it() -> None:
    world = chain()
    client = world.brokers[3].client()
    message = request("low.x")
    message.routes, message.flags = None, message.flags & ~ROUTE
    assert outcome(client, message) == (0, 1)


def test_local_role_is_lost_over_the_overlay_only() -> None:
    client = chain().brokers[0].client()
    assert outcome(client, request("broker.ping", 0))[1] == LOCAL_OWNER
    assert outcome(client, request("broker.ping", 1))[1] == 1


def test_modules_request_reaches_other_ranks_and_comes_back() -> None:
    world = chain()
    module = FakeModule(world.brokers[3], "asker", None)
    module.send(request("low.x", tag=9))
    world.run()
    assert len(module.inbox) == 1
    assert module.inbox[0].routes == ()
    assert module.inbox[0].aux2 == 9


def answered(world: FakeWorld, rank: int) -> tuple[FakeClient, FakeClient, Message]:
    """A client's service on `rank`, a client on rank 2, and the request that it has got."""
    service, client = world.brokers[rank].client(), world.brokers[2].client()
    world.brokers[rank].router.services[b"foo"] = service
    client.send(request("foo.x", rank))
    return service, client, service.only()


@pytest.mark.parametrize("rank", [0, 2, 3])
@pytest.mark.parametrize(
    "forge",
    [
        lambda routes: routes[::-1],
        lambda routes: (b"x" * 36, *routes[1:]),
        lambda routes: (routes[-1], *routes[1:]),
        lambda routes: (routes[0], *routes[2:]),
        lambda routes: routes[1:],
        lambda routes: routes[:1],
        lambda routes: routes[:-1],
        lambda routes: (*routes[:-1], b"y" * 36),
        lambda routes: (*routes[:-2], routes[-1]),
        lambda routes: (routes[0], *routes),
        lambda routes: (*routes[:-2], b"z" * 36, routes[-1]),
        lambda routes: (),
        lambda routes: None,
    ],
    ids=[
        "reversed",
        "wrong first",
        "last first",
        "second lost",
        "first lost",
        "first alone",
        "client lost",
        "wrong client",
        "connector lost",
        "first twice",
        "wrong connector",
        "empty",
        "none",
    ],
)
def test_response_whose_routes_do_not_lead_back_is_dropped(rank: int, forge: Any) -> None:
    world = chain()
    modules = [broker.ping for broker in world.brokers]
    service, client, got = answered(world, rank)
    response = got.response(b"{}\0")
    response.routes = forge(got.routes)
    service.send(response)
    everybody: list[deque[Message]] = [client.inbox, service.inbox, *(module.inbox for module in modules)]
    assert not any(everybody)
    service.send(got.response(b"{}\0"))
    assert client.only().raw == b"{}\0"


def test_response_to_a_client_that_is_gone_is_dropped() -> None:
    world = chain()
    service, client, got = answered(world, 3)
    client.close()
    service.inbox.clear()
    service.send(got.response(b"{}\0"))
    assert not client.inbox


def test_response_is_delivered_as_often_as_it_is_sent() -> None:
    world = chain()
    service, client, got = answered(world, 3)
    for number in range(3):
        response = got.response(b"%d\0" % number)
        response.aux2 = number
        response.topic_bytes = b"other"
        service.send(response)
    assert [(response.raw, response.aux2) for response in client.inbox] == [(b"0\0", 0), (b"1\0", 1), (b"2\0", 2)]


# Who vanishes owes no answer (spec 01, 3.3 and "do better" 3).


def test_requests_pending_at_a_lost_child_fail() -> None:
    world = chain()
    _, client, _ = answered(world, 3)
    world.cut(3)
    response = client.only()
    assert (response.aux1, response.aux2, response.raw) == (errno.EHOSTUNREACH, 1, None)
    assert response._rolemask


def test_requests_pending_through_a_lost_parent_fail_with_a_text() -> None:
    world = chain()
    _, client, _ = answered(world, 0)
    world.cut(2)
    response = client.only()
    assert (response.aux1, response.raw) == (errno.EHOSTUNREACH, b"overlay disconnect\0")


def test_requests_pending_beyond_two_lost_hops_fail_where_they_came_from() -> None:
    world = chain()
    client, service = world.brokers[3].client(), world.brokers[2].client()
    world.brokers[2].router.services[b"foo"] = service
    module = FakeModule(world.brokers[1], "asker", None)
    client.send(request("foo.x", 2, tag=4))
    module.send(request("foo.x", 2, tag=5))
    world.run()
    world.cut(1)
    assert (client.only().aux1, module.inbox[0].aux1) == (errno.EHOSTUNREACH, errno.EHOSTUNREACH)


def test_requests_pending_at_a_clients_service_fail_when_it_goes() -> None:
    world = chain()
    service, client, _ = answered(world, 3)
    service.close()
    assert client.only().aux1 == errno.EHOSTUNREACH


@pytest.mark.parametrize("streaming", [0, STREAMING])
def test_answered_requests_do_not_fail_again(streaming: int) -> None:
    world = chain()
    service, client = world.brokers[3].client(), world.brokers[2].client()
    world.brokers[3].router.services[b"foo"] = service
    client.send(request("foo.x", 3, flags=streaming))
    got = service.only()
    service.send(got.response(b"{}\0"))
    if streaming:
        service.send(got.response(None, errno.ENODATA))
    client.inbox.clear()
    service.close()
    world.cut(3)
    assert not client.inbox


def test_stream_under_way_fails_when_its_service_goes() -> None:
    world = chain()
    service, client = world.brokers[3].client(), world.brokers[2].client()
    world.brokers[3].router.services[b"foo"] = service
    client.send(request("foo.x", 3, flags=STREAMING))
    got = service.only()
    service.send(got.response(b"{}\0"))
    assert client.only().aux1 == 0
    service.close()
    assert client.only().aux1 == errno.EHOSTUNREACH


def test_nothing_is_remembered_of_a_client_that_is_gone() -> None:
    """Services drop, without answering, what a client that goes has left open."""
    world = chain()
    service, client, _ = answered(world, 3)
    client.send(request("foo.y", 3, tag=2, flags=STREAMING))
    client.close()
    for broker in world.brokers:
        router = broker.router
        for peer in (router.parent, *router.children.values(), service):
            assert peer is None or not peer.pending


def test_detached_service_is_not_found() -> None:
    world = chain()
    broker = world.brokers[0]
    module = FakeModule(broker, "gone", None)
    client = broker.client()
    client.send(request("gone.x", tag=3))
    broker.dispatch(broker.router.detach(module, "module disconnect"))
    assert outcome(client, request("gone.x")) == no_service("gone.x")


# Events (spec 01, section 5; spec 04, 1.6).


def listeners(world: FakeWorld) -> list[FakeClient]:
    clients = [broker.client() for broker in world.brokers]
    for client in clients:
        client.broker.router.subscribe(client, b"")
    return clients


def test_events_come_to_everybody_in_the_same_order() -> None:
    world = chain()
    clients = listeners(world)
    for number, rank in enumerate((0, 3, 1, 2, 3, 0)):
        world.brokers[rank].clients_queue(clients[rank], event(f"e{number}"))
    world.run()
    seen = [[(message.topic_bytes, message.aux1) for message in client.inbox] for client in clients]
    assert seen[0] == seen[1] == seen[2] == seen[3]
    assert [number for _, number in seen[0]] == [1, 2, 3, 4, 5, 6]
    assert sorted(topic for topic, _ in seen[0]) == [b"e0", b"e1", b"e2", b"e3", b"e4", b"e5"]


@pytest.mark.parametrize("rank", range(4))
def test_event_is_numbered_by_rank_0_whatever_its_sender_says(rank: int) -> None:
    world = chain()
    clients = listeners(world)
    message = event("foo", 0x80)
    message.aux1, message.aux2 = 9999, 77
    message.routes = (b"mine",)
    clients[rank].send(message)
    for client in clients:
        got = client.only()
        assert (got.aux1, got.aux2, got.topic_bytes) == (1, 77, b"foo")
        assert got.flags == 0x01 | ROUTE | 0x80
        assert got.routes == (client.broker.router.uuid,)
        assert (got._userid, got._rolemask) == (OWNER, 5 if client.broker.rank == rank == 0 else 1)


def test_published_events_are_numbered_without_gaps() -> None:
    router = chain().brokers[0].router
    assert [router.publish(event("x"))[0][1].aux1 for _ in range(3)] == [1, 2, 3]
    assert router.sequence == 3


@pytest.mark.parametrize(
    ("subscribed", "topic", "delivered"),
    [
        (b"", "foo", True),
        (b"foo", "foo", True),
        (b"foo", "foobar", True),
        (b"foo", "foo.bar", True),
        (b"foo", "fo", False),
        (b"g*z", "gabz", False),
        (b"g*z", "g*zz", True),
        (b"", "", True),
    ],
)
def test_subscription_is_a_prefix(subscribed: bytes, topic: str, delivered: bool) -> None:
    broker = chain().brokers[0]
    client = broker.client()
    broker.router.subscribe(client, subscribed)
    client.send(event(topic))
    assert bool(client.inbox) is delivered


def test_subscriptions_are_counted_and_deliver_once() -> None:
    broker = chain().brokers[0]
    client = broker.client()
    for topic in (b"foo", b"foo", b"f"):
        broker.router.subscribe(client, topic)
    client.send(event("foo"))
    assert client.only()
    assert broker.router.unsubscribe(client, b"f")
    assert broker.router.unsubscribe(client, b"foo")
    client.send(event("foo"))
    assert client.only()
    assert broker.router.unsubscribe(client, b"foo")
    client.send(event("foo"))
    assert not client.inbox
    assert not broker.router.unsubscribe(client, b"foo")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["subscribe", "unsubscribe", "look"]),
            st.integers(0, 2),
            st.sampled_from([b"", b"a", b"a-", b"a-b", b"a-b-c", b"ab", b"ab-", b"-", b"-a", b"a.b-c"]),
        ),
        max_size=40,
    )
)
def test_subscribers_are_those_whose_prefixes_match_whatever_was_asked_before(
    steps: list[tuple[str, int, bytes]],
) -> None:
    broker = chain().brokers[0]
    router = broker.router
    clients = [broker.client() for _ in range(3)]
    wanted: list[tuple[int, bytes]] = []
    for what, number, topic in steps:
        client = clients[number]
        if what == "subscribe":
            router.subscribe(client, topic)
            wanted.append((number, topic))
        elif what == "unsubscribe":
            assert router.unsubscribe(client, topic) == ((number, topic) in wanted)
            if (number, topic) in wanted:
                wanted.remove((number, topic))
        else:
            found = {clients.index(endpoint) for endpoint in router.subscribers(topic)}
            assert found == {number for number, prefix in wanted if topic.startswith(prefix)}


def test_subscribers_are_told_in_the_order_in_which_they_came() -> None:
    broker = chain().brokers[0]
    first, second, third = (broker.client() for _ in range(3))
    for client, topic in ((first, b"kvs.name"), (second, b""), (third, b"kvs"), (first, b"k")):
        broker.router.subscribe(client, topic)
    assert broker.router.subscribers(b"kvs.namespace") == [first, second, third]
    assert broker.router.subscribers(b"kv") == [first, second]
    broker.router.detach(first)
    assert broker.router.subscribers(b"kvs.namespace") == [second, third]


def test_an_event_that_nobody_would_get_is_numbered_and_need_not_be_made() -> None:
    broker = FakeWorld().brokers[0]
    router, client, other = broker.router, broker.client(), broker.client()
    assert router.unheard(b"foo")
    router.subscribe(client, b"f")
    assert not router.unheard(b"foo")
    assert router.unheard(b"foo", deaf=client)
    assert not router.unheard(b"foo", deaf=other)
    router.subscribe(other, b"foo")
    assert not router.unheard(b"foo", deaf=client)
    assert router.publish(event("foo"))[0][1].aux1 == router.sequence == 3
    assert not chain().brokers[0].router.unheard(b"foo"), "brokers below may have subscribers"


def test_private_event_is_for_its_sender_and_the_owner() -> None:
    world = chain()
    owners = listeners(world)
    guests = [world.brokers[rank].client(userid) for rank, userid in ((0, 1001), (3, 1001), (3, 1002))]
    for guest in guests:
        guest.broker.router.subscribe(guest, b"")
    guests[1].send(event("foo", PRIVATE))
    assert all(client.only()._userid == 1001 for client in owners)
    assert [len(guest.inbox) for guest in guests] == [1, 1, 0]


def test_control_message_goes_nowhere() -> None:
    world = chain()
    client = world.brokers[3].client()
    message = Message(8)
    message.topic_bytes, message.flags = b"broker.ping", 1
    client.send(message)
    assert not client.inbox


def test_event_without_a_way_to_rank_0_is_dropped() -> None:
    world = chain()
    world.cut(3)
    client = listeners(world)[3]
    client.send(event("foo"))
    assert not client.inbox


# The recording of four brokers.


class RoutersWorld:
    """Plays `wire-routing-4brokers.jsonl` on linked routers with the services that it uses."""

    RANKS = {0: 0, 1: 1, 2: 3}

    def __init__(self) -> None:
        self.world = FakeWorld(0, 0, 1)
        self.clients: dict[int, FakeClient] = {}
        for broker in self.world.brokers:
            FakeModule(broker, "event", lambda message, broker=broker: self.publish(broker, message))
        FakeModule(self.world.brokers[0], "job-manager", lambda message: message.response(b'{"max_jobid":0}\0'))

    def publish(self, broker: FakeBroker, message: Message) -> Message:
        if message.topic_bytes != b"event.publish":
            return message.response(None, errno.ENOSYS)
        if broker.rank:
            return message.response(b"this service is only available on rank 0\0", errno.EPROTO)
        published = Message.event(json.loads((message.raw or b"")[:-1])["topic"].encode())
        published._userid, published._rolemask = message._userid, message._rolemask
        broker.dispatch(broker.router.publish(published))
        return message.response(b'{"seq":%d}\0' % published.aux1)

    def open(self, conn: int, uid: int) -> None:
        self.clients[conn] = self.world.brokers[self.RANKS[conn]].client()

    def close(self, conn: int) -> None:
        self.clients[conn].close()

    def send(self, conn: int, message: Message, frame: bytes | None) -> None:
        self.clients[conn].send(message)

    def receive(self, conn: int) -> Message:
        assert self.clients[conn].inbox, f"nothing came to connection {conn}"
        return self.clients[conn].take()

    def break_off(self, conn: int) -> None:
        raise NotImplementedError

    def rest(self, conn: int) -> list[Message]:
        return list(self.clients[conn].inbox)


def test_recording_of_four_brokers() -> None:
    replay(load("wire-routing-4brokers"), RoutersWorld())


@pytest.mark.parametrize(
    ("key", "value"),
    [("errnum", 1), ("matchtag", 99), ("rolemask", 2), ("userid", 1), ("topic", "x"), ("flags", ["topic"])],
)
def test_replay_notices_what_differs(key: str, value: Any) -> None:
    entries = load("wire-routing-4brokers")
    first = next(number for number, entry in enumerate(entries) if entry.get("dir") == "b>c")
    entries[first] = entries[first] | {key: value}
    with pytest.raises(AssertionError, match=f"line {first + 1}"):
        replay(entries, RoutersWorld())


def test_replay_notices_what_nobody_recorded() -> None:
    entries = [entry for entry in load("wire-routing-4brokers") if entry.get("dir") != "b>c"]
    with pytest.raises(AssertionError, match="more than was recorded"):
        replay(entries, RoutersWorld())


def test_names_of_a_recording_stand_for_one_of_ours_each() -> None:
    """The comparison itself: it must not accept a wrong route."""
    names = Names()
    assert names.same_routes(["a" * 36, "b" * 36], (b"x" * 36, b"y" * 36))
    assert not names.same_routes(["a" * 36], (b"y" * 36,))
    assert not names.same_routes(["c" * 36], (b"x" * 36,))
    assert not names.same_routes(["a" * 36], (b"x" * 36, b"y" * 36))
    assert names.same_number(5, 1)
    assert not names.same_number(6, 1)


# Any tree, any traffic.


@st.composite
def traffic(draw: Any) -> tuple[list[int], list[tuple[int, str, int, int]], list[int]]:
    size = draw(st.integers(1, 30))
    parents = [draw(st.integers(0, rank - 1)) for rank in range(1, size)]
    ranks = st.integers(0, size - 1)
    requests = draw(
        st.lists(
            st.tuples(
                ranks,
                st.sampled_from(["broker.ping", "one.x", "never.x", "gone.x"]),
                st.sampled_from([ANY, ANY - 1, 77]) | ranks,
                st.sampled_from([0, 0, UPSTREAM, STREAMING, NORESPONSE]),
            ),
            min_size=1,
            max_size=20,
        )
    )
    return parents, requests, draw(st.lists(ranks, max_size=3))


@settings(deadline=None, max_examples=150)
@given(traffic(), st.data())
def test_every_request_is_answered_exactly_once(
    plan: tuple[list[int], list[tuple[int, str, int, int]], list[int]], data: st.DataObject
) -> None:
    """Also those under way or pending when links are lost, at services that never answer or go."""
    parents, requests, lost = plan
    world = FakeWorld(*parents)
    size = len(parents) + 1
    FakeModule(world.brokers[data.draw(st.integers(0, size - 1))], "one", world.brokers[0].answer)
    service = world.brokers[data.draw(st.integers(0, size - 1))].client()
    for name in (b"never", b"gone"):
        service.broker.router.services[name] = service
    clients = [broker.client() for broker in world.brokers]
    answers: dict[tuple[int, int], int] = {}
    for tag, (rank, topic, nodeid, flags) in enumerate(requests, 1):
        if topic in ("broker.ping", "one.x"):
            flags &= ~STREAMING  # they answer once, which would not end a stream
        answers[(rank, tag)] = 0 if flags & NORESPONSE else 1
        world.brokers[rank].clients_queue(clients[rank], request(topic, nodeid, tag, flags))
    world.run()
    for child in sorted(set(lost) - {0}):
        world.cut(child)
    service.close()
    world.run()
    seen: dict[tuple[int, int], int] = dict.fromkeys(answers, 0)
    for rank, client in enumerate(clients):
        for response in client.inbox:
            assert response.routes == ()
            seen[(rank, response.aux2)] += 1
    assert seen == answers
    for broker in world.brokers:
        for peer in (broker.router.parent, *broker.router.children.values()):
            assert peer is None or not peer.pending
