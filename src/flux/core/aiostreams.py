"""What `flux.aio` iterates over: the responses of a streaming RPC, and events.

A stream ends with its `async with`, by `aclose`, or with its last reference: who breaks out of a loop over it need not
close it.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flux.constants import FLUX_MSGTYPE_EVENT
from flux.message import Message, MessageWatcher
from flux.rpc import RPC

if TYPE_CHECKING:
    from flux.aio import AsyncFlux
    from flux.core.handle import Flux


class _Ends:
    """A stream that `_end` ends."""

    def _end(self) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def __del__(self) -> None:
        # A connection that turns out to be lost has ended it by that.
        with suppress(OSError):
            self._end()


class ResponseStream(_Ends):
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


class EventStream(_Ends):
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
