"""FutureState: what a future is, apart from the Python object that users hold (the reference's flux_future_t).

Rules:

- A state is fulfilled with a value or an error. While it is ready, further fulfilments queue up; `reset` drops
  the current one and makes the next current (spec 02, 8.1).
- `then` keeps the state alive: a count of 1, +1 per `reset`, -1 per call (8.4). What keeps the *loop* going is
  another matter: an RPC does, from `then` (or `reset`) until it is answered; see `watch`.
- It is fulfilled from wherever its response arrives: the reactor, a blocking wait for something else, asyncio.
  A continuation never runs from `fulfil`: it is scheduled on the future's handle, whose loop calls it.
- `hooks` are the library's own (composite futures, asyncio): they run inside `fulfil` and must not raise.
- An `init` callback belongs to a context: it runs at most once for waiting and once for `then` (8.6).
"""

from __future__ import annotations

import errno
import os
import time
from collections import deque
from collections.abc import Callable
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Protocol

from flux.reactor import tls
from flux.wrapper import local_error

if TYPE_CHECKING:
    from flux.core.flux_t import FluxT
    from flux.reactor import Timer


class Due(Protocol):
    """What a handle's loop calls back when it is due: a future with a continuation, or a coroutine's next step."""

    def run_continuation(self) -> None:
        """Calls back, once."""

    def stop(self) -> None:
        """Never calls back any more: the handle closes."""


class Continuation:
    """A `then` callback: how often it is due, and the count that keeps its future alive."""

    __slots__ = ("args", "callback", "due", "future", "held", "kwargs", "ran", "timeout", "timer")

    def __init__(
        self, callback: Callable[..., Any], future: Any, args: tuple[Any, ...], kwargs: dict[str, Any], timeout: float
    ) -> None:
        self.callback = callback
        self.future = future  # first argument of the callback; None: the callback takes none
        self.args = args
        self.kwargs = kwargs
        self.due = 0  # times it is on its handle's ready queue
        self.held = 1
        self.ran = False
        self.timeout = timeout
        self.timer: Timer | None = None


