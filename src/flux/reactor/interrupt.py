"""A run of a reactor as users want it (spec 02, 4.3 to 4.5): what `Flux.reactor_run` is built on.

Rules, for the main thread (other threads get no signal handling):
- Ctrl-C while the loop waits, or works for itself, ends the innermost run: KeyboardInterrupt comes out of it.
- Ctrl-C while a user's callback executes raises KeyboardInterrupt right there, so that a callback that blocks can
  be interrupted. If the callback lets it pass, it comes out of the run; if it catches it, that is its decision.
- Flux's own plumbing (reading and writing connections, taking a message off a queue) is not torn apart by the first
  Ctrl-C: half a message written would lose the connection. A second one raises there too, in case it is stuck.
- The loop's own code is never interrupted, so its state is always whole and the handler always put back.

What is executing is read off the stack when the signal comes. That costs the loop nothing; a flag set around every
callback would.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType

from flux.reactor.loop import Reactor
from flux.reactor.signals import begin_interruptible, end_interruptible, in_main_thread
from flux.reactor.state import tls

_LOOP = "flux.reactor"
_PLUMBING = ("flux.core", "flux.connector", "flux.message", "flux.wire", "flux.rpc", "flux.future")


def _within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


class _Run:
    """One run in the main thread, and what SIGINT does to it."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.signalled = False
        self.interrupted = False

    def interrupt(self, frame: FrameType | None) -> None:
        """SIGINT has come: ends the run, or raises KeyboardInterrupt into what is executing."""
        in_user_code, in_plumbing = _executing(frame)
        self.signalled = True
        if in_user_code:
            raise KeyboardInterrupt
        again, self.interrupted = self.interrupted, True
        self.reactor.stop_error()
        self.reactor.wake()
        if again and in_plumbing:
            raise KeyboardInterrupt


def _executing(frame: FrameType | None) -> tuple[bool, bool]:
    """Whether there is user code, and whether there is plumbing, between `frame` and what the loop has called.

    The standard library's frames are no hint: both use it. Nothing is said to be there when the loop's own code
    is interrupted: called by the loop, or by a callback (`stop`, say), or by a user's signal handler. Such a handler
    may also be executing on top of the loop, which is not made for exceptions just anywhere.
    """
    in_user_code = in_plumbing = False
    while frame is not None:
        module = frame.f_globals.get("__name__") or ""
        if _within(module, _LOOP):
            if frame.f_code in _CALLER_CODE:
                return in_user_code, in_plumbing
            return False, False
        if any(_within(module, package) for package in _PLUMBING):
            in_plumbing = True
        elif module.partition(".")[0] not in sys.stdlib_module_names:
            in_user_code = True
        frame = frame.f_back
    return False, False


def run_with_interrupt(reactor: Reactor, flags: int = 0) -> int:
    """Runs the reactor as `Reactor.run` does, and raises what its callbacks raised.

    `flags` as in `Reactor.run`. Returns what that returns, less one (not below 0) in the main thread, as the
    reference does (spec 02, 4.1). Raises the last exception of a callback, or one that was stored in
    `tls.exception` by hand: the same object with its own traceback; KeyboardInterrupt for SIGINT, in place of
    any of them (spec 02, 4.3, 4.4).
    """
    if not in_main_thread():
        tls.reactor_depth += 1
        try:
            count = reactor.run(flags)
        finally:
            tls.reactor_depth -= 1
    else:
        count = _run_in_main_thread(reactor, flags)
        if count > 0:
            count -= 1
    exc, tls.exception = tls.exception, None
    if exc is None:
        return count
    try:
        # The cause that the callback gave (`raise ... from`) stays; the context is of no interest either way.
        raise exc from exc.__cause__
    finally:
        del exc  # else this frame and the traceback would keep each other, and the callback's locals, alive


def _run_in_main_thread(reactor: Reactor, flags: int) -> int:
    run = _Run(reactor)
    try:
        begin_interruptible(run)
        tls.reactor_depth += 1
        try:
            count = reactor.run(flags)
            if run.signalled:
                _settle(run)
        finally:
            tls.reactor_depth -= 1
    finally:
        end_interruptible(run)
    return count


def _settle(run: _Run) -> None:
    """After a SIGINT: a user's event for it runs, though the loop ended too early; KeyboardInterrupt prevails."""
    # Not in the caller: a frame that the traceback leads back to must not hold the exception.
    stored = tls.exception
    run.reactor.deliver_signal(signal.SIGINT)
    if run.interrupted:
        tls.exception = KeyboardInterrupt()
    elif isinstance(stored, KeyboardInterrupt):
        tls.exception = stored


_CALLER_CODE = frozenset(
    function.__code__ for function in (Reactor._loop, Reactor._call, Reactor._flush, Reactor._read)
)
"""What calls code that is not the loop's own; it takes care of exceptions."""
