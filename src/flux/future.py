"""Futures: what an RPC, and anything else that is answered later, gives its caller (spec 02, section 8).

A `Future` is the Python object; what it waits for is its `FutureState`. Waiting (`get`, `wait_for`) handles
nothing else meanwhile; a continuation (`then`) is called by the handle's reactor, or by asyncio; and every
future can be awaited, in a coroutine that runs under either.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NoReturn, Self

from flux.core.arguments import c_int, is_null, text_bytes
from flux.core.future_state import CompositeState, FutureState
from flux.reactor import tls
from flux.wrapper import NULL_HANDLE_TEXT, InvalidArguments, WrapperPimpl, local_error

if TYPE_CHECKING:
    from flux.core.flux_t import FluxT
    from flux.core.futurepimpl import FuturePimpl
    from flux.core.handle import Flux
    from flux.reactor import Reactor


class _NoState:
    """Stands for the state of a future whose handle was set to None."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ValueError(NULL_HANDLE_TEXT)


_NO_STATE: Any = _NoState()


class Future(WrapperPimpl):
    """A future.

    Args:
        future_handle: an opaque future, or another Future to share.
    """

    then_cb: Callable[..., Any] | None = None
    then_args: tuple[Any, ...] | None = None
    then_kwargs: dict[str, Any] | None = None
    cb_handle: Any = None
    stopped: bool = False
    _state: Any = _NO_STATE
    _flux: Flux | FluxT | None = None  # kept alive as long as the future

    def __init__(self, future_handle: Any, prefixes: Any = None, pimpl_t: Any = None) -> None:
        if isinstance(future_handle, Future):
            self._shared = future_handle  # what that future keeps alive, a handle for one, stays alive
            self._state = future_handle._state
        elif isinstance(future_handle, FutureState):
            self._state = future_handle
        else:
            raise TypeError(f"expected a future handle, not {type(future_handle)}")

    @property
    def pimpl(self) -> FuturePimpl:
        """The C functions `flux_future_*` with this future implied (spec 02, 9.3)."""
        from flux.core.futurepimpl import FuturePimpl

        return FuturePimpl(self)

    @property
    def handle(self) -> FutureState | None:
        """The opaque future; None once destroyed. May be set to another opaque future."""
        return None if self._state is _NO_STATE else self._state

    @handle.setter
    def handle(self, value: FutureState | None) -> None:
        if value is not None and not isinstance(value, FutureState):
            raise TypeError(f"initializer for ctype 'flux_future_t *': expected a future handle, not {type(value)}")
        self._state = _NO_STATE if value is None else value

    def __enter__(self) -> Self:
        return self

    def __exit__(self, type_arg: object, value: object, last: object) -> None:
        state = self.handle
        self.handle = None
        if state is not None:
            state.destroy()

    # Waiting.

    def wait_for(self, timeout: float = -1.0) -> Self:
        """Waits until fulfilled; the future's own error is not raised. Returns self.

        Args:
            timeout: seconds; negative: no limit; 0: only a test.

        Raises TimeoutError when the time is over (the future stays pending), OSError(EDEADLK) when nothing can
        fulfil it.
        """
        if not isinstance(timeout, (int, float)):
            raise InvalidArguments(
                "flux_future_wait_for", "int flux_future_wait_for(flux_future_t *, double)", (self, timeout)
            )
        try:
            self._state.wait(float(timeout))
        except OSError:
            self.raise_if_handle_exception()
            raise
        return self

    def get(self) -> Any:
        """Waits, and returns None. Raises the future's error: OSError with the text that came with it."""
        self._result()

    def _result(self) -> Any:
        """The value, once there; raises the error."""
        state = self._state
        if not state.ready:
            self.wait_for()
        if state.errnum:
            self.raise_if_handle_exception()
            state.raise_error()
        return state.value

    def is_ready(self) -> bool:
        """True if fulfilled."""
        return bool(self._state.ready)

    def error_string(self) -> str | None:
        """The text of the current error; None if pending or successful."""
        text: str | None = self._state.error_text()
        return text

    def reset(self) -> None:
        """Discards the current fulfilment; the next becomes current, and `then` is called for it."""
        self._state.reset()

    def fulfill_error(self, errnum: int = errno.ENOENT, errstr: str | bytes | None = None) -> None:
        """Fulfils with an error."""
        number = c_int("flux_future_fulfill_error", errnum)
        text = text_bytes("flux_future_fulfill_error", errstr)
        self._state.fulfil(None, number, None if text is None else text.decode("utf-8", "surrogateescape"))

    # Continuations.

    def then(self, callback: Callable[..., Any], *args: Any, timeout: float = -1.0, **kwargs: Any) -> Self:
        """Has ``callback(future, *args, **kwargs)`` called by the reactor when fulfilled; returns self.

        Args:
            timeout: seconds after which it is fulfilled with ETIMEDOUT instead; negative: none.

        Raises ValueError for no callback, OSError EEXIST if one is set that has not run, EINVAL without a
        handle. An exception in the callback stops the reactor and comes out of `reactor_run`.
        """
        if callback is None:
            raise ValueError("Callback cannot be None")
        if not callable(callback):
            raise TypeError(f"callback must be callable, not {type(callback)}")
        self._state.then(callback, timeout if timeout.__class__ is float else float(timeout), self, args, kwargs)
        self.then_cb, self.then_args, self.then_kwargs = callback, args, kwargs
        if self.stopped:
            self.stopped = False
        return self

    def stop(self) -> None:
        """No further continuation is called. Cancels nothing."""
        self.stopped = True
        if self._state is not _NO_STATE:
            self._state.stop()

    # Where it belongs.

    def get_flux(self) -> Flux | None:
        """The handle this future is on, or None."""
        ctx: FluxT | None = self._state.current or self._state.wait_ctx_in_use() or self._state.ctx
        if ctx is None:
            return None
        wrapper = ctx.wrapper() if ctx.wrapper is not None else None
        if wrapper is None:
            from flux.core.handle import Flux

            wrapper = Flux(handle=ctx.incref())
            self._flux = wrapper  # lives as long as the future
        return wrapper

    def set_flux(self, flux_handle: Flux | FluxT) -> None:
        """Attaches the future to a handle."""
        from flux.core.flux_t import FluxT

        if not isinstance(flux_handle, FluxT) and not hasattr(flux_handle, "core"):
            raise TypeError(f"expected a Flux handle, not {type(flux_handle)}")
        self._state.ctx = flux_handle if isinstance(flux_handle, FluxT) else flux_handle.core
        self._flux = flux_handle

    def get_reactor(self) -> Reactor:
        """The reactor that calls this future back; OSError(EINVAL) without a handle."""
        ctx = self._state.ctx
        if ctx is None:
            raise local_error(errno.EINVAL)
        reactor: Reactor = ctx.reactor
        return reactor

    def raise_if_handle_exception(self) -> None:
        """Raises the exception of a callback that waits to be raised in this thread, if there is one."""
        if tls.exception is not None and self._state.ctx is not None:
            exception, tls.exception = tls.exception, None
            raise exception

    def incref(self) -> None:
        """One more owner, in C; Python counts by itself."""

    # Awaiting.

    def __await__(self) -> Generator[Any, Any, Any]:
        from flux.core.coroutine import await_future

        yield from await_future(self)
        return self.get()