class FutureState:
    """An unfulfilled future on the handle `ctx` (None: on no handle)."""

    # Defaults are class attributes: an RPC makes one of these, and sets only what differs.
    ctx: FluxT | None = None
    ready: bool = False
    value: Any = None
    errnum: int = 0
    errtext: str | None = None
    final: bool = False  # failed for good: see `fail`
    done: bool = False  # nothing more will come (of an RPC: then its matchtag is free when this object goes)
    later: deque[tuple[Any, int, str | None]] | None = None
    cont: Continuation | None = None
    hooks: list[Callable[[], None]] | None = None
    init: Callable[[], None] | None = None
    init_done: int = 0  # bit 1: for waiting, bit 2: for then
    wait_ctx: FluxT | None = None  # while waiting with an init: the clone its callbacks use
    waiting: bool = False
    current: FluxT | None = None  # the handle that get_flux() gives inside init, where it is not ctx
    aux: Any = None  # what the function that made this has to remember for those that read it

    def fulfil(self, value: Any, errnum: int = 0, errtext: str | None = None) -> None:
        """Fulfils with a value, or with an error if `errnum` is not 0."""
        if self.ready:
            if self.final:
                return
            if self.later is None:
                self.later = deque()
            self.later.append((value, errnum, errtext))
        else:
            self.ready = True
            self.value = value
            self.errnum = errnum
            self.errtext = errtext
        if self.hooks is not None:
            for hook in list(self.hooks):
                hook()
        if self.cont is not None:
            self._due()

    def _due(self) -> None:
        cont, ctx = self.cont, self.ctx
        if cont is not None and ctx is not None:
            cont.due += 1
            if cont.timer is not None:
                cont.timer.stop()
            ctx.schedule(self)

    @property
    def has_error(self) -> bool:
        """True if the current fulfilment is an error."""
        return self.ready and self.errnum != 0

    def error_text(self) -> str | None:
        """The current error's text; None if pending or successful."""
        if not self.ready or not self.errnum:
            return None
        return self.errtext if self.errtext else os.strerror(self.errnum)

    def raise_error(self) -> None:
        """Raises the current error, if there is one: OSError of shape B (spec 02, 0.1)."""
        if self.errnum:
            raise OSError(self.errnum, self.error_text())

    def fail(self, errnum: int, errtext: str | None) -> None:
        """Ends this future with an error that `reset` does not take away: whatever was to come is dropped."""
        self.later = None
        self.ready = False
        self.final = True
        self.fulfil(None, errnum, errtext)

    def reset(self) -> None:
        """Drops the current fulfilment; the next that has arrived, if any, becomes current."""
        if self.final:
            return
        later, cont = self.later, self.cont
        if later:
            self.value, self.errnum, self.errtext = later.popleft()
        else:
            self.ready = False
            self.value, self.errnum, self.errtext = None, 0, None
        if cont is None or self.ctx is None:
            return
        cont.held += 1
        self.ctx.alive.add(self)
        if self.ready:
            if not cont.due:
                self._due()
        else:
            self._arm(cont)
            self.watch()

    # Waiting.

    def prepare_wait(self, private: FluxT | None = None) -> None:
        """Runs the init callback for the waiting context, unless that was done; no-op without one.

        `private` is the view of the connection on which the wait runs callbacks, if one is there already.
        """
        if self.init is None or self.init_done & 1:
            return
        self.init_done |= 1
        if self.ctx is not None:
            self.wait_ctx = private or self.ctx.clone_private()
        self.current = self.wait_ctx
        try:
            self.init()
        finally:
            self.current = None

    def wait(self, timeout: float) -> None:
        """Waits until fulfilled; `timeout` in seconds, negative for no limit, 0 to test only.

        Raises OSError: ETIMEDOUT when the time is over, EDEADLK when nothing can fulfil it (shape A).
        """
        if self.ready:
            return
        if timeout != 0:
            self.prepare_wait()
            if self.ready:
                return
        ctx = self.wait_ctx or self.ctx
        if ctx is None:
            if timeout < 0:
                raise local_error(errno.EDEADLK)
            if timeout > 0:
                # Nothing will happen, but the caller asked for this much patience.
                time.sleep(timeout)
            raise local_error(errno.ETIMEDOUT)
        self.waiting = True
        try:
            ctx.wait(self, timeout)
        finally:
            self.waiting = False

    def awaits_response(self) -> bool:
        """True if a message that is still to come may fulfil this: waiting for it is no deadlock."""
        return False

    def wait_ctx_in_use(self) -> FluxT | None:
        """The private view, while a wait is using it."""
        return self.wait_ctx if self.waiting else None

    # Continuations.

    def then(
        self,
        callback: Callable[..., Any],
        timeout: float,
        future: Any = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Has ``callback(future, *args, **kwargs)`` called from the loop of `ctx` at every fulfilment.

        Without `future`, the callback gets no argument.

        Raises OSError(EEXIST) if one is set that has not run, EINVAL (shape A) without a handle.
        """
        cont = self.cont
        if cont is not None and not cont.ran:
            raise OSError(errno.EEXIST, "then callback already exists for this future")
        ctx = self.ctx
        if ctx is None:
            raise local_error(errno.EINVAL)
        cont = self.cont = Continuation(callback, future, args, kwargs or {}, timeout)
        ctx.alive.add(self)
        if self.ready:
            self._due()
            return
        if timeout > 0:
            self._arm(cont)
        self.start_then()

    def start_then(self) -> None:
        """Sets going what will fulfil this from the loop: runs the init callback, unless that was done.

        What that raises is raised by the next `reactor_run`, as if a callback had (spec 02, 8.6).
        """
        if self.init is not None and not self.init_done & 2:
            self.init_done |= 2
            try:
                self.init()
            except Exception as exc:  # noqa: BLE001  # kept for reactor_run
                tls.exception = exc
        self.watch()

    def watch(self) -> None:
        """Keeps the loop of `ctx` going until this is fulfilled. Only RPCs need to: others wait for those."""

    def _arm(self, cont: Continuation) -> None:
        if cont.timeout <= 0 or self.ctx is None or self.done:
            return
        if cont.timer is None:
            cont.timer = self.ctx.start_timer(cont.timeout, self._expired)
        else:
            cont.timer.stop()
            cont.timer.start()

    def _expired(self) -> None:
        if not self.ready:
            self.fulfil(None, errno.ETIMEDOUT, None)

    def run_continuation(self) -> None:
        """Calls the continuation once; the handle's loop does this for what `schedule` gave it."""
        cont = self.cont
        if cont is None or not cont.due:
            return
        cont.due -= 1
        cont.ran = True
        future = cont.future
        try:
            if future is None:
                cont.callback()
            else:
                result = cont.callback(future, *cont.args, **cont.kwargs)
                if result.__class__ is CoroutineType:
                    from flux.core.coroutine import spawn

                    spawn(future.get_flux(), result)
        except BaseException:
            # It is not called again for what it has failed at (spec 02, 4.3 and 8.4).
            if self.ready:
                self.reset()
            self.stop()
            if future is not None:
                future.stopped = True
            raise
        finally:
            self._release(cont)

    def _release(self, cont: Continuation) -> None:
        """Takes one off the count that keeps this alive."""
        cont.held -= 1
        if cont.held <= 0 and self.ctx is not None:
            self.ctx.alive.discard(self)

    def stop(self) -> None:
        """No further continuation runs, and none holds the loop."""
        cont = self.cont
        if cont is not None:
            cont.due = 0
            cont.ran = True
            if cont.timer is not None:
                cont.timer.stop()
            cont.held = 0
            self._release(cont)
            self.cont = None  # what is fulfilled from now on calls nobody

    def add_hook(self, hook: Callable[[], None]) -> None:
        """Has `hook` called inside every fulfilment, until `remove_hook`."""
        if self.hooks is None:
            self.hooks = []
        self.hooks.append(hook)

    def remove_hook(self, hook: Callable[[], None]) -> None:
        """Undoes `add_hook`; absent is fine."""
        if self.hooks is not None and hook in self.hooks:
            self.hooks.remove(hook)

    def destroy(self) -> None:
        """The user is done with it: no callback runs any more."""
        self.stop()
        self.hooks = None


class RpcState(FutureState):
    """The future of an RPC; its value is the response message."""

    ctx: FluxT
    matchtag: int = 0
    nodeid: int = 0
    streaming: bool = False
    noresponse: bool = False
    topic: bytes = b""
    watched: bool = False  # this RPC is one of those that keep the loop going

    def fulfil(self, value: Any, errnum: int = 0, errtext: str | None = None) -> None:
        """As `FutureState.fulfil`; an answered RPC no longer keeps the loop going."""
        if self.watched and (errnum or not self.streaming):
            self.watched = False
            self.ctx.watch(-1)
        FutureState.fulfil(self, value, errnum, errtext)

    def start_then(self) -> None:
        """There is no init; only the loop has to be kept going."""
        if not self.done and not self.watched:
            self.watched = True
            self.ctx.watch(1)

    def watch(self) -> None:
        """Keeps the loop going until the answer comes; to a streaming RPC, the one that ends it."""
        if not self.watched and not self.done:
            self.watched = True
            self.ctx.watch(1)

    def stop(self) -> None:
        """As `FutureState.stop`; the loop need not wait for the answer."""
        FutureState.stop(self)
        if self.watched:
            self.watched = False
            self.ctx.watch(-1)

    def awaits_response(self) -> bool:
        """True until the final response."""
        return not self.ready and not self.done

    def _release(self, cont: Continuation) -> None:
        FutureState._release(self, cont)
        if self.done and cont.held <= 0 and not cont.due and self.cont is cont:
            # It cannot be called again; without it the future and its callback are no reference cycle.
            self.cont = None

    def wait(self, timeout: float) -> None:
        """As `FutureState.wait`; this one never has an init, and its handle is always known."""
        if not self.ready:
            self.ctx.wait(self, timeout)

    def __del__(self) -> None:
        if self.watched:
            self.ctx.watch(-1)
        # A state that goes before its final response leaves the tag reserved until that arrives (spec 01, 3.5).
        if self.done:
            self.ctx.link.free_tag(self.matchtag)


class CompositeState(FutureState):
    """A future that is fulfilled when all its children are; by the error of the first that failed, if any did."""

    def __init__(self) -> None:
        self.names: dict[str, FutureState] = {}
        self._started = False

    def push(self, name: str, child: FutureState) -> None:
        """Adds a child; takes over its handle if this has none. Raises OSError(EEXIST) for a name in use."""
        if name in self.names:
            raise local_error(errno.EEXIST)
        self.names[name] = child
        if self.ctx is None:
            self.ctx = child.ctx
        if not child.ready:
            child.add_hook(self._check)

    def _check(self) -> None:
        if not self._started or self.ready:
            return
        if all(child.ready for child in self.names.values()):
            failed = next((child.errnum for child in self.names.values() if child.errnum), 0)
            for child in self.names.values():
                child.remove_hook(self._check)
            self.fulfil(None, failed, None)

    def begin(self) -> None:
        """From here on the children count: called by the first wait or test (an empty composite is ready then)."""
        self._started = True
        self._check()

    def prepare_wait(self, private: FluxT | None = None) -> None:
        """Has every child set going what will fulfil it; they share one private view of the connection."""
        self.begin()
        if self.wait_ctx is None and self.ctx is not None:
            self.wait_ctx = private or self.ctx.clone_private()
        for child in list(self.names.values()):
            if not child.ready:
                child.prepare_wait(self.wait_ctx)
        self._check()

    def awaits_response(self) -> bool:
        """True if a child does."""
        return any(child.awaits_response() for child in self.names.values())

    def start_then(self) -> None:
        """Has every child set going, from the loop, what will fulfil it."""
        self.begin()
        for child in list(self.names.values()):
            if not child.ready:
                child.start_then()
        self._check()

    def watch(self) -> None:
        """The children keep the loop going."""
        for child in self.names.values():
            if not child.ready:
                child.watch()
