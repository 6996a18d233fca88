"""flux.aio under asyncio's own loop and under uvloop: RPCs, streams, events, services, and their ends."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from started import StartedInstance

import flux
import flux.aio
from flux.aio import AsyncFlux
from flux.constants import FLUX_MSGTYPE_REQUEST, FLUX_RPC_NORESPONSE, FLUX_RPC_STREAMING
from flux.future import FutureExt, WaitAllFuture
from flux.message import Message
from flux.wire import Framer, encode

PATIENCE = 60.0
FACTORIES = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=list(FACTORIES))
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs a coroutine to its end on a loop of each kind; what asyncio's exception handler gets fails the test."""
    unhandled: list[dict[str, Any]] = []

    async def limited(coro: Coroutine[Any, Any, Any]) -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context))
        return await asyncio.wait_for(coro, PATIENCE)

    def run(coro: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=FACTORIES[request.param]) as runner:
            return runner.run(limited(coro))

    yield run
    assert unhandled == []


@pytest.fixture
def uri(instance_uri: str) -> str:
    return instance_uri


def failures() -> list[str]:
    """Collects what asyncio's exception handler of the running loop is given."""
    texts: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: texts.append(repr(context.get("exception"))))
    return texts


@asynccontextmanager
async def serving(uri: str, name: str = "aiotest", **handlers: Any) -> AsyncIterator[flux.aio.ServedService]:
    """A service on a handle of its own; underscores in the names of the methods stand for dashes."""
    async with flux.aio.connect(uri) as h, h.service(name) as service:
        for method, handler in handlers.items():
            service.method(method.replace("_", "-"), handler)
        yield service


async def until(condition: Callable[[], Any]) -> None:
    """Waits for what other callbacks of the loop bring about."""
    while not condition():
        await asyncio.sleep(0)


async def error_of(awaitable: Awaitable[Any]) -> tuple[int, str]:
    with pytest.raises(OSError) as info:  # noqa: PT011  # the caller compares it
        await awaitable
    return info.value.errno, info.value.strerror


def tags_in_use(h: AsyncFlux) -> int:
    link = h.flux.core.link
    return link.tags_size - link.tags_available


# RPC.


