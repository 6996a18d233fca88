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
cancelled at the service. An iterator over a stream or over events that is dropped, as by `break`, ends as if closed.

What is sent is sent at once: a program that sends faster than the broker reads waits for it, and its loop with it.
Connecting waits too; to a local socket that is a matter of microseconds.
"""

from __future__ import annotations

import asyncio
import errno
import inspect
import os
import weakref
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
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
from flux.util import encode_topic

if TYPE_CHECKING:
    from flux.job.asynchronous import AsyncJobs
    from flux.kvs.asynchronous import AsyncKVS
    from flux.resource.asynchronous import AsyncResources
    from flux.subprocess.asynchronous import AsyncSubprocess

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
        # Weakly: an iterator that its user has dropped is over.
        self._open: weakref.WeakSet[ResponseStream | EventStream | ServedService] = weakref.WeakSet()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; idempotent.

        RPCs still awaited fail with ECONNRESET, iterators over streams and events end, and the tasks of services
        are cancelled.
        """
        for thing in list(self._open):
            thing._close_local()
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
        return EventStream(self, _text(topic))

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
        return ServedService(self, _text(name), allow_guest)

    # The KVS.

    @property
    def kvs(self) -> AsyncKVS:
        """The key-value store: ``await h.kvs.get("a.b")``; see `flux.kvs.asynchronous`."""
        from flux.kvs.asynchronous import AsyncKVS

        return AsyncKVS(self)

    # Jobs.

    @property
    def job(self) -> AsyncJobs:
        """Jobs: ``await h.job.submit(jobspec)``; see `flux.job.asynchronous`."""
        from flux.job.asynchronous import AsyncJobs

        return AsyncJobs(self)

    # Resources.

    @property
    def resource(self) -> AsyncResources:
        """Resources: ``await h.resource.list()``; see `flux.resource.asynchronous`."""
        from flux.resource.asynchronous import AsyncResources

        return AsyncResources(self)

    @property
    def subprocess(self) -> AsyncSubprocess:
        """Processes on any rank: ``await h.subprocess.run(["date"], rank=1)``; see `flux.subprocess.asynchronous`."""
        from flux.subprocess.asynchronous import AsyncSubprocess

        return AsyncSubprocess(self)

    # Attributes.

    async def attr_get(self, name: str) -> str:
        """The value of a broker attribute. Raises OSError(ENOENT) for an unknown one."""
        name = _text(name)
        core = self.flux.core
        value = core.link.attrs.get(name)
        if value is None:
            value = core.keep_attr(name, await self.rpc("attr.get", {"name": name}))
        return core.attr_shown(name, value)

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


def _text(name: str | bytes) -> str:
    """A topic, or a name like one; raises as every function that takes one, before anything has been done with it."""
    return encode_topic(name).decode("utf-8", "surrogateescape")


class ResponseStream:
    """The payloads of a streaming RPC's responses, as an async iterator; see `AsyncFlux.stream`."""

    def __init__(self, owner: AsyncFlux, rpc: RPC, cancel: str | None) -> None:
        self.rpc = rpc
        self._cancel = cancel
        self._ended = False
        owner._open.add(self)

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._ended:
            raise StopAsyncIteration
        try:
            value = await self.rpc
        except OSError as exc:
            ended, self._ended = self._ended, True
            if ended or exc.errno == errno.ENODATA:
                raise StopAsyncIteration from None
            raise
        except asyncio.CancelledError:
            self._end()
            raise
        except ValueError:
            self._end()  # what is no JSON will not be any better when it is read again
            raise
        self.rpc.reset()
        return value

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self.rpc.cancel(self._cancel)

    def _close_local(self) -> None:
        """The handle closes, which ends the stream at the service too."""
        self._ended = True

    async def aclose(self) -> None:
        """Cancels the stream at the service, if it has not ended; idempotent."""
        self._end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def __del__(self) -> None:
        # A connection that turns out to be lost has ended the stream by that.
        with suppress(OSError):
            self._end()


