"""Signals: one Python signal handler a signal, shared by all reactors of the process.

Rules:
- While a signal has a subscriber (an active `SignalEvent`, or for SIGINT a run that Ctrl-C is to stop), our handler
  is installed; the handler that was there comes back when the last subscriber leaves. A handler that someone
  else installs meanwhile is theirs, and stays.
- The handler only marks the signal pending on the reactors that watch it, and wakes them. A signal that comes
  while no loop runs is kept for the next pass.
- Signals are never blocked, so that children do not inherit them blocked.
- Reactors are held weakly: a signal watcher does not keep a forgotten handle alive.

Python lets only the main thread install a handler. A subscriber that leaves in another thread may leave our
handler behind with nobody to serve; it then takes itself out when the signal comes, and sends it again.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
import weakref
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from flux.reactor.events import Event

if TYPE_CHECKING:
    from flux.reactor.loop import Reactor

    Handler = Callable[[int, FrameType | None], object] | int | signal.Handlers | None


class InterruptibleRun(Protocol):
    """A run of a reactor that Ctrl-C stops."""

    def interrupt(self, frame: FrameType | None) -> None:
        """SIGINT has come while `frame` was executing. May raise KeyboardInterrupt, into that frame."""
        ...


class _Subscription:
    """Who wants one signal, and what its handler was before."""

    def __init__(self) -> None:
        self.previous: Handler = signal.SIG_DFL
        # A tuple, replaced and never changed: the handler may run in the middle of any statement.
        self.reactors: tuple[weakref.ref[Reactor], ...] = ()
        self.runs: list[InterruptibleRun] = []

    def wanted(self) -> bool:
        return bool(self.runs) or any(reference() is not None for reference in self.reactors)


_subscriptions: dict[int, _Subscription] = {}


def in_main_thread() -> bool:
    """Whether this is the thread that Python runs signal handlers in."""
    return threading.get_ident() == threading.main_thread().ident


def _on_signal(signum: int, frame: FrameType | None) -> None:
    subscription = _subscriptions[signum]
    if not subscription.wanted():
        _uninstall(signum, subscription)
        os.kill(os.getpid(), signum)
        return
    for reference in subscription.reactors:
        reactor = reference()
        if reactor is not None:
            reactor.signal_arrived(signum)
    if subscription.runs:
        subscription.runs[-1].interrupt(frame)


def _install(signum: int) -> _Subscription:
    """Makes ours the handler of the signal. Raises OSError(EINVAL) outside the main thread, or for SIGKILL."""
    subscription = _subscriptions.setdefault(signum, _Subscription())
    current = signal.getsignal(signum)
    if current is not _on_signal:
        if not in_main_thread():
            raise OSError(errno.EINVAL, "signal watchers can be started only in the main thread")
        subscription.previous = current
        signal.signal(signum, _on_signal)
    return subscription


def _uninstall(signum: int, subscription: _Subscription) -> None:
    """Puts the previous handler back if nobody wants the signal any more."""
    if not subscription.wanted() and in_main_thread() and signal.getsignal(signum) is _on_signal:
        # None stands for a handler that Python did not install, and cannot: the default is the nearest thing.
        previous = subscription.previous
        signal.signal(signum, signal.SIG_DFL if previous is None else previous)


def subscribe(reactor: Reactor, signum: int) -> None:
    """From now on `signum` is marked pending on `reactor`."""
    subscription = _install(signum)
    subscription.reactors = (*subscription.reactors, weakref.ref(reactor))


def unsubscribe(reactor: Reactor, signum: int) -> None:
    """Undoes `subscribe`."""
    subscription = _subscriptions[signum]
    subscription.reactors = tuple(
        reference for reference in subscription.reactors if reference() not in (None, reactor)
    )
    _uninstall(signum, subscription)


def forget_all() -> None:
    """In a forked child that begins anew: signals are no business of the reactors that it has inherited."""
    _subscriptions.clear()


def begin_interruptible(run: InterruptibleRun) -> None:
    """From now on SIGINT goes to `run` (main thread only). Always to be followed by `end_interruptible`."""
    # Listed before the handler is there: the handler takes itself out when it finds nobody to serve.
    _subscriptions.setdefault(signal.SIGINT, _Subscription()).runs.append(run)
    _install(signal.SIGINT)


def end_interruptible(run: InterruptibleRun) -> None:
    """Undoes `begin_interruptible`, also one that did not get to its end."""
    subscription = _subscriptions[signal.SIGINT]
    if run in subscription.runs:
        subscription.runs.remove(run)
    _uninstall(signal.SIGINT, subscription)


class SignalEvent(Event):
    """Calls `callback(signum)` after the process has received the signal (spec 02, 5.2)."""

    __slots__ = ("callback", "signum")

    def __init__(self, reactor: Reactor, signum: int, callback: Callable[[int], None]) -> None:
        super().__init__(reactor)
        self.signum = signum
        self.callback = callback

    def _begin(self) -> None:
        self.reactor.watch_signal(self)

    def _end(self) -> None:
        self.reactor.unwatch_signal(self)
