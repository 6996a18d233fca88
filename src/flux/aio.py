"""Flux under asyncio.

    async with flux.aio.connect() as h:
        print(await h.rpc("broker.ping", {"seq": 1}))
        async with h.subscribe("my.") as events:
            async for event in events:
                ...

`AsyncFlux` is a `Flux` handle whose connection the running asyncio loop reads: any loop that has `add_reader`,
uvloop included. Nothing polls and no thread is started. What the plain handle does by waiting is a coroutine
here; what only sends is a plain call. Futures of the plain API (`h.flux.rpc(...)`, and those that `flux.kvs` or
`flux.job` return) can be awaited as well.

Cancelling a task that awaits an RPC gives the RPC up: its response is ignored when it comes, and a stream is
cancelled at the service.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from flux.constants import (
    FLUX_MSGFLAG_STREAMING,
    FLUX_MSGTYPE_EVENT,
    FLUX_MSGTYPE_REQUEST,
    FLUX_NODEID_ANY,
    FLUX_ROLE_OWNER,
    FLUX_ROLE_USER,
    FLUX_RPC_NORESPONSE,
    FLUX_RPC_STREAMING,
)
from flux.core.aiopump import attach
from flux.core.handle import Flux
from flux.message import Message, MessageWatcher
from flux.rpc import RPC

__all__ = ["AsyncFlux", "EventStream", "ResponseStream", "ServedService", "connect"]

#: A handler of requests: called with the request, returns (or awaits) the response's payload.
Handler = Callable[[Message], Any] | Callable[[Message], Awaitable[Any]]


class AsyncFlux:
    """A connection to a Flux instance, for use under the running asyncio loop.

    Args:
        url, flags: as for `flux.Flux`.

    Raises OSError if there is no connection to be had; RuntimeError outside a running loop. Close it with
    `close`, or use it in `async with`.
    """

    def __init__(self, url: str | bytes | None = None, flags: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self.flux = Flux(url, flags)
        """The plain handle, for what only sends and for the modules of the `flux` package."""
        attach(self.flux.core, loop)
        self._streams: set[ResponseStream | EventStream] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection. Iterators over streams and events end; idempotent."""
        for stream in list(self._streams):
            stream._close_local()
        if self.flux.handle is not None:
            self.flux.__exit__(None, None, None)

    # RPC.

    async def rpc(self, topic: str, payload: Any = None, nodeid: int = FLUX_NODEID_ANY) -> Any:
        """Calls a service: the response's decoded payload, None if it has none.

        Raises OSError of an error response. Specified in spec 02, section 8.
        """
        return await self.flux.rpc(topic, payload, nodeid)

    def send(self, topic: str, payload: Any = None, nodeid: int = FLUX_NODEID_ANY) -> None:
        """Sends a request that gets no response."""
        self.flux.rpc(topic, payload, nodeid, FLUX_RPC_NORESPONSE)

    def stream(
        self, topic: str, payload: Any = None, nodeid: int = FLUX_NODEID_ANY, cancel: str | None = None
    ) -> ResponseStream:
        """Calls a streaming service: an async iterator over the payloads of its responses.

        Args:
            cancel: the service's cancel method, sent when the iterator is closed early; None for the usual one.

        The iteration ends at ENODATA; other errors are raised. Leave a loop early inside `async with`, or call
        `aclose`, to cancel the stream at the service.
        """
        return ResponseStream(self, RPC(self.flux, topic, payload, nodeid, FLUX_RPC_STREAMING), cancel)

    # Events.

    def subscribe(self, topic: str) -> EventStream:
        """The events whose topic begins with `topic`: an async context manager and iterator of messages.

        The subscription is in force once the context is entered, or the first event awaited.
        """
        return EventStream(self, topic)

    def publish(self, topic: str, payload: Any = None) -> None:
        """Publishes an event, without waiting."""
        self.flux.event_send(topic, payload)

    async def publish_sync(self, topic: str, payload: Any = None, private: bool = False) -> int:
        """Publishes an event and waits for its sequence number."""
        import base64

        from flux.core.codec import dump_payload

        request: dict[str, Any] = {"topic": topic, "flags": 0x20 if private else 0}
        raw = dump_payload(payload)
        if raw is not None:
            request["payload"] = base64.b64encode(raw).decode()
        answer = await self.rpc("event.publish", request, nodeid=0)
        return int(answer["seq"])

    # Services.

    def service(self, name: str, *, allow_guest: bool = False) -> ServedService:
        """A service of this program: ``async with h.service("name") as service``.

        Inside, ``service.method("greet")`` decorates the handlers; requests ``name.greet`` come to them.
        """
        return ServedService(self, name, allow_guest)

    # Attributes.

    async def attr_get(self, name: str) -> str:
        """The value of a broker attribute. Raises OSError(ENOENT) for an unknown one."""
        known = self.flux.core.link.attrs.get(name)
        if known is not None:
            return known
        answer = await self.rpc("attr.get", {"name": name})
        if answer["flags"] & 1:
            self.flux.core.link.attrs[name] = answer["value"]
        return str(answer["value"])

    async def attr_set(self, name: str, value: str) -> None:
        """Sets a broker attribute."""
        await self.rpc("attr.set", {"name": name, "value": value})

    async def get_rank(self) -> int:
        """The rank of the broker connected to."""
        return int(await self.attr_get("rank"))

    async def get_size(self) -> int:
        """The number of brokers of the instance."""
        return int(await self.attr_get("size"))

    async def log(self, level: int, text: str) -> None:
        """Logs to the instance; `level` is a syslog priority."""
        await self.get_rank()  # cached from here on: the plain call below does not wait
        self.flux.log(level, text)

    async def barrier(self, name: str | None, nprocs: int) -> None:
        """Enters a barrier and waits until `nprocs` processes have. Errors as of `Flux.barrier`."""
        await self.flux.barrier_async(name, nprocs)