class EventStream:
    """Events as an async iterator of messages; see `AsyncFlux.subscribe`."""

    _ended = True  # until it has been made

    def __init__(self, owner: AsyncFlux, topic: str) -> None:
        self.topic = topic
        self._owner = owner
        self._core = owner.flux.core
        self._queue: deque[Message] = deque()
        self._news = asyncio.Event()
        self._opening: asyncio.Future[None] | None = None
        self._watcher: MessageWatcher | None = None
        owner._open.add(self)
        self._ended = False

    async def open(self) -> Self:
        """Subscribes, unless that was done; returns self once the subscription is in force."""
        if self._opening is None and not self._ended:
            self._opening = asyncio.get_running_loop().create_future()
            self._watch()
            try:
                await self._owner.rpc("event.subscribe", {"topic": self.topic})
            except BaseException:
                # The broker may have subscribed us all the same, if it was a cancellation that has come between.
                self._end()
                raise
            finally:
                self._opening.set_result(None)
        elif self._opening is not None:
            await asyncio.shield(self._opening)
        return self

    def _watch(self) -> None:
        """Begins to collect events; not a subscription."""
        prefix = self.topic.encode("utf-8", "surrogateescape")
        queue, news = self._queue, self._news

        # It knows the queue and not the stream, which is over when its user drops it.
        def on_event(handle: Flux, watcher: MessageWatcher, message: Message, args: object) -> None:
            if (message.topic_bytes or b"").startswith(prefix):
                queue.append(message)
                news.set()

        self._watcher = self._owner.flux.msg_watcher_create(on_event, FLUX_MSGTYPE_EVENT)
        self._watcher.start()
        self._core.link.on_lost.add(news.set)

    def __aiter__(self) -> AsyncIterator[Message]:
        return self

    async def __anext__(self) -> Message:
        await self.open()
        while not self._queue:
            if self._ended:
                raise StopAsyncIteration
            if self._core.link.lost:
                raise OSError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            self._news.clear()
            await self._news.wait()
        return self._queue.popleft()

    def _close_local(self) -> None:
        self._ended = True
        if self._watcher is not None:
            self._watcher.destroy()
        self._core.link.on_lost.discard(self._news.set)
        self._news.set()

    def _end(self) -> None:
        if not self._ended:
            self._close_local()
            if self._opening is not None and not self._core.link.lost:
                self._owner.send("event.unsubscribe", {"topic": self.topic})

    async def aclose(self) -> None:
        """Unsubscribes; idempotent. A loop over the events ends after those that have come."""
        self._end()

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def __del__(self) -> None:
        # A connection that turns out to be lost has ended the subscription by that.
        with suppress(OSError):
            self._end()