def test_rpc_gives_the_payload_and_raises_the_error_of_the_response(run: Run, uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(uri) as h:
            answer = await h.rpc("broker.ping", {"seq": 3})
            assert answer["seq"] == 3
            text = "No service matching no.such is registered"
            assert await error_of(h.rpc("no.such")) == (errno.ENOSYS, text)
            assert await error_of(h.rpc("broker.ping", {}, nodeid=7)) == (errno.EHOSTUNREACH, "No route to host")
            assert (await h.get_rank(), await h.get_size()) == (0, 1)
            await h.attr_set("test.aio", "x")
            assert await h.attr_get("test.aio") == "x"
            assert (await error_of(h.attr_get("test.nothing")))[0] == errno.ENOENT

    run(main())


def test_a_thousand_rpcs_at_a_time_get_their_own_answers(run: Run, uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(uri) as h:
            answers = await asyncio.gather(*(h.rpc("broker.ping", {"seq": i}) for i in range(1000)))
            assert [answer["seq"] for answer in answers] == list(range(1000))
            assert tags_in_use(h) == 0

    run(main())


def test_two_handles_share_a_loop(run: Run, uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(uri) as a, flux.aio.connect(uri) as b:
            answers = await asyncio.gather(*(h.rpc("broker.ping", {"seq": i}) for i in range(50) for h in (a, b)))
            assert [answer["seq"] for answer in answers] == [i for i in range(50) for _ in range(2)]

    run(main())


def test_no_thread_is_started_and_an_idle_loop_is_not_woken(run: Run, uri: str) -> None:
    async def main() -> None:
        threads = threading.active_count()
        loop = asyncio.get_running_loop()
        async with flux.aio.connect(uri) as h, h.subscribe("aiotest.") as events:
            await h.rpc("broker.ping", {})
            waiting = asyncio.ensure_future(anext(aiter(events)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            woken: list[object] = []
            pump = h.flux.core.pump
            assert pump is not None
            for name in ("_run", "_on_readable"):
                original = getattr(pump, name)
                setattr(pump, name, lambda original=original: (woken.append(original), original()))
            loop.remove_reader(h.flux.core.fileno())
            loop.add_reader(h.flux.core.fileno(), pump._on_readable)  # type: ignore[attr-defined]
            await asyncio.sleep(0.1)
            assert woken == []
            assert threading.active_count() == threads
            h.publish("aiotest.now")
            assert (await waiting).topic == "aiotest.now"
            assert 0 < len(woken) < 5

    run(main())


def test_a_cancelled_rpc_is_given_up_and_its_late_response_frees_the_tag(run: Run, uri: str) -> None:
    async def main() -> None:
        release = asyncio.Event()

        async def slow(message: Message) -> list[str]:
            await release.wait()
            return ["late"]

        async with serving(uri, slow=slow), flux.aio.connect(uri) as h:
            task = asyncio.create_task(h.rpc("aiotest.slow"))
            await h.rpc("broker.ping", {})
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            del task
            gc.collect()
            assert tags_in_use(h) == 1
            release.set()
            # Another request to the same service is answered behind it.
            assert await h.rpc("aiotest.slow") == ["late"]
            assert tags_in_use(h) == 0
            link = h.flux.core.link
            assert (link.pending, link.queue) == ({}, type(link.queue)())

    run(main())


def test_a_time_limit_on_an_rpc_leaves_the_handle_usable(run: Run, uri: str) -> None:
    async def main() -> None:
        async with serving(uri, never=lambda message: asyncio.Event().wait()), flux.aio.connect(uri) as h:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(h.rpc("aiotest.never"), 0.01)
            assert (await h.rpc("broker.ping", {"seq": 1}))["seq"] == 1

    run(main())


def test_closing_the_handle_fails_what_is_pending(run: Run, uri: str) -> None:
    async def main() -> None:
        async with serving(uri, never=lambda message: asyncio.Event().wait()):
            h = flux.aio.connect(uri)
            calls = [asyncio.create_task(h.rpc("aiotest.never")) for _ in range(3)]
            stream = h.stream("log.dmesg", {"follow": True, "nobacklog": True})
            reading = asyncio.create_task(anext(aiter(stream), "end"))
            events = await h.subscribe("aiotest.").open()
            listening = asyncio.create_task(anext(aiter(events), "end"))
            await h.rpc("broker.ping", {})
            h.close()
            h.close()
            for call in calls:
                assert (await error_of(call))[0] == errno.ECONNRESET
            assert await reading == await listening == "end"
            with pytest.raises(ValueError, match="NULL handle"):
                await h.rpc("broker.ping", {})

    run(main())


def test_a_handle_that_is_dropped_leaves_the_loop_and_closes(run: Run, uri: str) -> None:
    async def main() -> None:
        h = flux.aio.connect(uri)
        await h.rpc("broker.ping", {})
        fd = h.flux.core.fileno()
        del h
        gc.collect()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)

    run(main())


def test_connecting_fails_as_opening_a_handle_does(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(FileNotFoundError, match="Unable to find connector name 'no'"):
            flux.aio.connect("no://where")
        with pytest.raises(OSError, match="cannot be used under asyncio"):
            flux.aio.connect("loop://")

    run(main())
    with pytest.raises(RuntimeError, match="no running event loop"):
        flux.aio.connect("loop://")


# Streams.


class Counting:
    """A streaming method: counts for ever, or up to a limit; tells how each stream has ended."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    async def count(self, message: Message) -> AsyncIterator[int]:
        number, limit = 0, message.payload["limit"]
        try:
            while number < limit:
                yield number
                number += 1
            if message.payload.get("fail"):
                raise OSError(errno.EXDEV, "that far and no further")
            self.ends.append("complete")
        except asyncio.CancelledError:
            self.ends.append("cancelled")
            raise
        except GeneratorExit:
            self.ends.append("closed")
            raise


FOREVER = {"limit": 1 << 30}


def test_a_stream_ends_with_enodata_and_raises_other_errors(run: Run, uri: str) -> None:
    async def main() -> None:
        async with serving(uri, count=Counting().count), flux.aio.connect(uri) as h:
            assert [value async for value in h.stream("aiotest.count", {"limit": 400})] == list(range(400))
            assert [value async for value in h.stream("aiotest.count", {"limit": 0})] == []
            seen = []
            stream = h.stream("aiotest.count", {"limit": 2, "fail": True})
            with pytest.raises(OSError, match="no further"):  # noqa: PT012  # what raises is the loop
                async for value in stream:
                    seen.append(value)
            assert seen == [0, 1]
            assert await anext(aiter(stream), "end") == "end"
            assert tags_in_use(h) == 1  # that of `stream`
            del stream
            assert tags_in_use(h) == 0

    run(main())


async def leave_by_break(h: AsyncFlux) -> None:
    async for value in h.stream("aiotest.count", FOREVER):
        if value == 5:
            break


async def leave_context(h: AsyncFlux) -> None:
    async with h.stream("aiotest.count", FOREVER) as stream:
        assert await anext(aiter(stream)) == 0


async def leave_by_aclose(h: AsyncFlux) -> None:
    stream = h.stream("aiotest.count", FOREVER)
    assert await anext(aiter(stream)) == 0
    await stream.aclose()
    await stream.aclose()
    assert await anext(aiter(stream), "end") == "end"


async def leave_by_exception(h: AsyncFlux) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012  # what is left is the context
        async with h.stream("aiotest.count", FOREVER) as stream:
            async for value in stream:
                1 / value


async def leave_by_cancellation(h: AsyncFlux) -> None:
    async def follow() -> None:
        async for _ in stream:
            reached.set()

    reached = asyncio.Event()
    stream = h.stream("aiotest.count", FOREVER)
    task = asyncio.create_task(follow())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "leave", [leave_by_break, leave_context, leave_by_aclose, leave_by_exception, leave_by_cancellation]
)
def test_a_stream_left_early_is_cancelled_at_the_service(
    run: Run, uri: str, leave: Callable[[AsyncFlux], Awaitable[None]]
) -> None:
    async def main() -> None:
        counting = Counting()
        async with serving(uri, count=counting.count), flux.aio.connect(uri) as h:
            await leave(h)
            # The cancellation finds the generator where it waits, or in the server, which then closes it.
            await until(lambda: counting.ends)
            assert counting.ends in (["cancelled"], ["closed"])
            # What the service had sent by then is ignored, and with ENODATA the tag comes back.
            while tags_in_use(h):
                await h.rpc("broker.ping", {})

    run(main())


def test_the_cancel_topic_can_be_given(run: Run, uri: str) -> None:
    async def main() -> None:
        counting = Counting()
        async with serving(uri, count=counting.count), flux.aio.connect(uri) as h:
            async with h.stream("aiotest.count", FOREVER, cancel="aiotest.cancel") as stream:
                await anext(aiter(stream))
            await until(lambda: counting.ends)

    run(main())


def test_a_stream_ends_with_an_error_if_the_connection_is_lost(
    run: Run, start_instance: Callable[[], StartedInstance]
) -> None:
    async def main() -> None:
        instance = start_instance()
        async with flux.aio.connect(instance.uri) as h:
            stream = h.stream("log.dmesg", {"follow": True, "nobacklog": True})
            reading = asyncio.create_task(anext(aiter(stream)))
            events = await h.subscribe("x").open()
            listening = asyncio.create_task(anext(aiter(events)))
            await h.rpc("broker.ping", {})
            instance.kill()
            assert (await error_of(reading))[0] == errno.ECONNRESET
            assert (await error_of(listening))[0] == errno.ECONNRESET
            assert (await error_of(anext(aiter(events))))[0] == errno.ECONNRESET
            assert (await error_of(h.rpc("broker.ping", {})))[0] == errno.EPIPE
            await stream.aclose()
            await events.aclose()

    run(main())


# Events.


def test_events_come_by_prefix_to_each_subscriber(run: Run, uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(uri) as h, flux.aio.connect(uri) as sender:
            async with h.subscribe("aio.a") as narrow, h.subscribe("aio.") as wide, h.subscribe("other") as other:
                for topic in ("aio.a", "aio.b", "aio.ab", "bio.a"):
                    await sender.publish_sync(topic, {"of": topic})
                assert [(await anext(aiter(narrow))).topic for _ in range(2)] == ["aio.a", "aio.ab"]
                assert [(await anext(aiter(wide))).payload["of"] for _ in range(3)] == ["aio.a", "aio.b", "aio.ab"]
                await narrow.aclose()
                assert await anext(aiter(narrow), "end") == "end"
                await sender.publish_sync("aio.a")
                # One of two overlapping subscriptions is left.
                assert (await anext(aiter(wide))).topic == "aio.a"
                await other.aclose()
            assert h.flux._active_watchers == set()

    run(main())


def test_a_subscription_that_is_dropped_is_undone(run: Run, uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(uri) as h:
            await h.subscribe("aio.again").open()
            gc.collect()
            assert h.flux._active_watchers == set()
            await h.rpc("broker.ping", {})
            assert (await error_of(h.rpc("event.unsubscribe", {"topic": "aio.again"})))[0] == errno.ENOENT

    run(main())


def test_events_published_while_nobody_iterates_are_kept(run: Run, uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(uri) as h, h.subscribe("aio.") as events:
            for number in range(600):
                h.publish("aio.n", {"n": number})
            await h.rpc("broker.ping", {})
            assert [(await anext(aiter(events))).payload["n"] for _ in range(600)] == list(range(600))

    run(main())


def test_a_subscription_cancelled_before_it_is_in_force_leaves_nothing(run: Run, uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(uri) as h:
            events = h.subscribe("aio.cancelled")
            task = asyncio.create_task(events.open())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await anext(aiter(events), "end") == "end"
            await h.rpc("broker.ping", {})
            assert (await error_of(h.rpc("event.unsubscribe", {"topic": "aio.cancelled"})))[0] == errno.ENOENT

    run(main())


# Services.


async def fail_with_text(message: Message) -> None:
    raise OSError(errno.EXDEV, "says the service")


async def fail_otherwise(message: Message) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("handler", "answer"),
    [
        (lambda message: {"you": message.payload}, {"you": [1]}),
        (lambda message: None, None),
        (fail_with_text, (errno.EXDEV, "says the service")),
        (lambda message: {"not json": object()}, (errno.EIO, "TypeError in the handler of aiotest.call")),
        (fail_otherwise, (errno.EIO, "ZeroDivisionError in the handler of aiotest.call")),
        (Counting().count, (errno.EPROTO, "aiotest.call needs a streaming request")),
    ],
)
def test_a_handler_answers_by_what_it_returns_or_raises(run: Run, uri: str, handler: Any, answer: Any) -> None:
    async def main() -> None:
        unexpected = failures()
        async with serving(uri, call=handler), flux.aio.connect(uri) as h:
            if isinstance(answer, tuple):
                assert await error_of(h.rpc("aiotest.call", [1])) == answer
            else:
                assert await h.rpc("aiotest.call", [1]) == answer
            assert len(unexpected) == (isinstance(answer, tuple) and answer[0] == errno.EIO)
            text = "Unknown service method 'aiotest.other'"
            assert await error_of(h.rpc("aiotest.other")) == (errno.ENOSYS, text)

    run(main())


def test_handlers_run_at_the_same_time_and_may_call_other_services(run: Run, uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(uri) as server, server.service("aiotest") as service:
            arrived: list[Message] = []

            @service.method("meet")
            async def meet(message: Message) -> Any:
                arrived.append(message)
                await until(lambda: len(arrived) == 3)
                return (await server.rpc("broker.ping", {"seq": 4}))["seq"]

            async with flux.aio.connect(uri) as h:
                assert await asyncio.gather(*(h.rpc("aiotest.meet") for _ in range(3))) == [4, 4, 4]

    run(main())


class ByHand:
    """The broker's end of a connection, whose messages a test writes by hand."""

    def __init__(self) -> None:
        ours, self.socket = socket.socketpair()
        self.socket.send(b"\0")
        self.uri = f"fd://{ours.detach()}"
        self._framer = Framer()

    async def receive(self) -> Message:
        """The next message of the client."""
        loop = asyncio.get_running_loop()
        self.socket.setblocking(False)
        while (message := self._framer.next()) is None:
            self._framer.feed(await loop.sock_recv(self.socket, 65536))
        return message

    def send(self, *messages: Message) -> None:
        """Sends messages in one piece."""
        for message in messages:
            message.userid, message.rolemask = 0, 1
        self.socket.send(b"".join(map(encode, messages)))


def test_a_request_right_behind_the_registration_finds_the_service(run: Run) -> None:
    async def main() -> None:
        broker = ByHand()
        async with flux.aio.connect(broker.uri) as h:
            service = h.service("aiotest")
            service.method("call", lambda message: ["served"])
            entering = asyncio.create_task(service.__aenter__())
            broker.send((await broker.receive()).response(), Message.request(b"aiotest.call", matchtag=9))
            await entering
            answer = await broker.receive()
            assert (answer.topic, answer.aux1, answer.payload) == ("aiotest.call", 0, ["served"])
        broker.socket.close()

    run(main())


def test_a_name_that_is_taken_is_refused_and_nothing_is_left_behind(run: Run, uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(uri) as h:
            assert (await error_of(h.service("broker").__aenter__()))[0] == errno.EEXIST
            assert h.flux._active_watchers == set()

    run(main())


def test_a_client_that_disconnects_has_its_requests_cancelled(run: Run, uri: str) -> None:
    async def main() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def wait(message: Message) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with serving(uri, wait=wait), flux.aio.connect(uri) as other:
            others = asyncio.create_task(other.rpc("aiotest.wait"))
            await begun.wait()
            begun.clear()
            h = flux.aio.connect(uri)
            task = asyncio.create_task(h.rpc("aiotest.wait"))
            await begun.wait()
            h.close()
            await ended.wait()
            assert not others.done()
            others.cancel()
            with pytest.raises(ConnectionResetError):
                await task

    run(main())


def test_a_closing_service_answers_what_it_has_not_finished(run: Run, uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(uri) as h:
            async with serving(uri, wait=lambda message: asyncio.Event().wait(), count=Counting().count):
                task = asyncio.create_task(h.rpc("aiotest.wait"))
                async with h.stream("aiotest.count", {"limit": 1}) as stream:
                    await anext(aiter(stream))
            assert await error_of(task) == (errno.ECANCELED, "the service has given up the request")

    run(main())


def test_closing_the_handle_ends_its_service(run: Run, uri: str) -> None:
    async def main() -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def wait(message: Message) -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        server = flux.aio.connect(uri)
        service = await server.service("aiotest").__aenter__()
        service.method("wait", wait)
        async with flux.aio.connect(uri) as h:
            task = asyncio.create_task(h.rpc("aiotest.wait"))
            await begun.wait()
            server.close()
            await ended.wait()
            assert (await error_of(task))[0] == errno.EHOSTUNREACH
        await service.__aexit__(None, None, None)

    run(main())


def test_a_cancel_request_without_matchtag_is_refused(run: Run, uri: str) -> None:
    async def main() -> None:
        async with serving(uri), flux.aio.connect(uri) as h:
            for payload in (None, {}, "no json"):
                assert (await error_of(h.rpc("aiotest.cancel", payload)))[0] == errno.EPROTO

    run(main())


def test_requests_without_response_are_served_and_not_answered(run: Run, uri: str) -> None:
    async def main() -> None:
        got: list[Any] = []
        async with serving(uri, tell=lambda message: got.append(message.payload)), flux.aio.connect(uri) as h:
            h.send("aiotest.tell", {"n": 1})
            await h.rpc("aiotest.tell", {"n": 2})
            assert got == [{"n": 1}, {"n": 2}]

    run(main())


# Plain futures, callbacks and watchers of the handle.


def test_futures_of_the_plain_api_can_be_awaited(run: Run, uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(uri) as h:
            f = h.flux
            assert (await f.rpc("broker.ping", {"seq": 1}))["seq"] == 1
            done = f.rpc("broker.ping", {"seq": 2})
            await done
            assert (await done)["seq"] == 2
            assert (await f.service_register("aiofuture")) is None

            def begin(future: FutureExt, value: int) -> None:
                def answered(rpc: Any) -> None:
                    future.fulfill(rpc.get()["seq"] + value)

                flux_handle = future.get_flux()
                assert flux_handle is f
                flux_handle.rpc("broker.ping", {"seq": 1}).then(answered)

            assert await FutureExt(begin, 10, flux_handle=f) == 11
            assert await FutureExt(lambda future: future.fulfill("at once")) == "at once"

            def fail(future: FutureExt) -> None:
                raise LookupError("in the init callback")

            with pytest.raises(LookupError, match="in the init callback"):
                await FutureExt(fail, flux_handle=f)
            everything = WaitAllFuture()
            for seq in range(3):
                everything.push(f.rpc("broker.ping", {"seq": seq}))
            everything.push(FutureExt(begin, 5, flux_handle=f))
            await everything
            assert [child.get()["seq"] for child in everything.children[:3]] == [0, 1, 2]
            assert everything.children[3].get() == 6
            failing = WaitAllFuture()
            failing.push(f.rpc("no.such"))
            assert (await error_of(failing))[0] == errno.ENOSYS

    run(main())


def test_several_tasks_may_await_one_future_that_has_a_continuation_besides(run: Run, uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(uri) as h:
            called: list[Any] = []
            rpc = h.flux.rpc("broker.ping", {"seq": 9})
            rpc.then(called.append)

            async def seq() -> Any:
                return (await rpc)["seq"]

            assert await asyncio.gather(seq(), seq()) == [9, 9]
            await until(lambda: called)
            assert called == [rpc]

    run(main())


def test_callbacks_timers_and_descriptors_of_the_handle_are_served_by_asyncio(run: Run, uri: str) -> None:
    async def main() -> None:
        a, b = socket.socketpair()
        async with flux.aio.connect(uri) as h:
            f = h.flux
            happened: list[Any] = []
            late = f.rpc("log.dmesg", {"follow": True, "nobacklog": True}, flags=FLUX_RPC_STREAMING)
            late.then(lambda future: happened.append(future.error_string()), timeout=0.01)
            f.timer_watcher_create(0.0, lambda *args: happened.append("timer"), repeat=0.001).start()
            fd = f.fd_watcher_create(a.fileno(), lambda f, w, fd, revents, args: happened.append(revents), events=1)
            fd.start()
            b.send(b"x")
            f.signal_watcher_create(signal.SIGUSR1, lambda f, w, signum, args: happened.append("signal")).start()
            os.kill(os.getpid(), signal.SIGUSR1)
            await until(lambda: {"Connection timed out", 1, "signal"} <= set(happened) and happened.count("timer") > 2)
            fd.stop()
            seen = happened.count(1)
            await h.rpc("broker.ping", {})
            assert happened.count(1) == seen
            for create in (f.prepare_watcher_create, f.check_watcher_create, f.idle_watcher_create):
                with pytest.raises(OSError, match="under asyncio there are no"):
                    create(lambda *args: None)
            fd.start()
            with pytest.raises(OSError, match="one watcher"):
                f.fd_watcher_create(a.fileno(), print, events=1).start()
        a.close()
        b.close()

    run(main())


def test_async_callbacks_are_tasks_that_may_await_anything(run: Run, uri: str) -> None:
    async def main() -> None:
        unexpected = failures()
        async with flux.aio.connect(uri) as server, flux.aio.connect(uri) as h:
            await server.flux.service_register("aiotest")

            async def answer(f: flux.Flux, watcher: Any, message: Message, args: Any) -> None:
                await asyncio.sleep(0)
                if message.topic == "aiotest.fail":
                    raise OSError(errno.EXDEV, "no")
                f.respond(message, (await f.rpc("broker.ping", {"seq": 2}))["seq"])

            server.flux.msg_watcher_create(answer, FLUX_MSGTYPE_REQUEST, "aiotest.*").start()
            assert await h.rpc("aiotest.x") == 2
            assert await error_of(h.rpc("aiotest.fail")) == (errno.EXDEV, "no")

            async def continuation(future: Any) -> None:
                await asyncio.sleep(0)
                raise LookupError("in a continuation")

            h.flux.rpc("broker.ping", {}).then(continuation)
            await until(lambda: unexpected)
            assert unexpected == ["LookupError('in a continuation')"]
            h.flux.rpc("broker.ping", {}).then(lambda future: 1 / 0)
            await until(lambda: len(unexpected) == 2)
            assert unexpected[1] == "ZeroDivisionError('division by zero')"
            assert (await h.rpc("broker.ping", {"seq": 1}))["seq"] == 1

    run(main())


def test_blocking_calls_leave_what_they_meet_to_the_loop(run: Run, uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(uri) as h, h.subscribe("aio.") as events:
            h.publish("aio.one")
            first = h.flux.rpc("broker.ping", {"seq": 1})
            assert h.flux.rpc("broker.ping", {"seq": 2}).get()["seq"] == 2
            assert (await first)["seq"] == 1
            assert (await anext(aiter(events))).topic == "aio.one"

    run(main())


def test_messages_are_left_alone_while_nobody_waits_for_any(run: Run, uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(uri) as h, flux.aio.connect(uri) as sender:
            await h.flux.rpc("event.subscribe", {"topic": "aio."})
            await sender.publish_sync("aio.kept")
            await asyncio.sleep(0.01)
            assert h.flux.event_recv().topic == "aio.kept"

    run(main())


def test_what_comes_right_behind_the_last_awaited_response_is_left_alone_too(run: Run) -> None:
    async def main() -> None:
        broker = ByHand()
        async with flux.aio.connect(broker.uri) as h:
            task = asyncio.create_task(h.rpc("a.b"))
            broker.send((await broker.receive()).response(), Message.event(b"behind"))
            assert await task is None
            await asyncio.sleep(0)
            assert h.flux.event_recv().topic == "behind"
        broker.socket.close()

    run(main())


def test_a_plain_handle_can_be_used_under_one_loop_then_another_then_none(uri: str) -> None:
    with flux.Flux(uri) as f:
        times: list[float] = []
        timer = f.timer_watcher_create(0.0, lambda *args: times.append(0.0))

        async def ping() -> Any:
            return (await f.rpc("broker.ping", {"seq": 5}))["seq"]

        assert [asyncio.run(ping()) for _ in range(2)] == [5, 5]
        called: list[Any] = []
        f.rpc("broker.ping", {}).then(called.append)
        timer.start()
        assert f.reactor_run() == 0
        assert len(called) == len(times) == 1
        assert asyncio.run(ping()) == 5

        async def misuse() -> None:
            await ping()
            with pytest.raises(RuntimeError, match="asyncio serves this Flux handle"):
                f.reactor_run()

        asyncio.run(misuse())
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(ping()) == 5
        with pytest.raises(RuntimeError, match="open one handle per loop"):
            asyncio.run(ping())
        loop.close()
        assert asyncio.run(ping()) == 5


def test_ctrl_c_in_a_callback_ends_the_loop_and_loses_no_message(uri: str) -> None:
    with flux.Flux(uri) as f:
        loop = asyncio.new_event_loop()

        def interrupted(future: Any) -> None:
            raise KeyboardInterrupt

        async def main() -> Any:
            f.rpc("broker.ping", {}).then(interrupted)
            return await f.rpc("broker.ping", {"seq": 1})

        task = loop.create_task(main())
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(task)
        assert loop.run_until_complete(asyncio.wait_for(task, PATIENCE))["seq"] == 1
        loop.close()


def test_noresponse_requests_are_fulfilled_at_once(run: Run, uri: str) -> None:
    async def main() -> None:
        async with flux.aio.connect(uri) as h:
            rpc = h.flux.rpc("broker.ping", {}, flags=FLUX_RPC_NORESPONSE)
            assert (await error_of(rpc))[0] == errno.EINVAL

    run(main())
