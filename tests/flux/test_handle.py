"""The handle: receiving, requeueing, descriptors for foreign loops, and what becomes of a lost connection."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gc
import os
import select
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from started import StartedInstance

import flux
import flux.aio
from flux.constants import (
    FLUX_MSGTYPE_EVENT,
    FLUX_MSGTYPE_REQUEST,
    FLUX_O_NONBLOCK,
    FLUX_O_NOREQUEUE,
    FLUX_O_RPCTRACK,
    FLUX_POLLERR,
    FLUX_POLLIN,
    FLUX_POLLOUT,
    FLUX_RPC_STREAMING,
    FLUX_RQ_HEAD,
    FLUX_RQ_TAIL,
)
from flux.core.aiopump import attach
from flux.message import Message
from flux.wire import encode

FOLLOW = {"follow": True, "nobacklog": True}


@pytest.fixture
def h(instance_handle: flux.Flux) -> flux.Flux:
    return instance_handle


@pytest.fixture
def loop() -> Iterator[flux.Flux]:
    """A handle whose messages come back to it."""
    with flux.Flux("loop://") as handle:
        yield handle


@pytest.fixture
def lost(start_instance: Callable[[], StartedInstance]) -> Iterator[flux.Flux]:
    """A handle whose broker has been killed; it has not noticed."""
    instance = start_instance()
    with flux.Flux(instance.uri) as handle:
        handle.get_rank()
        instance.kill()
        yield handle


def error_of(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(OSError) as info:  # noqa: PT011  # the caller compares it
        call()
    return info.value.errno, info.value.strerror


def shape_a(number: int) -> tuple[int, str]:
    return number, f"{errno.errorcode[number]}: {os.strerror(number)}"


def topics(h: flux.Flux) -> str:
    """The topics of all that can be received without waiting."""
    seen = ""
    while True:
        try:
            seen += h.recv(flags=FLUX_O_NONBLOCK).topic
        except BlockingIOError:
            return seen


# recv and requeue (spec 01, 6.2 and 6.3).


@pytest.mark.parametrize("connection", ["loop", "h"])
def test_recv_leaves_what_does_not_match_in_its_order(connection: str, request: pytest.FixtureRequest) -> None:
    handle: flux.Flux = request.getfixturevalue(connection)
    if connection == "h":
        handle.event_subscribe("")
    for topic in "abcde":
        handle.event_send(topic)
    assert handle.event_recv("c").topic == "c"
    rest = [handle.event_recv("[abde]").topic for _ in range(2)]
    assert rest == ["a", "b"]
    assert [handle.event_recv("?").topic for _ in range(2)] == ["d", "e"]


def test_recv_without_waiting_keeps_all_that_does_not_match(loop: flux.Flux) -> None:
    for topic in "abc":
        loop.event_send(topic)
    for match in ({"type_mask": FLUX_MSGTYPE_REQUEST}, {"topic_glob": "x*"}, {"match_tag": 3}):
        assert error_of(lambda match=match: loop.recv(flags=FLUX_O_NONBLOCK, **match)) == shape_a(errno.EAGAIN)
    assert topics(loop) == "abc"
    assert error_of(loop.recv) == shape_a(errno.EAGAIN)
    assert error_of(lambda: loop.recv(flags=64)) == shape_a(errno.EINVAL)


def test_a_handle_opened_so_never_waits(instance_uri: str) -> None:
    with flux.Flux(instance_uri, FLUX_O_NONBLOCK) as h:
        assert error_of(h.recv) == shape_a(errno.EAGAIN)
        assert h.rpc("broker.ping", {"seq": 1}).get()["seq"] == 1
        h.flux_flags_unset(FLUX_O_NONBLOCK)
        h.event_subscribe("hdl.")
        h.event_send("hdl.x")
        assert h.recv().topic == "hdl.x"
        h.flux_flags_set(FLUX_O_NONBLOCK)
        assert error_of(h.recv) == shape_a(errno.EAGAIN)


def test_requeued_messages_come_first_or_last(loop: flux.Flux) -> None:
    messages = {topic: loop.event_create(topic) for topic in "abcd"}
    loop.event_send("x")
    loop.flux_requeue(messages["a"], FLUX_RQ_TAIL)
    loop.flux_requeue(messages["b"], FLUX_RQ_HEAD)
    loop.flux_requeue(messages["c"], FLUX_RQ_HEAD)
    loop.flux_requeue(messages["d"], FLUX_RQ_TAIL)
    assert topics(loop) == "cbadx"
    for flags in (0, FLUX_RQ_HEAD | FLUX_RQ_TAIL):
        assert error_of(lambda flags=flags: loop.flux_requeue(messages["a"], flags)) == shape_a(errno.EINVAL)
    with flux.Flux("loop://", FLUX_O_NOREQUEUE) as other:
        assert error_of(lambda: other.flux_requeue(messages["a"], FLUX_RQ_TAIL)) == shape_a(errno.EINVAL)


def test_a_requeued_message_reaches_the_handlers(h: flux.Flux) -> None:
    seen: list[str] = []

    def on_event(h: flux.Flux, watcher: Any, message: Message, args: Any) -> None:
        seen.append(message.topic)
        if len(seen) == 1:
            h.flux_requeue(message, FLUX_RQ_TAIL)
        else:
            watcher.stop()

    h.event_subscribe("hdl.")
    h.event_send("hdl.x")
    h.msg_watcher_create(on_event, FLUX_MSGTYPE_EVENT).start()
    assert h.reactor_run() == 0
    assert seen == ["hdl.x", "hdl.x"]


def test_a_response_that_was_set_aside_is_found_by_who_waits_for_it(h: flux.Flux) -> None:
    h.event_subscribe("hdl.")
    first = h.rpc("broker.ping", {"seq": 1})
    h.event_send("hdl.x")
    assert h.event_recv("hdl.x").topic == "hdl.x"
    assert first.get()["seq"] == 1


# pollfd and pollevents (spec 01, 6.4).


def readable(fd: int, timeout: float = 0.0) -> bool:
    return bool(select.select([fd], [], [], timeout)[0])


@pytest.mark.parametrize("connection", ["loop", "h"])
def test_the_pollfd_is_readable_while_there_is_something_to_receive(
    connection: str, request: pytest.FixtureRequest
) -> None:
    handle: flux.Flux = request.getfixturevalue(connection)
    if connection == "h":
        handle.event_subscribe("")
        handle.event_send("before")
        handle.get_rank()  # has met the event, and set it aside
        assert handle.event_recv("before").topic == "before"
    fd = handle.flux_pollfd()
    assert handle.flux_pollfd() == fd
    assert handle.flux_pollevents() == FLUX_POLLOUT
    assert not readable(fd)
    for topic in "ab":
        handle.event_send(topic)
    assert readable(fd, 10.0)
    if connection == "h":
        # What a blocking call has met is in this process, and in no socket.
        assert handle.rpc("broker.ping", {"seq": 1}).get()["seq"] == 1
        assert readable(fd)
    assert handle.flux_pollevents() == FLUX_POLLIN | FLUX_POLLOUT
    message = handle.recv()
    assert readable(fd)
    assert handle.recv().topic == "b"
    assert not readable(fd)
    handle.flux_requeue(message, FLUX_RQ_HEAD)
    assert readable(fd)
    assert topics(handle) == "a"
    assert not readable(fd)
    assert handle.flux_pollevents() == FLUX_POLLOUT


def test_a_foreign_loop_can_run_the_reactor_when_the_pollfd_says_so(h: flux.Flux) -> None:
    fd, seen = h.flux_pollfd(), []
    for number in range(10):
        h.rpc("broker.ping", {"seq": number}).then(lambda future: seen.append(future.get()["seq"]))
    while len(seen) < 10:
        assert readable(fd, 10.0)
        h.reactor_run(flags=1)
    assert seen == list(range(10))
    assert not readable(fd)


def test_a_sender_that_was_refused_is_told_when_to_try_again() -> None:
    ours, broker = socket.socketpair()
    broker.send(b"\0")
    with flux.Flux(f"fd://{ours.detach()}") as h:
        fd = h.flux_pollfd()
        message = h.event_create("x", "y" * 10000)
        sent = 0
        with pytest.raises(BlockingIOError):  # noqa: PT012  # what raises is the loop
            while True:
                h.send(message, FLUX_O_NONBLOCK)
                sent += 1
        assert sent > 0
        assert h.flux_pollevents() == 0
        assert not readable(fd)
        while not readable(fd):
            broker.recv(1 << 20)
        assert h.flux_pollevents() == FLUX_POLLOUT
        assert h.send(message, FLUX_O_NONBLOCK) == 0
    broker.close()


# A blocking send reads as well, so as not to wait for a broker that waits for us. Nothing announces that input.


@pytest.fixture
def blocked() -> Iterator[tuple[flux.Flux, Callable[[], None]]]:
    """A handle, and a function that sends on it until that has had to wait, and by that has taken in an event."""
    ours, broker = socket.socketpair()
    broker.send(b"\0")
    event = Message.event(b"taken.in")
    event.rolemask = 1

    def other_end() -> None:
        broker.recv(1, socket.MSG_PEEK)
        broker.sendall(encode(event))
        # Only when the event has been read is there room again.
        outgoing = select.poll()
        outgoing.register(broker, select.POLLIN)
        unread = 1
        while unread:
            outgoing.poll(1)
            unread = struct.unpack("i", fcntl.ioctl(broker, termios.TIOCOUTQ, bytes(4)))[0]
        while broker.recv(1 << 20):
            pass

    thread = threading.Thread(target=other_end)

    def send() -> None:
        thread.start()
        handle.event_send("x", 1_000_000 * "y")

    with flux.Flux(f"fd://{ours.detach()}") as handle:
        yield handle, send
    thread.join(60.0)
    broker.close()


def test_the_reactor_hears_of_what_a_blocking_send_has_read(blocked: tuple[flux.Flux, Callable[[], None]]) -> None:
    h, send = blocked
    seen: list[str] = []

    def on_event(h: flux.Flux, watcher: Any, message: Message, args: Any) -> None:
        seen.append(message.topic)
        watcher.stop()

    h.msg_watcher_create(on_event, FLUX_MSGTYPE_EVENT).start()
    h.timer_watcher_create(0.0, lambda *args: send()).start()
    assert h.reactor_run() == 0
    assert seen == ["taken.in"]


def test_foreign_loops_hear_of_what_a_blocking_send_has_read(blocked: tuple[flux.Flux, Callable[[], None]]) -> None:
    h, send = blocked
    fd = h.flux_pollfd()
    send()
    assert readable(fd)
    assert h.recv().topic == "taken.in"


def test_asyncio_hears_of_what_a_blocking_send_has_read(blocked: tuple[flux.Flux, Callable[[], None]]) -> None:
    h, send = blocked
    seen: list[str] = []

    async def main() -> None:
        attach(h.core, asyncio.get_running_loop())
        h.msg_watcher_create(lambda h, w, m, args: seen.append(m.topic), FLUX_MSGTYPE_EVENT).start()
        await asyncio.sleep(0)
        send()
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(main())
    assert seen == ["taken.in"]


# Clones and adopted handles.


def test_a_clone_has_its_own_callbacks_on_the_same_connection(h: flux.Flux) -> None:
    clone = flux.Flux(handle=h.flux_clone())
    assert clone.handle != h.handle
    seen: list[Any] = []
    clone.rpc("broker.ping", {"seq": 1}).then(lambda future: seen.append(future.get()["seq"]))
    later = h.rpc("broker.ping", {"seq": 2})
    assert clone.reactor_run() == 0
    assert seen == [1]
    assert later.get()["seq"] == 2
    adopted = flux.Flux(handle=h.incref())
    assert adopted.handle == h.handle
    del clone
    fd = h.core.fileno()
    with h:
        assert adopted.get_rank() == 0
    os.fstat(fd)
    del adopted
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


# A lost connection (spec 02, 3.4).


def test_sending_fails_with_epipe_and_receiving_with_econnreset(lost: flux.Flux) -> None:
    for _ in range(2):
        assert error_of(lost.recv) == shape_a(errno.ECONNRESET)
    for _ in range(2):
        assert error_of(lambda: lost.rpc("broker.ping")) == shape_a(errno.EPIPE)
        assert error_of(lambda: lost.event_send("x")) == shape_a(errno.EPIPE)
        assert error_of(lambda: lost.event_subscribe("x")) == shape_a(errno.EPIPE)
    assert lost.flux_pollevents() & FLUX_POLLERR
    assert lost.flux_pollevents() & FLUX_POLLIN
    assert lost.get_rank() == 0
    lost.log(6, "silent")
    assert lost.core.link.pending == {}


def test_whatever_waits_hears_of_the_loss(start_instance: Callable[[], StartedInstance]) -> None:
    instance = start_instance()
    with flux.Flux(instance.uri) as h:
        stream = {"topic": "log.dmesg", "payload": FOLLOW, "flags": FLUX_RPC_STREAMING}
        waiting = [h.rpc(**stream) for _ in range(3)]
        seen: list[str] = []
        for _ in range(3):
            h.rpc(**stream).then(lambda future: seen.append(future.error_string()))
        h.rpc("broker.ping", {}).get()
        instance.kill()
        for rpc in waiting:
            assert error_of(rpc.get) == (errno.ECONNRESET, "Connection reset by peer")
        assert h.reactor_run() == 0
        assert seen == 3 * ["Connection reset by peer"]
        with h.msg_watcher_create(print, FLUX_MSGTYPE_EVENT):
            assert [h.reactor_run() for _ in range(2)] == [-1, -1]
        assert h.reactor_run() == 0


def test_the_reactor_stops_when_the_connection_goes_and_runs_what_came_before(
    start_instance: Callable[[], StartedInstance],
) -> None:
    instance = start_instance()
    with flux.Flux(instance.uri) as h:
        seen: list[str] = []
        h.event_subscribe("hdl.")
        for number in range(5):
            h.event_send(f"hdl.{number}")
        h.rpc("broker.ping", {}).get()
        h.msg_watcher_create(lambda h, w, m, args: seen.append(m.topic), FLUX_MSGTYPE_EVENT).start()
        h.timer_watcher_create(0.0, lambda *args: instance.kill()).start()
        assert h.reactor_run() == -1
        assert seen == [f"hdl.{number}" for number in range(5)]


# Reconnecting (spec 01, 3.9).


@pytest.mark.parametrize("flags", [0, FLUX_O_RPCTRACK])
def test_reconnecting_fails_what_was_pending_and_goes_on(instance_uri: str, flags: int) -> None:
    with flux.Flux(instance_uri, flags) as h:
        fd = h.flux_pollfd()
        dropped = h.rpc("log.dmesg", FOLLOW, flags=FLUX_RPC_STREAMING)
        pending = [h.rpc("log.dmesg", FOLLOW, flags=FLUX_RPC_STREAMING) for _ in range(3)]
        del dropped
        seen: list[str] = []
        pending[1].then(lambda future: seen.append(future.error_string()))
        watcher = h.msg_watcher_create(lambda h, w, m, args: (seen.append(m.topic), w.stop()), FLUX_MSGTYPE_EVENT)
        watcher.start()
        h.reactor_run(flags=1)
        assert h.flux_reconnect() == 0
        text = "RPC aborted due to broker reconnect"
        for rpc in pending:
            assert error_of(rpc.get) == (errno.ECONNRESET, text)
        del rpc, pending
        gc.collect()  # the tracebacks of what was raised
        # Nothing is subscribed to on the new connection; the watchers are those there were.
        h.event_subscribe("hdl.")
        h.event_send("hdl.x")
        assert readable(fd, 10.0)
        assert h.flux_pollfd() == fd
        assert h.reactor_run() == 0
        assert seen == [text, "hdl.x"]
        link = h.core.link
        assert (link.pending, link.tags_available) == ({}, link.tags_size)


def test_reconnecting_to_a_broker_that_has_gone(lost: flux.Flux, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_LOCAL_CONNECTOR_RETRY_COUNT", "0")
    rpc = lost.rpc
    assert error_of(lost.recv)[0] == errno.ECONNRESET
    assert error_of(lost.flux_reconnect)[0] in (errno.ENOENT, errno.ECONNREFUSED)
    assert error_of(lambda: rpc("broker.ping"))[0] == errno.EPIPE
    assert error_of(lost.recv)[0] == errno.ECONNRESET


def test_a_handle_that_cannot_reconnect_stays_as_it_is(loop: flux.Flux) -> None:
    loop.event_send("x")
    assert error_of(loop.flux_reconnect) == shape_a(errno.ENOSYS)
    assert topics(loop) == "x"


def test_a_handle_under_asyncio_reconnects(instance_uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(instance_uri) as h:
            pending = asyncio.create_task(h.rpc("groups.get", {"name": "broker.online"}))
            await h.rpc("broker.ping", {})
            await pending
            h.flux.flux_reconnect()
            async with h.subscribe("hdl.") as events:
                h.publish("hdl.again")
                assert (await asyncio.wait_for(anext(aiter(events)), 10.0)).topic == "hdl.again"

    asyncio.run(main())


# Credentials of testing, attributes as seen through a proxy.


@pytest.mark.parametrize(
    ("userid", "rolemask", "seen"),
    [("1234", "0x2", (1234, 2)), ("1234", None, None), (None, "0x3", (os.getuid(), 3)), (None, None, None)],
)
def test_a_test_may_play_another_user(
    instance_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    userid: str | None,
    rolemask: str | None,
    seen: tuple[int, int] | None,
) -> None:
    for name, value in (("USERID", userid), ("ROLEMASK", rolemask)):
        if value is not None:
            monkeypatch.setenv(f"FLUX_HANDLE_{name}", value)
    with flux.Flux(instance_uri) as h:
        answer = h.rpc("broker.ping", {}).get()
    # Where only one is given, the broker stamps the other as it does for the instance owner.
    expected = seen or (int(userid or os.getuid()), answer["rolemask"])
    assert (answer["userid"], answer["rolemask"]) == expected


def test_a_bad_number_for_the_user_to_play_is_refused(instance_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLUX_HANDLE_USERID", "nobody")
    assert error_of(lambda: flux.Flux(instance_uri)) == (
        errno.EINVAL,
        "Unable to connect to Flux: Invalid argument",
    )


def test_the_parents_socket_is_on_the_host_that_the_proxy_came_from(
    h: flux.Flux, instance_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    h.core.link.attrs["parent-uri"] = "local:///tmp/x"
    monkeypatch.setenv("FLUX_PROXY_REMOTE", "host1")
    assert h.attr_get("parent-uri") == "ssh://host1/tmp/x"
    assert h.attr_get("local-uri") == instance_uri
    monkeypatch.delenv("FLUX_PROXY_REMOTE")
    assert h.attr_get("parent-uri") == "local:///tmp/x"
