"""Futures: waiting, continuations, composites, init callbacks, and coroutines under the reactor (spec 02, 8)."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from service_thread import serving
from started import StartedInstance

import flux
from flux.constants import (
    FLUX_MSGFLAG_STREAMING,
    FLUX_MSGTYPE_EVENT,
    FLUX_MSGTYPE_REQUEST,
    FLUX_RPC_STREAMING,
)
from flux.future import Future, FutureExt, WaitAllFuture
from flux.message import Message
from flux.wire import Framer, encode


@pytest.fixture
def h(instance_handle: flux.Flux) -> flux.Flux:
    return instance_handle


@pytest.fixture
def loop() -> Iterator[flux.Flux]:
    """A handle whose messages come back to it."""
    with flux.Flux("loop://") as handle:
        yield handle


def ping(h: flux.Flux, seq: int = 0) -> Any:
    return h.rpc("broker.ping", {"seq": seq})


def error_of(call: Callable[[], Any]) -> tuple[int, str]:
    with pytest.raises(OSError) as info:  # noqa: PT011  # the caller compares it
        call()
    return info.value.errno, info.value.strerror


NOTHING = (errno.EDEADLK, "EDEADLOCK: Resource deadlock avoided")
EXPIRED = (errno.ETIMEDOUT, "ETIMEDOUT: Connection timed out")


# Waiting.


@pytest.mark.parametrize("on_handle", [False, True])
@pytest.mark.parametrize(("timeout", "error"), [(-1.0, NOTHING), (0.0, EXPIRED), (0.01, EXPIRED)])
def test_waiting_for_what_nothing_can_fulfil(h: flux.Flux, on_handle: bool, timeout: float, error: Any) -> None:
    future = FutureExt(lambda future: None, flux_handle=h if on_handle else None)
    assert error_of(lambda: future.wait_for(timeout)) == error
    assert not future.is_ready()
    future.fulfill(1)
    assert future.get() == 1


def test_fulfilments_queue_up_and_reset_takes_the_next() -> None:
    future = FutureExt(lambda future: None)
    future.fulfill("a")
    future.fulfill_error(errno.EXDEV, "text")
    future.fulfill({"c": 1})
    assert future.get() == future.get() == "a"
    assert future.error_string() is None
    future.reset()
    assert error_of(future.get) == (errno.EXDEV, "text")
    assert future.error_string() == "text"
    future.reset()
    assert future.get() == {"c": 1}
    future.reset()
    assert not future.is_ready()


def test_an_exception_in_the_init_callback_comes_out_of_the_wait_or_of_the_reactor(h: flux.Flux) -> None:
    def fail(future: FutureExt) -> None:
        raise LookupError("init")

    for handle in (None, h):
        with pytest.raises(LookupError, match="init"):
            FutureExt(fail, flux_handle=handle).get()
    future = FutureExt(fail, flux_handle=h)
    future.then(print)
    with pytest.raises(LookupError, match="init"):
        h.reactor_run()
    with pytest.raises(OSError, match="EINVAL"):
        FutureExt(fail).then(print)


# Init callbacks in a blocking wait: a view of the handle, whose callbacks that wait calls.


def test_rpcs_timers_and_descriptors_of_an_init_callback_are_served_by_the_wait(h: flux.Flux) -> None:
    reader, writer = os.pipe()

    def begin(future: FutureExt) -> None:
        view = future.get_flux()
        assert view is not h
        steps: list[str] = []

        def on_fd(view: flux.Flux, watcher: Any, fd: int, revents: int, args: Any) -> None:
            steps.append(os.read(fd, 10).decode())
            watcher.stop()
            future.fulfill(steps)

        def on_timer(*args: Any) -> None:
            steps.append("timer")
            os.write(writer, b"fd")

        def on_answer(rpc: Any) -> None:
            steps.append(f"rpc {rpc.get()['seq']}")
            view.timer_watcher_create(0.001, on_timer).start()

        view.fd_watcher_create(reader, on_fd, events=1).start()
        ping(view, 3).then(on_answer)

    ran: list[str] = []
    h.timer_watcher_create(0.0, lambda *args: ran.append("not in the wait")).start()
    assert FutureExt(begin, flux_handle=h).get() == ["rpc 3", "timer", "fd"]
    assert ran == []
    os.close(reader)
    os.close(writer)


def test_message_handlers_of_an_init_callback_get_their_messages_and_no_others(h: flux.Flux) -> None:
    h.event_subscribe("tf.")

    def begin(future: FutureExt) -> None:
        view = future.get_flux()

        def on_event(view: flux.Flux, watcher: Any, message: Message, args: Any) -> None:
            future.fulfill(message.payload)

        view.msg_watcher_create(on_event, FLUX_MSGTYPE_EVENT, "tf.b").start()
        for name in "abc":
            view.event_send(f"tf.{name}", {"name": name})

    assert FutureExt(begin, flux_handle=h).get() == {"name": "b"}
    # An event is for everybody: also for those who come later.
    assert [h.event_recv().topic for _ in range(3)] == ["tf.a", "tf.b", "tf.c"]


def test_a_message_that_was_there_before_the_wait_is_offered_to_its_handlers(h: flux.Flux) -> None:
    h.event_subscribe("tf.")
    h.event_send("tf.early", {})
    ping(h).get()

    def begin(future: FutureExt) -> None:
        def on_event(view: flux.Flux, watcher: Any, message: Message, args: Any) -> None:
            future.fulfill(message.topic)

        future.get_flux().msg_watcher_create(on_event, FLUX_MSGTYPE_EVENT).start()

    assert FutureExt(begin, flux_handle=h).get() == "tf.early"


def test_a_request_taken_in_the_wait_is_not_queued_and_another_is(h: flux.Flux, instance_uri: str) -> None:
    with flux.Flux(instance_uri) as client:
        h.service_register("tf").get()

        def begin(future: FutureExt) -> None:
            def on_request(view: flux.Flux, watcher: Any, message: Message, args: Any) -> None:
                view.respond(message, {"by": "view"})
                future.fulfill(None)

            future.get_flux().msg_watcher_create(on_request, FLUX_MSGTYPE_REQUEST, "tf.mine").start()

        other, mine = client.rpc("tf.other"), client.rpc("tf.mine")
        FutureExt(begin, flux_handle=h).get()
        assert mine.get() == {"by": "view"}
        h.msg_watcher_create(lambda f, w, m, args: f.respond(m, [1]), FLUX_MSGTYPE_REQUEST, "tf.*").start()
        h.reactor_run(flags=1)
        assert other.wait_for(60.0).get() == [1]


def test_a_handler_on_a_view_of_a_handle_that_echoes(loop: flux.Flux) -> None:
    def begin(future: FutureExt, send: bool) -> None:
        view = future.get_flux()
        view.msg_watcher_create(lambda f, w, m, args: future.fulfill(m.topic), FLUX_MSGTYPE_EVENT).start()
        if send:
            view.event_send("tf.echo")

    assert FutureExt(begin, True, flux_handle=loop).get() == "tf.echo"
    assert loop.event_recv().topic == "tf.echo"
    # Nobody else can send anything there.
    assert error_of(FutureExt(begin, False, flux_handle=loop).get) == NOTHING


def test_an_exception_in_a_callback_of_the_wait_comes_out_of_it(h: flux.Flux) -> None:
    def begin(future: FutureExt) -> None:
        ping(future.get_flux()).then(lambda rpc: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        FutureExt(begin, flux_handle=h).get()
    assert h.reactor_run() == 0


def test_a_wait_that_is_served_on_a_view_ends_in_time_and_may_be_repeated(h: flux.Flux) -> None:
    def begin(future: FutureExt) -> None:
        future.get_flux().timer_watcher_create(0.3, lambda *args: future.fulfill("done")).start()

    future = FutureExt(begin, flux_handle=h)
    assert error_of(lambda: future.wait_for(0.001)) == EXPIRED
    assert future.get() == "done"


def test_a_future_that_was_waited_for_in_vain_gets_a_second_init_for_its_continuation(h: flux.Flux) -> None:
    handles = []

    def begin(future: FutureExt) -> None:
        handles.append(future.get_flux())
        if len(handles) == 2:
            ping(future.get_flux()).then(lambda rpc: future.fulfill("from the loop"))

    future = FutureExt(begin, flux_handle=h)
    assert error_of(lambda: future.wait_for(0.001)) == EXPIRED
    got: list[Any] = []
    future.then(lambda future: got.append(future.get()))
    h.reactor_run()
    assert got == ["from the loop"]
    assert handles[1] is h
    assert handles[0] is not h


def test_a_handle_that_closes_does_so_although_a_view_of_it_was_waited_on(instance_uri: str) -> None:
    with flux.Flux(instance_uri) as handle:
        future = FutureExt(lambda future: None, flux_handle=handle)
        assert error_of(lambda: future.wait_for(0.001)) == EXPIRED
        fd = handle.core.fileno()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("watch", [False, True])
def test_a_lost_connection_ends_a_wait_on_a_view(start_instance: Callable[[], StartedInstance], watch: bool) -> None:
    instance = start_instance()
    with flux.Flux(instance.uri) as handle:

        def begin(future: FutureExt) -> None:
            view = future.get_flux()
            if watch:
                view.msg_watcher_create(print, FLUX_MSGTYPE_EVENT).start()
            else:
                rpc = view.rpc("log.dmesg", {"follow": True, "nobacklog": True}, flags=FLUX_RPC_STREAMING)
                rpc.then(lambda rpc: future.fulfill_error(errno.EXDEV, rpc.error_string()))
            view.timer_watcher_create(0.0, lambda *args: instance.kill()).start()

        future = FutureExt(begin, flux_handle=handle)
        expected = (errno.ECONNRESET, "ECONNRESET: Connection reset by peer") if watch else None
        assert error_of(future.get) == (expected or (errno.EXDEV, "Connection reset by peer"))


def test_a_wait_within_the_wait_leaves_it_what_it_has_met() -> None:
    ours, broker = socket.socketpair()
    broker.send(b"\0")

    def requests(count: int) -> list[Message]:
        found: list[Message] = []
        while len(found) < count:
            message = framer.next()
            if message is None:
                framer.feed(broker.recv(65536))
            else:
                found.append(message)
        return found

    def answer(*answered: Message) -> None:
        responses = [request.response() for request in answered]
        for response in responses:
            response.rolemask = 1
        broker.sendall(b"".join(map(encode, responses)))

    def other_end() -> None:
        first, second = requests(2)
        answer(first)
        answer(*requests(1), second)  # in one piece

    framer = Framer()
    thread = threading.Thread(target=other_end)
    thread.start()
    with flux.Flux(f"fd://{ours.detach()}") as handle:

        def begin(future: FutureExt) -> None:
            view = future.get_flux()
            view.rpc("a.first").then(lambda rpc: view.rpc("a.nested").get())
            view.rpc("a.second").then(lambda rpc: future.fulfill("all"))

        assert FutureExt(begin, flux_handle=handle).get() == "all"
    thread.join(60.0)
    broker.close()


def test_a_wait_that_goes_on_after_the_loss_does_so_quietly(
    start_instance: Callable[[], StartedInstance], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a stream stays readable for ever."""
    instance = start_instance()
    with flux.Flux(instance.uri) as handle:
        reads: list[None] = []
        connector = handle.core.link.connector
        read = connector.read_available
        monkeypatch.setattr(connector, "read_available", lambda: (reads.append(None), read()))

        def begin(future: FutureExt) -> None:
            view = future.get_flux()
            view.timer_watcher_create(0.0, lambda *args: instance.kill()).start()
            view.timer_watcher_create(0.05, lambda *args: future.fulfill("in time")).start()

        assert FutureExt(begin, flux_handle=handle).get() == "in time"
        assert len(reads) < 5


