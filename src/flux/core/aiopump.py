"""A handle on an asyncio loop: its connection is read when asyncio says so, its callbacks run from there.

No thread and no polling: the connection's descriptor is one of the loop's readers, from the first time that a
future of the handle is awaited until the handle or the loop closes. Message watchers and `then` callbacks of the
handle run from the same loop; its timers, fd and signal watchers do not: asyncio has its own.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_MSGTYPE_RESPONSE
from flux.reactor import tls
from flux.wrapper import local_error

if TYPE_CHECKING:
    from flux.core.flux_t import FluxT
    from flux.future import Future

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
        self.closed = False
        core.attach_pump(self._schedule, self.close)
        loop.add_reader(self._fd, self._on_readable)
        if core.buffered():
            self._schedule()

    def close(self) -> None:
        """Leaves the loop; idempotent."""
        if not self.closed:
            self.closed = True
            if not self.loop.is_closed():
                self.loop.remove_reader(self._fd)

    def _schedule(self) -> None:
        if not self._scheduled and not self.closed and not self.loop.is_closed():
            self._scheduled = True
            self.loop.call_soon(self._run)

    def _on_readable(self) -> None:
        core = self.core
        if core.link.lost:
            self.close()
            return
        core.read_ready()
        if core.link.lost:
            # The end of the stream stays readable for ever; what has been received is still handled.
            self.loop.remove_reader(self._fd)
        if not self._scheduled:
            self._run_batch()

    def _run(self) -> None:
        self._scheduled = False
        if not self.closed:
            self._run_batch()

    def _run_batch(self) -> None:
        core = self.core
        link, ready = core.link, core.ready
        for _ in range(_BATCH):
            try:
                if ready:
                    ready.popleft().run_continuation()
                    continue
                message = core._next_buffered()
                if message is None:
                    break
                if message._type != FLUX_MSGTYPE_RESPONSE or not link.deliver(message):
                    core.dispatcher.dispatch(core, message)
            except Exception as exc:  # noqa: BLE001  # to asyncio's handler of callbacks that fail
                self.loop.call_exception_handler(
                    {"message": "exception in a callback of a Flux handle", "exception": exc}
                )
            if tls.exception is not None:
                # Of one event handler among several (`Dispatcher`): nobody runs a reactor that would raise it.
                stored, tls.exception = tls.exception, None
                self.loop.call_exception_handler(
                    {"message": "exception in an event handler of a Flux handle", "exception": stored}
                )
        else:
            self._schedule()


def attach(core: FluxT, loop: asyncio.AbstractEventLoop) -> Pump:
    """The pump of a handle on `loop`, made at the first call.

    Raises RuntimeError if the handle is on another asyncio loop that still runs.
    """
    pump = core.aux.get(b"flux::asyncio")
    if isinstance(pump, Pump) and not pump.closed:
        if pump.loop is loop:
            return pump
        if not pump.loop.is_closed():
            raise RuntimeError("this Flux handle is used by another asyncio loop: open one handle per loop")
        pump.close()
    pump = Pump(core, loop)
    core.aux[b"flux::asyncio"] = pump
    return pump


def wait_in_asyncio(loop: asyncio.AbstractEventLoop, future: Future) -> Generator[Any, None, None]:
    """Suspends the running asyncio task until `future` is fulfilled."""
    state = future._state
    if state.ctx is None:
        raise local_error(errno.EINVAL)
    attach(state.ctx, loop)
    waiter = loop.create_future()

    def fulfilled() -> None:
        if not waiter.done():
            waiter.set_result(None)

    state.add_hook(fulfilled)
    try:
        state.start_then()
        if not state.ready:
            yield from waiter
    finally:
        state.remove_hook(fulfilled)
    if tls.exception is not None:
        # Of the init callback that `start_then` ran.
        exception, tls.exception = tls.exception, None
        raise exception
