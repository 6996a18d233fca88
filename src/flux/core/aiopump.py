"""A handle on an asyncio loop: its connection is read when asyncio says so, its callbacks run from there.

No thread and no polling: the connection's descriptor is one of the loop's readers, from the first time that a
future of the handle is awaited until the handle or the loop closes. Message watchers, `then` callbacks, timers and
watchers of descriptors and signals run from the same loop; see `flux.core.aioreactor` for the latter.

As under the reactor, nothing is read while nobody waits for a message: what comes then waits in the connection.
Once the loop has closed, the handle is the reactor's again.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_MSGTYPE_RESPONSE
from flux.core.aioreactor import AsyncioReactor
from flux.core.coroutine import answer_failed, set_going
from flux.reactor import tls

if TYPE_CHECKING:
    from flux.core.flux_t import FluxT
    from flux.core.future_state import FutureState
    from flux.core.handle import Flux
    from flux.message import Message

#: Messages handled before other users of the loop get their turn.
_BATCH = 256


class Pump:
    """Moves the messages of one handle from its connection to their futures and handlers.

    Args:
        core: the opaque handle.
        loop: the asyncio loop, which must be the running one.

    Raises OSError(EINVAL) for a connection without a descriptor (loop:// and modules inside the broker).
    """

    def __init__(self, core: FluxT, loop: asyncio.AbstractEventLoop) -> None:
        self.core = core
        self.loop = loop
        self._fd = core.fileno()
        if self._fd < 0:
            raise OSError(errno.EINVAL, "a handle without a connection cannot be used under asyncio")
        self._scheduled = False
        self._reading = False
        self.tasks: set[asyncio.Task[None]] = set()
        """Coroutines that callbacks have returned; the loop holds its tasks only weakly."""
        core.attach_pump(self, AsyncioReactor(loop))
        self.wake()

    def close(self) -> None:
        """Leaves the loop; idempotent."""
        if not self.loop.is_closed():
            self._stop_reading()

    def closed(self) -> bool:
        """True if the loop will not run again."""
        return self.loop.is_closed()

    def wake(self) -> None:
        """There may be something to do: a callback is due, a message is at hand, or somebody waits for one."""
        if self.loop.is_closed():
            return
        core = self.core
        if core.is_active() and not self._reading and not core.link.lost:
            self._reading = True
            self.loop.add_reader(self._fd, self._on_readable)
        if not self._scheduled and (core.ready or (core.is_active() and core.buffered())):
            self._scheduled = True
            self.loop.call_soon(self._run)

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            self.loop.remove_reader(self._fd)

    def reconnecting(self) -> None:
        """The connection's descriptor is about to be replaced."""
        self._stop_reading()

    def reconnected(self) -> None:
        """It has been."""
        self._fd = self.core.fileno()
        self.wake()

    def _on_readable(self) -> None:
        core = self.core
        if not core.is_active():
            # Looked at only now: RPCs come and go without the loop hearing of each.
            self._stop_reading()
            return
        core.read_ready()
        if core.link.lost:
            # The end of the stream would stay readable for ever; what has been received is still handled.
            self._stop_reading()
        if not self._scheduled:
            self._run_batch()

    def _run(self) -> None:
        self._scheduled = False
        self._run_batch()

    def _run_batch(self) -> None:
        core = self.core
        link, ready = core.link, core.ready
        budget = _BATCH
        nested, core._dispatching = core._dispatching, True  # what changes meanwhile is looked at in the end
        try:
            # Of a lost connection everything at once: who hears of the loss has had all that came before.
            while budget > 0 or link.lost:
                budget -= 1
                try:
                    if ready:
                        ready.popleft().run_continuation()
                        continue
                    if not core.is_active():
                        break
                    message = core._next_buffered()
                    if message is None:
                        break
                    if message._type != FLUX_MSGTYPE_RESPONSE or not link.deliver(message):
                        core.dispatcher.dispatch(core, message)
                except Exception as exc:  # noqa: BLE001  # to asyncio's handler of callbacks that fail
                    self._failed("exception in a callback of a Flux handle", exc)
                if tls.exception is not None:
                    # Of one event handler among several (`Dispatcher`): nobody runs a reactor that would raise it.
                    stored, tls.exception = tls.exception, None
                    self._failed("exception in an event handler of a Flux handle", stored)
        finally:
            core._dispatching = nested
            # Also when SystemExit or Ctrl-C ends the loop in the middle: it may be run again.
            self.wake()

    def _failed(self, message: str, exc: BaseException) -> None:
        self.loop.call_exception_handler({"message": message, "exception": exc})


def attach(core: FluxT, loop: asyncio.AbstractEventLoop) -> Pump:
    """The pump of a handle on `loop`, made at the first call.

    Raises RuntimeError if the handle is on another asyncio loop that is not closed yet.
    """
    pump = core.pump
    if isinstance(pump, Pump):
        if pump.loop is loop:
            return pump
        if not pump.closed():
            raise RuntimeError("this Flux handle is used by another asyncio loop: open one handle per loop")
    return Pump(core, loop)


def wait_in_asyncio(loop: asyncio.AbstractEventLoop, state: FutureState) -> Generator[Any, None, None]:
    """Suspends the running asyncio task until `state` is fulfilled."""
    if state.ctx is not None:
        attach(state.ctx, loop)
    waiter = loop.create_future()

    def fulfilled() -> None:
        if not waiter.done():
            waiter.set_result(None)

    state.add_hook(fulfilled)
    try:
        set_going(state)
        if not state.ready:
            yield from waiter
    finally:
        state.remove_hook(fulfilled)


def run_in_asyncio(
    loop: asyncio.AbstractEventLoop, handle: Flux, coro: Coroutine[Any, Any, Any], request: Message | None
) -> None:
    """Runs the coroutine of a callback as a task. What it raises goes to asyncio's exception handler.

    An OSError answers `request`, where there is one.
    """

    async def run() -> None:
        try:
            await coro
        except OSError as exc:
            answer_failed(handle, request, exc)

    def done(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        exc = None if task.cancelled() else task.exception()
        if exc is not None:
            context = {"message": "exception in an async callback of a Flux handle", "exception": exc, "task": task}
            loop.call_exception_handler(context)

    tasks = attach(handle.core, loop).tasks
    task = loop.create_task(run())
    tasks.add(task)
    task.add_done_callback(done)