def connect(url: str | bytes | None = None, flags: int = 0) -> AsyncFlux:
    """Connects to a Flux instance: ``async with flux.aio.connect() as h``. Arguments as for `flux.Flux`."""
    return AsyncFlux(url, flags)


class ResponseStream:
    """The payloads of a streaming RPC's responses, as an async iterator; see `AsyncFlux.stream`."""

    def __init__(self, owner: AsyncFlux, rpc: RPC, cancel: str | None) -> None:
        self.rpc = rpc
        self._owner = owner
        self._cancel = cancel
        self._ended = False
        owner._streams.add(self)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        try:
            value = await self.rpc
        except OSError as exc:
            ended, self._ended = self._ended, True
            self._owner._streams.discard(self)
            if ended or exc.errno == errno.ENODATA:
                raise StopAsyncIteration from None
            raise
        except asyncio.CancelledError:
            self._end()
            raise
        self.rpc.reset()
        return value

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._owner._streams.discard(self)
            self.rpc.cancel(self._cancel)

    def _close_local(self) -> None:
        """The handle closes, which ends the stream at the service too."""
        self._ended = True
        self._owner._streams.discard(self)

    async def aclose(self) -> None:
        """Cancels the stream at the service, if it has not ended; idempotent."""
        self._end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()


class EventStream:
    """Events as an async iterator of messages; see `AsyncFlux.subscribe`."""

    def __init__(self, owner: AsyncFlux, topic: str) -> None:
        self.topic = topic
        self._owner = owner
        self._prefix = topic.encode("utf-8", "surrogateescape")
        self._queue: deque[Message] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._watcher: MessageWatcher | None = None
        self._ended = False
        owner._streams.add(self)

    async def open(self) -> Self:
        """Subscribes, unless that was done; returns self once the subscription is in force."""
        if self._watcher is None and not self._ended:
            self._watcher = self._owner.flux.msg_watcher_create(self._on_event, FLUX_MSGTYPE_EVENT)
            self._watcher.start()
            await self._owner.rpc("event.subscribe", {"topic": self.topic})
        return self

    def _on_event(self, handle: Flux, watcher: MessageWatcher, message: Message, args: object) -> None:
        if (message.topic_bytes or b"").startswith(self._prefix):
            self._queue.append(message)
            self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        await self.open()
        while not self._queue:
            if self._ended:
                raise StopAsyncIteration
            if self._owner.flux.core.link.lost:
                raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            self._waiter = asyncio.get_running_loop().create_future()
            self._owner.flux.core.link.on_lost.add(self._wake)
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._queue.popleft()

    def _close_local(self) -> None:
        self._ended = True
        self._owner._streams.discard(self)
        if self._watcher is not None:
            self._watcher.destroy()
            self._owner.flux.del_watcher(self._watcher)
        self._owner.flux.core.link.on_lost.discard(self._wake)
        self._wake()

    async def aclose(self) -> None:
        """Unsubscribes; idempotent. A loop over the events ends."""
        if not self._ended:
            subscribed = self._watcher is not None
            self._close_local()
            if subscribed and not self._owner.flux.core.link.lost:
                self._owner.send("event.unsubscribe", {"topic": self.topic})

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class ServedService:
    """A service whose requests asyncio tasks answer; see `AsyncFlux.service`.

    A handler is called with the request message. What it returns, or what its coroutine returns, is the
    response's payload; an async generator answers a streaming request with each value it yields. An OSError is
    answered with its errno and text; any other exception with EIO, and goes to asyncio's exception handler.
    A client that disconnects, or cancels its stream (`METHOD-cancel`), has its task cancelled.
    """

    def __init__(self, owner: AsyncFlux, name: str, allow_guest: bool) -> None:
        self.name = name
        self._owner = owner
        self._rolemask = FLUX_ROLE_USER if allow_guest else 0
        self._handlers: dict[str, Handler] = {}
        self._tasks: dict[asyncio.Task[None], Message] = {}
        self._watcher: MessageWatcher | None = None

    def method(self, name: str, handler: Handler | None = None) -> Any:
        """Serves ``SERVICE.name`` with a handler; without one, a decorator."""
        if handler is None:
            return lambda function: self.method(name, function)
        self._handlers[name] = handler
        return handler

    async def __aenter__(self) -> Self:
        await self._owner.flux.service_register(self.name)
        glob = "".join("\\" + char if char in "*?[\\" else char for char in self.name) + ".*"
        self._watcher = self._owner.flux.msg_watcher_create(
            self._on_request, FLUX_MSGTYPE_REQUEST, glob, rolemask=self._rolemask
        )
        self._watcher.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._watcher is not None:
            self._watcher.destroy()
            self._owner.flux.del_watcher(self._watcher)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._owner.flux.handle is not None and not self._owner.flux.core.link.lost:
            await self._owner.flux.service_unregister(self.name)

    def _on_request(self, handle: Flux, watcher: MessageWatcher, message: Message, args: object) -> None:
        method = message.topic[len(self.name) + 1 :]
        handler = self._handlers.get(method)
        if handler is None:
            if method == "disconnect" or method == "cancel" or method.endswith("-cancel"):
                self._end_requests(message, method)
            else:
                text = f"Unknown service method '{message.topic}'"
                handle.respond_error(message, errno.ENOSYS, text)
            return
        task = asyncio.get_running_loop().create_task(self._run(handler, message))
        self._tasks[task] = message
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def _end_requests(self, notice: Message, method: str) -> None:
        """Cancels the tasks that a disconnect notice or a cancel request is about (spec 01, 3.7 and 3.8)."""
        matchtag = None if method == "disconnect" else notice.payload["matchtag"]
        for task, request in self._tasks.items():
            same = (request.routes or ())[-1:] == (notice.routes or ())[-1:]
            allowed = notice.rolemask & FLUX_ROLE_OWNER or notice.userid == request.userid
            if same and allowed and matchtag in (None, request.aux2):
                task.cancel("disconnect" if matchtag is None else "cancel")

    async def _run(self, handler: Handler, message: Message) -> None:
        flux = self._owner.flux
        try:
            result = handler(message)
            if inspect.isasyncgen(result):
                if not message.flags & FLUX_MSGFLAG_STREAMING:
                    raise OSError(errno.EPROTO, f"{message.topic} needs a streaming request")
                async for value in result:
                    flux.respond(message, value)
                flux.respond_error(message, errno.ENODATA)
                return
            if inspect.isawaitable(result):
                result = await result
            flux.respond(message, result)
        except OSError as exc:
            flux.respond_error(message, exc.errno or errno.EIO, exc.strerror)
        except asyncio.CancelledError as exc:
            if exc.args == ("cancel",):
                flux.respond_error(message, errno.ENODATA)
                return
            if exc.args != ("disconnect",) and flux.handle is not None and not flux.core.link.lost:
                flux.respond_error(message, errno.ECANCELED, "the service is closing")
            raise
        except Exception as exc:
            flux.respond_error(message, errno.EIO, f"{type(exc).__name__} in the handler of {message.topic}")
            raise