# Continuations.


def test_a_late_response_is_a_second_fulfilment_after_a_timeout(h: flux.Flux, instance_uri: str) -> None:
    held: list[Message] = []

    def handler(handle: flux.Flux, message: Message) -> None:
        if message.topic == "tflate.hold":
            held.append(message)
        else:
            handle.respond(held.pop(), {"late": True})
            handle.respond(message)

    with serving(instance_uri, "tflate", handler):
        seen: list[Any] = []

        def callback(future: Any) -> None:
            seen.append(future.error_string() or future.get())
            future.reset()
            if len(seen) == 1:
                h.rpc("tflate.release")

        h.rpc("tflate.hold").then(callback, timeout=0.01)
        assert h.reactor_run() == 0
        assert seen == ["Connection timed out", {"late": True}]


def test_reset_starts_the_time_anew_and_arrival_ends_it(h: flux.Flux) -> None:
    seen: list[Any] = []

    def callback(future: Any, name: str) -> None:
        seen.append((name, future.error_string()))
        if len(seen) == 1:
            future.reset()

    future = FutureExt(lambda future: None, flux_handle=h)
    future.then(callback, "a", timeout=0.5)  # by which the other one is answered
    # The time limit of an RPC that is answered does not hold the loop, even if it is reset.
    ping(h).then(callback, "rpc", timeout=1000.0)
    h.reactor_run()
    assert seen == [("rpc", None), ("a", "Connection timed out")]


