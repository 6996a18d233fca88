"""Services under asyncio: what `AsyncFlux.service` of `flux.aio` is."""

from __future__ import annotations

import asyncio
import errno
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
    FLUX_MSGFLAG_STREAMING,
    FLUX_MSGTYPE_REQUEST,
    FLUX_ROLE_OWNER,
    FLUX_ROLE_USER,
)
from flux.core.handle import Flux
from flux.message import Message, MessageWatcher

if TYPE_CHECKING:
    from flux.aio import AsyncFlux

#: A handler of requests: called with the request, returns (or awaits) the response's payload.
Handler = Callable[[Message], Any] | Callable[[Message], Awaitable[Any]]


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
