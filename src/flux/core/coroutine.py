"""Coroutines under the reactor, and awaiting a future under either loop.

Rules:

- `async def` callbacks run as tasks of their handle's loop. Under the reactor, a task is a coroutine that is stepped
  on whenever the future it awaits is fulfilled; it only can await Flux futures. Of a handle that asyncio serves
  they are asyncio's own tasks, and can await anything.
- A future finds out by itself which of the two it is awaited in: a task of ours that is being stepped says so.
- Awaiting sets no continuation: several tasks may await one future, which may have a `then` besides.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_MSGTYPE_REQUEST
from flux.reactor import tls

if TYPE_CHECKING:
    from flux.core.flux_t import FluxT
    from flux.core.future_state import FutureState
    from flux.core.handle import Flux
    from flux.future import Future
    from flux.message import Message


class _Stepping(threading.local):
    """Whether this thread is in a coroutine that the reactor steps."""

    now: bool = False


_stepping = _Stepping()


def await_future(future: Future) -> Generator[Any, Any, None]:
    """Suspends until `future` is fulfilled; its error is for the caller to raise."""
    state = future._state
    if state.ready:
        return
    loop = None if _stepping.now else running_asyncio_loop()
    if loop is not None:
        from flux.core.aiopump import wait_in_asyncio

        yield from wait_in_asyncio(loop, state)
        return
    set_going(state)
    if not state.ready:
        # The task that runs us takes the future and steps us on when it is fulfilled.
        yield future


def set_going(state: FutureState) -> None:
    """Sets going what will fulfil a future from the loop. Raises what its init callback raises."""
    before, tls.exception = tls.exception, None
    try:
        state.start_then()
        if tls.exception is not None:
            raise tls.exception
    finally:
        tls.exception = before


def running_asyncio_loop() -> Any:
    """The asyncio loop running in this thread, or None; without importing asyncio for those who do not use it."""
    asyncio = sys.modules.get("asyncio")
    return None if asyncio is None else asyncio._get_running_loop()


def spawn(handle: Flux, coro: Coroutine[Any, Any, Any]) -> None:
    """Runs a coroutine on the loop of `handle`; an exception in it stops the reactor and is raised there."""
    run_handler(handle, coro, None)


def run_handler(handle: Flux, coro: Coroutine[Any, Any, Any], message: Message | None) -> None:
    """Runs the `async def` handler of a message.

    An OSError that it raises answers the request, which its handler left unanswered by raising; it ends there too if
    the request wants no answer: what a client sends must not end its service. Any other exception stops the reactor,
    as that of a plain handler does.
    """
    if message is not None and message._type != FLUX_MSGTYPE_REQUEST:
        message = None
    core = handle.core
    if core.pump is not None and (loop := running_asyncio_loop()) is not None:
        from flux.core.aiopump import run_in_asyncio

        run_in_asyncio(loop, handle, coro, message)
    else:
        _Task(handle, core, coro, message).run_continuation()


def answer_failed(handle: Flux, request: Message | None, exc: OSError) -> None:
    """Answers a request whose handler has raised `exc`; raises it again if there is no request."""
    if request is None:
        raise exc
    core = handle.handle
    if core is not None and not core.link.lost:
        handle.respond_error(request, exc.errno or 0, exc.strerror)


class _Task:
    """A coroutine under the reactor: what waits in a handle's ready queue to be stepped on."""

    __slots__ = ("awaited", "core", "coro", "handle", "request")

    def __init__(self, handle: Flux, core: FluxT, coro: Coroutine[Any, Any, Any], request: Message | None) -> None:
        self.handle = handle
        self.core = core
        self.coro = coro
        self.request = request
        self.awaited: FutureState | None = None

    def run_continuation(self) -> None:
        """Runs the coroutine to its next await. Raises what the coroutine raises."""
        from flux.future import Future

        self.core.alive.discard(self)
        outer, _stepping.now = _stepping.now, True
        try:
            awaited = self.coro.send(None)
            while not isinstance(awaited, Future):
                # Raised at the await, where its traceback says what was awaited.
                awaited = self.coro.throw(
                    TypeError(
                        f"an async handler under the Flux reactor awaited {awaited!r}: only Flux futures can be "
                        "awaited there (use flux.aio for asyncio)"
                    )
                )
            self._suspend(awaited._state)
        except StopIteration:
            return
        except OSError as exc:
            answer_failed(self.handle, self.request, exc)
        finally:
            _stepping.now = outer

    def _suspend(self, state: FutureState) -> None:
        """Until `state` is fulfilled. The handle keeps this task alive meanwhile, and so what it awaits."""
        self.awaited = state
        self.core.alive.add(self)
        state.add_hook(self._resume)

    def _resume(self) -> None:
        """What was awaited is fulfilled: the loop steps the coroutine on in its next pass."""
        state, self.awaited = self.awaited, None
        if state is not None:
            state.remove_hook(self._resume)
            self.core.schedule(self)

    def stop(self) -> None:
        """The handle closes: the coroutine is ended where it stands."""
        self.core.alive.discard(self)
        if self.awaited is not None:
            self.awaited.remove_hook(self._resume)
            self.awaited = None
        self.coro.close()