def test_then_twice_is_refused_until_the_first_has_run(h: flux.Flux) -> None:
    seen: list[int] = []
    future = ping(h)
    future.then(lambda future: seen.append(1))
    text = "then callback already exists for this future"
    assert error_of(lambda: future.then(print)) == (errno.EEXIST, text)
    h.reactor_run()
    future.then(lambda future: seen.append(2))
    assert h.reactor_run() == 0
    assert seen == [1, 2]


def test_a_failing_continuation_is_not_called_again_and_leaves_the_others(h: flux.Flux) -> None:
    seen: list[int] = []
    first, second = ping(h, 1), ping(h, 2)
    first.then(lambda future: 1 / 0)
    second.then(lambda future: seen.append(future.get()["seq"]))
    with pytest.raises(ZeroDivisionError):
        h.reactor_run()
    assert first.stopped
    assert h.reactor_run() == 0
    assert seen == [2]


def test_streams_are_read_by_waiting_and_by_continuation(h: flux.Flux, instance_uri: str) -> None:
    def handler(handle: flux.Flux, message: Message) -> None:
        assert message.flags & FLUX_MSGFLAG_STREAMING
        for number in range(5):
            handle.respond(message, {"n": number})
        handle.respond_error(message, errno.ENODATA, None)

    with serving(instance_uri, "tfstream", handler):
        seen: list[int] = []
        stream = h.rpc("tfstream.go", flags=FLUX_RPC_STREAMING)
        with pytest.raises(OSError, match="No data available"):  # noqa: PT012  # what raises is the loop
            while True:
                seen.append(stream.get()["n"])
                stream.reset()
        assert seen == list(range(5))
        stream.reset()
        assert not stream.is_ready()

        def callback(future: Any) -> None:
            if future.error_string() is None:
                seen.append(future.get()["n"])
                future.reset()
            else:
                seen.append(-1)

        h.rpc("tfstream.go", flags=FLUX_RPC_STREAMING).then(callback)
        assert h.reactor_run() == 0
        assert seen == [*range(5), *range(5), -1]