class _Serving:
    """A request that a task is answering, and why that task is being cancelled, if it is."""

    def __init__(self, request: Message) -> None:
        self.request = request
        self.reason: str | None = None


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
        self._flux = owner.flux
        self._rolemask = FLUX_ROLE_USER if allow_guest else 0
        self._handlers: dict[str, Handler] = {}
        self._tasks: dict[asyncio.Task[None], _Serving] = {}
        self._watcher: MessageWatcher | None = None

    def method(self, name: str, handler: Handler | None = None) -> Any:
        """Serves ``SERVICE.name`` with a handler; without one, a decorator."""
        if handler is None:
            return lambda function: self.method(name, function)
        self._handlers[name] = handler
        return handler

    async def __aenter__(self) -> Self:
        glob = "".join("\\" + char if char in "*?[\\" else char for char in self.name) + ".*"
        # Before it is registered: a request may come right behind the answer to that.
        self._watcher = self._flux.msg_watcher_create(
            self._on_request, FLUX_MSGTYPE_REQUEST, glob, rolemask=self._rolemask
        )
        self._watcher.start()
        self._owner._open.add(self)
        try:
            await self._flux.service_register(self.name)
        except BaseException:
            self._close_local()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        tasks = list(self._tasks)
        self._close_local()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._connected():
            await self._flux.service_unregister(self.name)

    def _connected(self) -> bool:
        return self._flux.handle is not None and not self._flux.core.link.lost

    def _close_local(self) -> None:
        """Takes no more requests, and ends those under way."""
        self._owner._open.discard(self)
        if self._watcher is not None:
            self._watcher.destroy()
            self._watcher = None
        for task in self._tasks:
            task.cancel()

    def _on_request(self, handle: Flux, watcher: MessageWatcher, message: Message, args: object) -> None:
        method = message.topic[len(self.name) + 1 :]
        handler = self._handlers.get(method)
        if handler is not None:
            serving = _Serving(message)
            task = asyncio.get_running_loop().create_task(self._serve(handler, serving))
            self._tasks[task] = serving
            task.add_done_callback(self._done)
        elif method == "disconnect":
            self._end_requests(message, method, None)
        elif method == "cancel" or method.endswith("-cancel"):
            try:
                matchtag = message.payload["matchtag"]
            except (TypeError, ValueError, KeyError):
                handle.respond_error(message, errno.EPROTO, "a cancel request names a matchtag")
            else:
                self._end_requests(message, "cancel", matchtag)
        else:
            handle.respond_error(message, errno.ENOSYS, f"Unknown service method '{message.topic}'")

    def _done(self, task: asyncio.Task[None]) -> None:
        serving = self._tasks.pop(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            text = f"exception in the handler of {serving.request.topic}"
            task.get_loop().call_exception_handler({"message": text, "exception": exc, "task": task})
        elif task.cancelled() and serving.reason is None and self._connected():
            # It was cancelled by us, closing, or by itself; maybe before it had begun.
            self._flux.respond_error(serving.request, errno.ECANCELED, "the service has given up the request")
        elif task.cancelled() and serving.reason == "cancel" and self._connected():
            self._flux.respond_error(serving.request, errno.ENODATA)

    def _end_requests(self, notice: Message, reason: str, matchtag: int | None) -> None:
        """Cancels the tasks that a disconnect notice or a cancel request is about (spec 01, 3.7 and 3.8)."""
        for task, serving in self._tasks.items():
            request = serving.request
            same = (request.routes or ())[-1:] == (notice.routes or ())[-1:]
            allowed = notice.rolemask & FLUX_ROLE_OWNER or notice.userid == request.userid
            if same and allowed and matchtag in (None, request.aux2):
                serving.reason = reason
                task.cancel(reason)

    async def _serve(self, handler: Handler, serving: _Serving) -> None:
        """Answers one request; a task that is cancelled is answered for by `_done`."""
        request = serving.request
        try:
            result = handler(request)
            if isinstance(result, AsyncGenerator):
                await self._respond_each(request, result)
                raise OSError(errno.ENODATA, None)
            if inspect.isawaitable(result):
                result = await result
            if self._connected():
                self._flux.respond(request, result)
        except OSError as exc:
            if self._connected():
                self._flux.respond_error(request, exc.errno or errno.EIO, exc.strerror)
        except Exception as exc:
            if self._connected():
                text = f"{type(exc).__name__} in the handler of {request.topic}"
                self._flux.respond_error(request, errno.EIO, text)
            raise

    async def _respond_each(self, request: Message, values: AsyncGenerator[Any, None]) -> None:
        if not request.flags & (FLUX_MSGFLAG_STREAMING | FLUX_MSGFLAG_NORESPONSE):
            raise OSError(errno.EPROTO, f"{request.topic} needs a streaming request")
        async with aclosing(values):
            async for value in values:
                if not self._connected():
                    return
                self._flux.respond(request, value)
                # A generator need not ever wait: the loop's other users, and a cancellation, get their turn here.
                await asyncio.sleep(0)