class FutureExt(Future):
    """A future that a callback fulfils.

    Args:
        init_cb: called as ``init_cb(future, *args, **kw_args)`` when the future is first waited for, or given a
            `then`; it, or something it sets going, calls `fulfill`.
        flux_handle: the handle it is on; what a wait sets going belongs on ``future.get_flux()``.
    """

    def __init__(
        self,
        init_cb: Callable[..., Any],
        *args: Any,
        flux_handle: Flux | FluxT | None = None,
        **kw_args: Any,
    ) -> None:
        if not callable(init_cb):
            raise TypeError(f"init_cb must be callable, not {type(init_cb)}")
        state = FutureState()
        super().__init__(state)
        self.init_cb = init_cb
        if not is_null(flux_handle):
            self.set_flux(flux_handle)  # type: ignore[arg-type]  # not null
        state.init = lambda: init_cb(self, *args, **kw_args)

    def fulfill(self, result: Any = None) -> None:
        """Fulfils with any JSON value. Raises TypeError for what is none."""
        self._state.fulfil(json.dumps(result, ensure_ascii=False))

    def get(self) -> Any:
        """The value given to `fulfill`, after a JSON round trip. Raises the error."""
        value = self._result()
        return None if value is None else json.loads(value)


class WaitAllFuture(Future):
    """Fulfilled when all its children are; get() is None, or raises the errno of a child that failed.

    Args:
        children: only sets the list of that name, as in the reference; use `push`.
    """

    def __init__(self, children: list[Future] | None = None) -> None:
        if children is not None and not isinstance(children, list):
            raise TypeError(f"children must be a list, not {type(children)}")
        super().__init__(CompositeState())
        self.children: list[Future] = [] if children is None else children

    def push(self, child: Future, name: str | bytes | None = None) -> None:
        """Adds a future. Raises OSError(EEXIST) for a name in use."""
        if not isinstance(child, Future):
            raise TypeError(f"expected a future, not {type(child)}")
        text = text_bytes("flux_future_push", name)
        key = str(len(self.children)) if text is None else text.decode("utf-8", "surrogateescape")
        self._state.push(key, child._state)
        self.children.append(child)