# Composites and chains.


def test_a_composite_is_fulfilled_with_all_its_children_and_has_the_errno_of_one_that_failed(h: flux.Flux) -> None:
    def tree(*futures: Any) -> WaitAllFuture:
        every = WaitAllFuture()
        for future in futures:
            every.push(future)
        return every

    inner = tree(
        ping(h, 1),
        FutureExt(
            lambda future: ping(future.get_flux(), 2).then(lambda rpc: future.fulfill(rpc.get()["seq"])), flux_handle=h
        ),
    )
    outer = tree(inner, ping(h, 3))
    assert outer.get() is None
    assert inner.children[1].get() == 2
    assert error_of(tree(ping(h), h.rpc("no.such"), ping(h)).get) == (errno.ENOSYS, "Function not implemented")
    assert tree().get() is None
    named = WaitAllFuture()
    named.push(ping(h), "a")
    assert error_of(lambda: named.push(ping(h), "a")) == (errno.EEXIST, "EEXIST: File exists")

    seen: list[Any] = []
    tree(inner, ping(h), FutureExt(lambda future: future.fulfill(1), flux_handle=h)).then(seen.append)
    tree(h.rpc("no.such")).then(lambda future: seen.append(future.error_string()))
    assert h.reactor_run() == 0
    assert sorted(map(str, seen))[1] == "Function not implemented"
    assert len(seen) == 2


