"""Nothing is left of RPCs, streams, futures and handles that are over: neither objects nor descriptors nor tags."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from service_thread import serving

import flux
import flux.aio
from flux.constants import FLUX_MSGTYPE_EVENT, FLUX_RPC_NORESPONSE, FLUX_RPC_STREAMING
from flux.core.codec import load_text
from flux.future import FutureExt
from flux.message import Message


def census() -> Counter[str]:
    """How many objects there are of each type of ours, and of those that ours are made of."""
    gc.collect()
    return Counter(
        type(thing).__qualname__
        for thing in gc.get_objects()
        if str(type(thing).__module__).startswith("flux")
        or type(thing).__name__ in ("function", "method", "dict", "ref")
    )


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def h(instance_handle: flux.Flux) -> flux.Flux:
    return instance_handle


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """msgspec is imported once enough has been read: not in the middle of a count."""
    load_text(b'"' + 1_100_000 * b"x" + b'"')


@pytest.fixture(scope="module")
def counting(instance_uri: str) -> Iterator[None]:
    """A service of short streams."""

    def handler(handle: flux.Flux, message: Message) -> None:
        if message.topic == "leaktest.count":
            for _ in range(message.payload["count"]):
                handle.respond(message, None)
            handle.respond_error(message, errno.ENODATA, None)

    with serving(instance_uri, "leaktest", handler):
        yield


def by_get(h: flux.Flux, count: int) -> None:
    for _ in range(count):
        h.rpc("attr.get", '{"name":"rank"}').get_str()


def by_then(h: flux.Flux, count: int) -> None:
    left = count

    def callback(future: Any, number: int) -> None:
        nonlocal left
        left -= 1
        if left > 0 and left % 100 == 0:
            start()

    def start() -> None:
        for number in range(100):
            h.rpc("attr.get", '{"name":"rank"}').then(callback, number)

    start()
    assert h.reactor_run() == 0
    assert left == 0


def by_stream(h: flux.Flux, count: int) -> None:
    seen = 0
    while seen < count:
        stream = h.rpc("leaktest.count", {"count": 1000}, flags=FLUX_RPC_STREAMING)
        while stream.wait_for().error_string() is None:
            stream.reset()
            seen += 1


def by_dropping(h: flux.Flux, count: int) -> None:
    for number in range(count):
        h.rpc("attr.get", '{"name":"rank"}')
        if number % 100 == 99:
            h.rpc("attr.get", '{"name":"rank"}').get_str()


def by_no_response(h: flux.Flux, count: int) -> None:
    for number in range(count):
        h.rpc("attr.get", '{"name":"rank"}', flags=FLUX_RPC_NORESPONSE)
        if number % 100 == 99:
            h.rpc("attr.get", '{"name":"rank"}').get_str()


def by_await(h: flux.Flux, count: int) -> None:
    async def many() -> None:
        for _ in range(count // 10):
            await h.rpc("attr.get", '{"name":"rank"}')

    async def main() -> None:
        await asyncio.gather(*(many() for _ in range(10)))

    asyncio.run(main())


def answers_alive() -> int:
    return sum(1 for thing in gc.get_objects() if type(thing).__name__ in ("RpcState", "RPC", "Message"))


@pytest.mark.parametrize("count", [20_000, pytest.param(100_000, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("style", [by_get, by_then, by_stream, by_dropping, by_no_response, by_await])
def test_many_thousand_rpcs_leave_nothing(
    h: flux.Flux, counting: None, style: Callable[[flux.Flux, int], None], count: int
) -> None:
    style(h, 1000)
    before, open_before = census(), descriptors()
    # No garbage either: with the collector off, everything must go by counting. Other tests may have left some.
    gc.disable()
    try:
        others = answers_alive()
        style(h, count)
        garbage = answers_alive() - others
    finally:
        gc.enable()
    assert garbage < 50
    grown = {name: n - before[name] for name, n in census().items() if n - before[name] > 20}
    assert grown == {}
    assert descriptors() == open_before
    link = h.core.link
    assert (len(link.pending), len(link.streaming), len(link.queue), len(h.core.alive)) == (0, 0, 0, 0)
    assert link.tags_available == link.tags_size
    assert link.tags_size < 3000


def test_futures_and_watchers_leave_nothing(h: flux.Flux) -> None:
    def once() -> None:
        FutureExt(
            lambda future: future.get_flux().rpc("broker.ping", {}).then(lambda rpc: future.fulfill(None)),
            flux_handle=h,
        ).get()
        watcher = h.msg_watcher_create(lambda *args: None, FLUX_MSGTYPE_EVENT)
        watcher.start()
        watcher.destroy()
        h.timer_watcher_create(1.0, lambda *args: None).start().destroy()

    for _ in range(10):
        once()
    before, open_before = census(), descriptors()
    for _ in range(500):
        once()
    assert {name: n - before[name] for name, n in census().items() if n - before[name] > 10} == {}
    assert descriptors() == open_before


# Handles.


def plain(uri: str) -> None:
    flux.Flux(uri).rpc("broker.ping", {}).get()


def with_continuation(uri: str) -> None:
    h = flux.Flux(uri)
    h.rpc("broker.ping", {}).then(lambda future: None)
    assert h.reactor_run() == 0


def with_pending(uri: str) -> None:
    h = flux.Flux(uri)
    h.rpc("log.dmesg", {"follow": True, "nobacklog": True}, flags=FLUX_RPC_STREAMING)
    h.event_subscribe("x")


def with_pollfd(uri: str) -> None:
    h = flux.Flux(uri)
    h.flux_pollfd()
    h.rpc("broker.ping", {}).get()


def with_destroyed_watcher(uri: str) -> None:
    h = flux.Flux(uri)
    watcher = h.timer_watcher_create(0.0, lambda *args: None)
    watcher.start()
    h.reactor_run()
    watcher.destroy()


def in_context_with_watchers(uri: str) -> None:
    with flux.Flux(uri) as h:
        h.msg_watcher_create(lambda *args: None, FLUX_MSGTYPE_EVENT).start()
        h.timer_watcher_create(100.0, lambda *args: None).start()
        h.fd_watcher_create(0, lambda *args: None).start()
        h.reactor_run(flags=1)


def last_held_by_a_future(uri: str) -> None:
    future = flux.Flux(uri).rpc("broker.ping", {})
    future.get()
    assert os.fstat(future.flux_handle.core.fileno())


@pytest.mark.parametrize(
    "use",
    [
        plain,
        with_continuation,
        with_pending,
        with_pollfd,
        with_destroyed_watcher,
        in_context_with_watchers,
        last_held_by_a_future,
    ],
)
def test_the_descriptors_of_a_handle_go_with_its_last_reference(instance_uri: str, use: Callable[[str], None]) -> None:
    use(instance_uri)
    gc.collect()
    open_before = descriptors()
    gc.disable()
    try:
        for _ in range(20):
            use(instance_uri)
            assert descriptors() == open_before
    finally:
        gc.enable()


def test_a_handle_in_a_cycle_with_its_watchers_goes_with_the_cycle(instance_uri: str) -> None:
    def use() -> None:
        h = flux.Flux(instance_uri)
        h.msg_watcher_create(lambda *args: h, FLUX_MSGTYPE_EVENT).start()
        h.rpc("broker.ping", {}).then(lambda future: h.reactor_stop())
        h.reactor_run()

    gc.collect()
    open_before = descriptors()
    for _ in range(20):
        use()
    gc.collect()
    assert descriptors() == open_before


def test_a_thousand_handles(instance_uri: str) -> None:
    plain(instance_uri)
    before, open_before = census(), descriptors()
    for _ in range(1000):
        plain(instance_uri)
    assert descriptors() == open_before
    assert {name: n - before[name] for name, n in census().items() if n - before[name] > 10} == {}
    handles = [flux.Flux(instance_uri) for _ in range(300)]
    assert [handle.rpc("broker.ping", {"seq": n}).get()["seq"] for n, handle in enumerate(handles)] == [*range(300)]
    del handles
    assert descriptors() == open_before


def test_asynchronous_handles(instance_uri: str, counting: None) -> None:
    async def use() -> None:
        async with flux.aio.connect(instance_uri) as h, h.subscribe("x"), h.service("leakaio"):
            async for _ in h.stream("leaktest.count", {"count": 3}):
                break
            await h.rpc("broker.ping", {})
        dropped = flux.aio.connect(instance_uri)
        await dropped.rpc("broker.ping", {})

    async def main() -> None:
        for _ in range(5):
            await use()
        before, open_before = census(), descriptors()
        for _ in range(100):
            await use()
        assert {name: n - before[name] for name, n in census().items() if n - before[name] > 10} == {}
        assert descriptors() == open_before

    asyncio.run(main())
