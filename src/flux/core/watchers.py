"""Watchers: a callback for each kind of thing that a reactor waits for (spec 02, section 5).

Rules:
- A watcher is thin: what it waits with is an event of `flux.reactor`, its `handle`.
- It is made stopped, and registered with the flux handle, which keeps it alive until it is destroyed: an
  anonymous started watcher survives garbage collection.
- `start`, `stop`, `ref`, `unref` return the watcher, may be called at any time, and do nothing once it is
  destroyed. Destroying breaks the cycle of watcher and event, so that counting frees both.
- What cannot work is refused when the watcher is made, not when it fires.

Message watchers are in `flux.message`.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from flux.wrapper import InvalidArguments, local_error

if TYPE_CHECKING:
    from flux.reactor import FdEvent, Reactor, SignalEvent, Timer

__all__ = [
    "CheckWatcher",
    "FDWatcher",
    "IdleWatcher",
    "PrepareWatcher",
    "SignalWatcher",
    "TimerWatcher",
    "Watcher",
]


class _Handle(Protocol):
    """What a watcher needs of its flux handle."""

    @property
    def reactor(self) -> Reactor: ...

    def add_watcher(self, watcher: Any) -> Any: ...

    def del_watcher(self, watcher: Any) -> None: ...


class _Event(Protocol):
    """What a watcher waits with."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def ref(self) -> None: ...

    def unref(self) -> None: ...


class Watcher:
    """Base of all watchers.

    Args:
        flux_handle: the handle that the watcher belongs to, and that callbacks get as their first argument.
        handle: what it waits with (opaque); None after `destroy`.
    """

    flux_handle: Any
    handle: Any

    def __init__(self, flux_handle: _Handle, handle: _Event | None = None) -> None:
        require_handle(flux_handle)
        self.flux_handle = flux_handle
        self.handle = handle
        flux_handle.add_watcher(self)

    def __enter__(self) -> Self:
        """Starts the watcher."""
        self.start()
        return self

    def __exit__(self, type_arg: object, value: object, _: object) -> Literal[False]:
        """Stops the watcher; it may be started again."""
        self.stop()
        return False

    def start(self) -> Self:
        """Begins to watch. Raises OSError if the system refuses (a descriptor that is not open, say)."""
        if self.handle is not None:
            self.handle.start()
        return self

    def stop(self) -> Self:
        """Ceases to watch: the callback is not called any more, not even for what is ready already."""
        if self.handle is not None:
            self.handle.stop()
        return self

    def ref(self) -> Self:
        """Undoes `unref`."""
        if self.handle is not None:
            self.handle.ref()
        return self

    def unref(self) -> Self:
        """Lets `reactor_run` end although this watcher is started."""
        if self.handle is not None:
            self.handle.unref()
        return self

    def destroy(self) -> None:
        """Stops the watcher for good, and makes the flux handle forget it."""
        event, self.handle = self.handle, None
        if event is not None:
            event.stop()
            self.flux_handle.del_watcher(self)


def require_handle(value: object) -> None:
    """Raises TypeError unless `value` is something that watchers can belong to: a Flux handle."""
    if not hasattr(value, "add_watcher"):
        raise TypeError(f"expected a Flux handle, not {type(value)}")


def require_callable(callback: object) -> None:
    """Raises TypeError unless `callback` can be called."""
    if not callable(callback):
        raise TypeError(f"callback must be callable, not {type(callback)}")


def _seconds(value: Any) -> float:
    """A time as timers take it: anything `float` takes. Raises OSError(EINVAL) for a negative one, or none."""
    seconds = float(value)
    if not seconds >= 0:  # not-a-number compares false with everything
        raise local_error(errno.EINVAL)
    return seconds


class TimerWatcher(Watcher):
    """Calls ``callback(handle, watcher, revents, args)`` when time has passed; revents is 0.

    Args:
        flux_handle: the handle.
        after: seconds from `start` to the first call.
        callback: the function.
        repeat: seconds from one call to the next; 0 for a single call, after which the watcher is stopped.
        args: handed to the callback.

    Raises TypeError or ValueError for what is no number, OSError(EINVAL) for a negative one.
    """

    handle: Timer | None

    def __init__(
        self,
        flux_handle: _Handle,
        after: float,
        callback: Callable[..., Any],
        repeat: float = 0,
        args: Any = None,
    ) -> None:
        require_handle(flux_handle)
        require_callable(callback)
        self.after = _seconds(after)
        self.repeat = _seconds(repeat)
        self.callback = callback
        self.args = args
        super().__init__(flux_handle, flux_handle.reactor.timer(self.after, self.repeat, self._fire))

    def _fire(self) -> None:
        self.callback(self.flux_handle, self, 0, self.args)

    def reset(self, after: float | None = None, repeat: float | None = None) -> None:
        """Starts the timer with other times (default: those it was made with), a running one from now.

        The attributes `after` and `repeat` stay what they are. Raises as the constructor does.
        """
        first = self.after if after is None else _seconds(after)
        then = self.repeat if repeat is None else _seconds(repeat)
        if self.handle is not None:
            self.handle.reset(first, then)