def test_a_chain_of_futures_is_served_by_one_wait(h: flux.Flux) -> None:
    class Doubled(FutureExt):
        def __init__(self, previous: Callable[[flux.Flux], Future]) -> None:
            super().__init__(self._begin, flux_handle=h)
            self.previous = previous

        def _begin(self, future: FutureExt) -> None:
            view = self.get_flux()
            assert view is not None
            self.previous(view).then(self._next)

        def _next(self, future: Future) -> None:
            self.fulfill(2 * future.get()["seq"])

    assert Doubled(lambda view: ping(view, 21)).get() == 42
    seen: list[Any] = []
    Doubled(lambda view: ping(view, 4)).then(lambda future: seen.append(future.get()))
    h.reactor_run()
    assert seen == [8]


# Coroutines under the reactor.


def test_async_continuations_and_handlers_await_futures(h: flux.Flux, instance_uri: str) -> None:
    async def handler(handle: flux.Flux, message: Message) -> None:
        if message.topic == "tfasync.fail":
            await ping(handle)
            raise OSError(errno.EXDEV, "after an await")
        if message.topic == "tfasync.refuse":
            raise OSError(errno.EXDEV, None)
        numbers = [(await ping(handle, seq))["seq"] for seq in range(3)]
        handle.respond(message, numbers)

    with serving(instance_uri, "tfasync", handler):
        calls = [h.rpc("tfasync.numbers") for _ in range(20)]
        assert [call.get() for call in calls] == 20 * [[0, 1, 2]]
        assert error_of(h.rpc("tfasync.fail").get) == (errno.EXDEV, "after an await")
        assert error_of(h.rpc("tfasync.refuse").get) == (errno.EXDEV, os.strerror(errno.EXDEV))
        seen: list[Any] = []

        async def callback(future: Any, name: str) -> None:
            seen.append((name, (await h.rpc("tfasync.numbers"))[2], future.get()["seq"]))
            every = WaitAllFuture()
            every.push(ping(h))
            every.push(h.rpc("no.such"))
            with pytest.raises(OSError, match="Function not implemented"):
                await every
            assert await FutureExt(lambda future: future.fulfill(7)) == 7
            assert await FutureExt(lambda future: future.fulfill(8), flux_handle=h) == 8
            gc.collect()  # nothing but the handle holds what is awaited
            await ping(h)
            seen.append("end")

        ping(h, 5).then(callback, "x")
        assert h.reactor_run() == 0
        assert seen == [("x", 2, 5), "end"]


