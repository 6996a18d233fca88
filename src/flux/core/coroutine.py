"""Coroutines under the reactor, and awaiting a future under either loop.

`async def` callbacks run as tasks of the handle's reactor: a task is a coroutine that is stepped on whenever the
future it awaits is fulfilled. Under asyncio it is asyncio's own tasks that run, and the handle reads its
connection from asyncio's loop. A future finds out by itself which of the two it is awaited in.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_MSGFLAG_NORESPONSE
from flux.wrapper import local_error

if TYPE_CHECKING:
    from flux.core.handle import Flux
    from flux.future import Future
    from flux.message import Message


def await_future(future: Future) -> Generator[Any, Any, None]:
    """Suspends until `future` is fulfilled; its error is for the caller to raise."""
    state = future._state
    if state.ready:
        return
    loop = _running_asyncio_loop()
    if loop is not None:
        from flux.core.aiopump import wait_in_asyncio

        yield from wait_in_asyncio(loop, future)
        return
    if state.ctx is None:
        raise local_error(errno.EINVAL)
    # The task that runs us takes the future and steps us on when it is fulfilled.
    yield future


def _running_asyncio_loop() -> Any:
    """The asyncio loop running in this thread, or None; without importing asyncio for those who do not use it."""
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()


def spawn(handle: Flux, coro: Coroutine[Any, Any, Any]) -> None:
    """Runs a coroutine on the reactor of `handle`; an exception in it stops the reactor and is raised there."""
    _Task(handle, coro, None).step()


def run_handler(handle: Flux, coro: Coroutine[Any, Any, Any], message: Message) -> None:
    """Runs the `async def` handler of a message.

    An OSError that it raises answers the request, which its handler left unanswered by raising; any other
    exception stops the reactor, as that of a plain handler does.
    """
    request = message if message._type == 1 and not message.flags & FLUX_MSGFLAG_NORESPONSE else None
    _Task(handle, coro, request).step()


class _Task:
    """A coroutine under the reactor: nothing but the callback that steps it on."""

    __slots__ = ("coro", "handle", "request")

    def __init__(self, handle: Flux, coro: Coroutine[Any, Any, Any], request: Message | None) -> None:
        self.handle = handle
        self.coro = coro
        self.request = request

    def step(self, future: Future | None = None) -> None:
        """Runs the coroutine to its next await. Raises what the coroutine raises."""
        from flux.future import Future

        while True:
            try:
                awaited = self.coro.send(None)
            except StopIteration:
                return
            except OSError as exc:
                if self.request is None:
                    raise
                self.handle.respond_error(self.request, exc.errno or errno.EIO, exc.strerror)
                return
            if not isinstance(awaited, Future):
                self.coro.close()
                raise TypeError(
                    f"an async handler under the Flux reactor awaited {awaited!r}: only Flux futures can be "
                    "awaited there (use flux.aio for asyncio)"
                )
            if awaited.is_ready():
                continue
            waiter = Future(awaited)
            waiter.then(self.step)
            return