class FDWatcher(Watcher):
    """Calls ``callback(handle, watcher, fd, revents, args)`` while a descriptor is ready.

    Args:
        flux_handle: the handle.
        fd_int: the descriptor, or an object with a `fileno` method.
        events: FLUX_POLLIN and/or FLUX_POLLOUT; hangups and errors are reported as what was asked for.
        callback: the function.
        args: handed to the callback.

    Raises InvalidArguments for another kind of descriptor or of events; `start` raises OSError(EBADF) for a
    descriptor that is not open.
    """

    handle: FdEvent | None

    def __init__(
        self, flux_handle: _Handle, fd_int: Any, events: int, callback: Callable[..., Any], args: Any = None
    ) -> None:
        require_handle(flux_handle)
        require_callable(callback)
        fd = fd_int.fileno() if hasattr(fd_int, "fileno") else fd_int
        if not isinstance(fd, int) or not isinstance(events, int):
            raise InvalidArguments(
                "flux_fd_watcher_create",
                "flux_watcher_t *flux_fd_watcher_create(flux_reactor_t *, int, int, flux_watcher_f, void *)",
                (fd_int, events),
            )
        self.fd_int = fd
        self.events = events
        self.callback = callback
        self.args = args
        super().__init__(flux_handle, flux_handle.reactor.fd(fd, events, self._fire))

    def _fire(self, fd: int, revents: int) -> None:
        self.callback(self.flux_handle, self, fd, revents, self.args)


class SignalWatcher(Watcher):
    """Calls ``callback(handle, watcher, signum, args)`` when the process has received a signal.

    While started it replaces a Python handler for the signal; that one is in force again afterwards. `start`
    raises OSError(EINVAL) outside the main thread: only there does Python let a handler be installed.

    Args:
        flux_handle: the handle.
        signal_int: the signal's number.
        callback: the function.
        args: handed to the callback.

    Raises InvalidArguments for what is no integer, OSError(EINVAL) for what is no signal.
    """

    handle: SignalEvent | None

    def __init__(self, flux_handle: _Handle, signal_int: int, callback: Callable[..., Any], args: Any = None) -> None:
        require_handle(flux_handle)
        require_callable(callback)
        if not isinstance(signal_int, int):
            raise InvalidArguments(
                "flux_signal_watcher_create",
                "flux_watcher_t *flux_signal_watcher_create(flux_reactor_t *, int, flux_watcher_f, void *)",
                (signal_int,),
            )
        if not 1 <= signal_int < signal.NSIG:
            raise OSError(errno.EINVAL, "invalid signal number")
        self.signal_int = signal_int
        self.callback = callback
        self.args = args
        super().__init__(flux_handle, flux_handle.reactor.signal(signal_int, self._fire))

    def _fire(self, signum: int) -> None:
        self.callback(self.flux_handle, self, signum, self.args)


class _HookWatcher(Watcher):
    """Calls ``callback(handle, watcher, revents, args)`` at a point of every pass of the loop; revents is 0."""

    callback: Callable[..., Any] | None
    args: Any

    def _fire(self) -> None:
        if self.callback is not None:
            self.callback(self.flux_handle, self, 0, self.args)


class PrepareWatcher(_HookWatcher):
    """Calls ``callback(handle, watcher, revents, args)`` before the loop polls; revents is 0.

    Args:
        flux_handle: the handle.
        callback: the function.
        args: handed to the callback.
    """

    def __init__(self, flux_handle: _Handle, callback: Callable[..., Any], args: Any = None) -> None:
        require_handle(flux_handle)
        require_callable(callback)
        self.callback = callback
        self.args = args
        super().__init__(flux_handle, flux_handle.reactor.prepare(self._fire))


class CheckWatcher(_HookWatcher):
    """Calls ``callback(handle, watcher, revents, args)`` after the loop has polled; revents is 0.

    Args:
        flux_handle: the handle.
        callback: the function.
        args: handed to the callback.
    """

    def __init__(self, flux_handle: _Handle, callback: Callable[..., Any], args: Any = None) -> None:
        require_handle(flux_handle)
        require_callable(callback)
        self.callback = callback
        self.args = args
        super().__init__(flux_handle, flux_handle.reactor.check(self._fire))


class IdleWatcher(_HookWatcher):
    """Keeps the loop from waiting; calls ``callback(handle, watcher, revents, args)`` when nothing else happens.

    Args:
        flux_handle: the handle.
        callback: the function, or None; revents is 0.
        args: handed to the callback.
    """

    def __init__(self, flux_handle: _Handle, callback: Callable[..., Any] | None = None, args: Any = None) -> None:
        require_handle(flux_handle)
        if callback is not None:
            require_callable(callback)
        self.callback = callback
        self.args = args
        super().__init__(flux_handle, flux_handle.reactor.idle(self._fire))