def test_a_coroutine_is_only_stepped_by_what_it_awaits(h: flux.Flux, instance_uri: str) -> None:
    """A stream whose later responses come while something else is awaited."""
    held: list[Message] = []

    def handler(handle: flux.Flux, message: Message) -> None:
        if message.topic == "tfstep.slow":
            held.append(message)
            handle.respond(held[0], 2)
            handle.respond(held[0], 3)
            handle.respond(message, {"slow": True})
        else:
            held.append(message)
            handle.respond(message, 1)

    with serving(instance_uri, "tfstep", handler):
        seen: list[Any] = []

        async def callback(future: Any) -> None:
            stream = h.rpc("tfstep.stream", flags=FLUX_RPC_STREAMING)
            seen.append(await stream)
            stream.reset()
            seen.append(await h.rpc("tfstep.slow"))
            for _ in range(2):
                seen.append(await stream)
                stream.reset()
            h.reactor_stop()

        ping(h).then(callback)
        h.reactor_run()
        assert seen == [1, {"slow": True}, 2, 3]


def test_several_coroutines_and_a_continuation_may_wait_for_one_future(h: flux.Flux) -> None:
    shared = ping(h, 6)
    seen: list[Any] = []
    shared.then(lambda future: seen.append("then"))

    async def callback(future: Any) -> None:
        seen.append((await shared)["seq"])

    for _ in range(2):
        FutureExt(lambda future: future.fulfill(None), flux_handle=h).then(callback)
    h.reactor_run()
    assert sorted(map(str, seen)) == ["6", "6", "then"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_exception_in_a_coroutine_comes_out_of_the_reactor(h: flux.Flux, when: str) -> None:
    async def callback(future: Any) -> None:
        if when == "after":
            await ping(h)
        raise LookupError(when)

    ping(h).then(callback)
    with pytest.raises(LookupError, match=when):
        h.reactor_run()
    assert h.reactor_run() == 0


def test_an_error_that_is_awaited_can_be_caught_where_it_is_awaited(h: flux.Flux) -> None:
    seen: list[Any] = []

    def fail(future: FutureExt) -> None:
        raise LookupError("init")

    async def callback(future: Any) -> None:
        for awaited in (h.rpc("no.such"), FutureExt(fail, flux_handle=h), asyncio.sleep(0)):
            try:
                await awaited
            except (OSError, LookupError, TypeError) as exc:
                seen.append(type(exc).__name__)

    ping(h).then(callback)
    assert h.reactor_run() == 0
    assert seen == ["OSError", "LookupError", "TypeError"]


def test_coroutines_end_with_their_handle(instance_uri: str) -> None:
    seen: list[str] = []

    async def callback(future: Any) -> None:
        try:
            await future.get_flux().rpc("log.dmesg", {"follow": True, "nobacklog": True}, flags=FLUX_RPC_STREAMING)
        finally:
            seen.append("finally")

    with flux.Flux(instance_uri) as handle:
        ping(handle).then(callback)
        ping(handle).then(lambda future: handle.reactor_stop())
        handle.reactor_run()
        assert seen == []
    assert seen == ["finally"]


def test_a_coroutine_of_a_lost_connection_has_nobody_to_answer(start_instance: Callable[[], StartedInstance]) -> None:
    instance = start_instance()
    seen: list[str] = []
    with flux.Flux(instance.uri) as handle, flux.Flux(instance.uri) as client:

        async def handler(handle: flux.Flux, watcher: Any, message: Message, args: Any) -> None:
            rpc = handle.rpc("log.dmesg", {"follow": True, "nobacklog": True}, flags=FLUX_RPC_STREAMING)
            instance.kill()
            try:
                await rpc
            finally:
                seen.append(rpc.error_string())

        handle.msg_watcher_create(handler, FLUX_MSGTYPE_REQUEST, "tflost.*").start()
        handle.service_register("tflost").get()
        request = client.rpc("tflost.x")
        assert handle.reactor_run() == -1
        assert error_of(request.get)[0] == errno.ECONNRESET
    assert seen == ["Connection reset by peer"]
