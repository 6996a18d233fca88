"""The event loop (spec 02, 4.1, 4.2 and 4.6).

One pass: prepare hooks; flush and poll; signals; check hooks; one dispatch for every ready message source; due
timers; ready descriptors; idle hooks if nothing else happened. Within a kind, order of start; timers by deadline.

Rules:
- This loop carries every message. A phase with nothing to do costs one test of a container; nothing is allocated
  per pass; and while a source has messages queued and nothing else needs the kernel, the kernel is asked only
  every 64th dispatch. Timers and signals are looked at in every pass.
- What a callback may change while the loop walks it is either replaced whole or looked up afresh.
- An exception from a callback ends the loop after the pass and waits in `tls.exception`; the last one wins. One
  that is not an `Exception` (KeyboardInterrupt, SystemExit) ends the loop at once.
"""

from __future__ import annotations

import errno
import signal
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from time import monotonic
from typing import TypeVarTuple

from flux.reactor.descriptors import Descriptors, FdEvent, ReaderEvent
from flux.reactor.events import (
    CheckEvent,
    Event,
    Hook,
    IdleEvent,
    PrepareEvent,
    Source,
    SourceEvent,
)
from flux.reactor.poller import POLLIN, POLLOUT
from flux.reactor.signals import SignalEvent, in_main_thread, subscribe, unsubscribe
from flux.reactor.state import tls
from flux.reactor.timers import Timer, TimerHeap
from flux.wrapper import local_error

NOWAIT = 1
ONCE = 2
"""FLUX_REACTOR_NOWAIT, FLUX_REACTOR_ONCE of `flux.constants`."""

_DISPATCHES_PER_POLL = 64
_LONGEST_WAIT = 86400.0  # pollers count milliseconds in an int: waiting for ever is done a day at a time
_GO_ON, _STOP, _STOP_ERROR = 0, 1, 2
_Arguments = TypeVarTuple("_Arguments")

_own_wakeups: set[int] = set()  # write ends of wake pipes, as given to signal.set_wakeup_fd


class _EndAtOnceError(Exception):
    """A callback has raised what is not to wait for the end of the pass."""


class Reactor:
    """One event loop. It may be run again after it has ended, and from within its own callbacks."""

    def __init__(self) -> None:
        self.references = 0
        """What keeps the loop running: the sum of the weights of the active, referenced events."""
        self.descriptors = Descriptors()
        self.timers = TimerHeap()
        self.ready: deque[SourceEvent] = deque()
        self._sources: list[weakref.ref[SourceEvent]] = []
        self._flushing: list[weakref.ref[SourceEvent]] = []  # those whose output goes out before every poll
        self._prepares: dict[Hook, None] = {}
        self._checks: dict[Hook, None] = {}
        self._idles: dict[Hook, None] = {}
        self._signals: dict[SignalEvent, None] = {}
        self._pending_signals: set[int] = set()
        self._served = False  # a `reader` was called in this pass
        self._stop = _GO_ON
        self._depth = 0
        self._closing = False

    # Low-level events: each is made stopped.

    def timer(self, after: float, repeat: float, callback: Callable[[], None]) -> Timer:
        """A timer of `after` seconds, then every `repeat` seconds if that is not 0."""
        return Timer(self, after, repeat, callback)

    def fd(self, fd: int, events: int, callback: Callable[[int, int], None]) -> FdEvent:
        """Watches `fd` for POLLIN and/or POLLOUT; `start` raises OSError(EBADF) if it is not open."""
        return FdEvent(self, fd, events, callback)

    def reader(self, fd: int, events: int, callback: Callable[[int, int], None]) -> FdEvent:
        """As `fd`, but called as soon as the poll has found it, before timers and all else of the pass.

        For servers with many connections, to which each step of the usual way is work for every message. It has
        the descriptor for itself: other events on it are refused with OSError(EEXIST) while this is active.
        """
        return ReaderEvent(self, fd, events, callback)

    def signal(self, signum: int, callback: Callable[[int], None]) -> SignalEvent:
        """Watches a signal; `start` raises OSError(EINVAL) outside the main thread."""
        return SignalEvent(self, signum, callback)

    def prepare(self, callback: Callable[[], None]) -> PrepareEvent:
        """A hook before polling."""
        return PrepareEvent(self, self._prepares, callback)

    def check(self, callback: Callable[[], None]) -> CheckEvent:
        """A hook after polling."""
        return CheckEvent(self, self._checks, callback)

    def idle(self, callback: Callable[[], None] | None) -> IdleEvent:
        """Keeps the loop from waiting, and is called when nothing else happened."""
        return IdleEvent(self, self._idles, callback)

    def source(self, source: Source) -> SourceEvent:
        """Attaches a message source, stopped. If it has a method `before_poll`, that is called from now on."""
        event = SourceEvent(self, source)
        self._sources.append(weakref.ref(event, self._sources.remove))
        if hasattr(source, "before_poll"):
            self._flushing.append(weakref.ref(event, self._flushing.remove))
        return event

    def source_ready(self, event: SourceEvent) -> None:
        """The source has something to dispatch without reading. Idempotent; remembered while stopped."""
        if not event.ready:
            event.ready = True
            if event.active:
                self.ready.append(event)

    # Running.

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._depth > 0

    def now(self) -> float:
        """Wall-clock time in seconds."""
        return time.time()

    def stop(self) -> None:
        """Ends all runs under way after this pass. No effect on later ones."""
        if self._depth:
            self._stop = _STOP

    def stop_error(self) -> None:
        """As `stop`, and the runs return -1."""
        if self._depth:
            self._stop = _STOP_ERROR

    def wake(self) -> None:
        """Makes a waiting poll return. For signal handlers and other threads."""
        pipe = self.descriptors.wake_pipe
        if pipe is not None:
            pipe.wake()

    def run(self, flags: int = 0) -> int:
        """The bare loop (flux_reactor_run): until nothing referenced is active, or `stop`, or an exception.

        `flags`: NOWAIT (one pass without waiting), ONCE (wait for one batch of events); else OSError(EINVAL).
        Returns the count of what is still active and referenced, or -1 after `stop_error` or an exception in a
        callback; that is left in `tls.exception`. Spec 02, 4.1.
        """
        if flags & ~(NOWAIT | ONCE):
            raise local_error(errno.EINVAL)
        outer_stop, self._stop = self._stop, _GO_ON
        for event in self._attached_sources():
            # Whether a source that is dispatching has more, only the end of that dispatch will tell.
            if event.dispatching:
                self.source_ready(event)
        self._depth += 1
        had_wakeups = self._take_signal_wakeups()
        try:
            with suppress(_EndAtOnceError):
                self._loop(flags)
            with suppress(_EndAtOnceError):
                self._flush()
        except BaseException:
            # A signal handler of someone else's has raised in the middle of the loop's own work. A source that was
            # about to be dispatched may be missing from the queue: rather one dispatch too many than one lost.
            for event in self._attached_sources():
                self.source_ready(event)
            raise
        finally:
            if had_wakeups is not None:
                signal.set_wakeup_fd(had_wakeups)
            self._depth -= 1
            how = self._stop
            # A stop ends all runs under way: it is handed outwards, as is one that this run has hidden.
            self._stop = (how or outer_stop) if self._depth else _GO_ON
            if self._closing and not self._depth:
                self._release()
        return -1 if how == _STOP_ERROR else self.references

    def close(self) -> None:
        """Stops all events and releases the descriptors (those of a run under way when it ends). Idempotent."""
        descriptors = [event for entry in self.descriptors.entries.values() for event in entry.events]
        hooks = (*self._prepares, *self._checks, *self._idles)
        events: list[Event] = [*self._attached_sources(), *descriptors, *hooks, *self._signals]
        for event in (*events, *self.timers.running.values()):
            event.stop()
        self._closing = True
        if not self._depth:
            self._release()

    def _release(self) -> None:
        self._closing = False
        if self.descriptors.wake_pipe is not None:
            _own_wakeups.discard(self.descriptors.wake_pipe.write_fd)
        self.descriptors.close()

    def __del__(self) -> None:
        self.close()

    # The loop.

    def _loop(self, flags: int) -> None:
        ready = self.ready
        heap = self.timers.heap
        pending_signals = self._pending_signals
        prepares, checks, idles = self._prepares, self._checks, self._idles
        descriptors = self.descriptors
        credit = 0  # dispatches left until the kernel is to be asked again
        fired: Sequence[FdEvent]
        while True:
            if prepares:
                self._call_hooks(prepares)
                if self._stop:
                    return
            if not ready or credit <= 0 or descriptors.event_count or prepares or checks or idles:
                fired = self._poll(flags)
                credit = _DISPATCHES_PER_POLL
            else:
                fired = ()
            busy = bool(pending_signals or fired or ready or self._served)
            self._served = False
            if pending_signals:
                self._deliver_signals()
            if checks:
                self._call_hooks(checks)
            waiting = len(ready)
            while waiting and ready:  # a nested run may have emptied it
                waiting -= 1
                credit -= 1
                event = ready.popleft()
                event.ready = False
                event.dispatching = True
                more = True  # if it fails, nobody has told
                try:
                    more = event.dispatch()
                except BaseException as exc:  # noqa: BLE001  # stored, and raised by whoever runs the reactor
                    self._failed(exc)
                finally:
                    event.dispatching = False
                    if more and not event.ready:
                        event.ready = True
                        if event.active:
                            ready.append(event)
            if heap and heap[0][0] <= monotonic():
                busy |= self._fire_timers()
            if fired:
                self._report_descriptors(fired)
            if idles and not busy:
                self._call_hooks(idles)
            if self._stop or flags or self.references <= 0:
                return

    def _poll(self, flags: int) -> Sequence[FdEvent]:
        """Flushes, asks the kernel, reads what sources have; returns the descriptor events to report."""
        self._flush()
        descriptors = self.descriptors
        poller, wake_pipe = descriptors.open()
        if poller.confused:
            poller = descriptors.rebuild()
        always_ready = descriptors.open_always_ready() if descriptors.always_ready else ()
        if (
            self.ready
            or always_ready
            or self._pending_signals
            or self._idles
            or self._stop
            or flags & NOWAIT
            or self.references <= 0
        ):
            timeout = 0.0
        else:
            deadline = self.timers.next_deadline()
            if deadline is None:
                timeout = _LONGEST_WAIT
            else:
                timeout = min(max(deadline - monotonic(), 0.0), _LONGEST_WAIT)
        found = poller.poll(timeout)
        if not found and not always_ready:
            return ()
        fired: list[FdEvent] = []
        for fd, native in found:
            entry = descriptors.entries.get(fd)
            if fd == wake_pipe.fd:
                wake_pipe.drain()
            elif entry is None:
                poller.confused = True
            elif entry.reader is not None:
                self._served = True
                try:
                    entry.reader(fd, poller.translate(native))
                except BaseException as exc:  # noqa: BLE001  # as in _call
                    self._failed(exc)
            else:
                for source in entry.sources:
                    if not source.ready:
                        self._read(source)
                if entry.events:
                    self._collect(entry.events, poller.translate(native), fired)
        for fd in always_ready:
            entry = descriptors.entries.get(fd)
            if entry is not None:
                for source in entry.sources:
                    if not source.ready:
                        self._read(source)
                self._collect(entry.events, POLLIN | POLLOUT, fired)
        return fired

    def _flush(self) -> None:
        for reference in tuple(self._flushing):
            event = reference()
            if event is None:
                continue
            try:
                event.source.before_poll()  # type: ignore[attr-defined]  # it has one, or it were not here
            except BaseException as exc:  # noqa: BLE001  # as in _call
                self._failed(exc)

    def _read(self, source: SourceEvent) -> None:
        if not source.active:  # stopped by a sibling's reading
            return
        try:
            something = source.source.read_ready()
        except BaseException as exc:  # noqa: BLE001  # as in _call
            self._failed(exc)
            return
        if something:
            self.source_ready(source)

    @staticmethod
    def _collect(events: Iterable[FdEvent], revents: int, fired: list[FdEvent]) -> None:
        for event in events:
            event.pending = event.events & revents
            if event.pending:
                fired.append(event)

    def _report_descriptors(self, fired: Sequence[FdEvent]) -> None:
        for event in fired:
            revents, event.pending = event.pending, 0
            if revents:  # else stopped meanwhile, or reported by a nested run
                self._call(event.callback, event.fd, revents)

    def _fire_timers(self) -> bool:
        now = monotonic()
        newest = self.timers.last_sequence
        timer = self.timers.pop_due(now, newest)
        fired = timer is not None
        while timer is not None:
            self._call(timer.callback)
            timer = self.timers.pop_due(now, newest)
        return fired

    def _call_hooks(self, hooks: dict[Hook, None]) -> None:
        for hook in tuple(hooks):
            if hook.active and hook.callback is not None:
                self._call(hook.callback)

    def _call(self, callback: Callable[[*_Arguments], None], *arguments: *_Arguments) -> None:
        try:
            callback(*arguments)
        except BaseException as exc:  # noqa: BLE001  # stored, and raised by whoever runs the reactor
            self._failed(exc)

    def _failed(self, exc: BaseException) -> None:
        tls.exception = exc
        self.stop_error()
        if not isinstance(exc, Exception):
            raise _EndAtOnceError from None

    def _attached_sources(self) -> list[SourceEvent]:
        return [event for reference in self._sources if (event := reference()) is not None]

    # Signals.

    def watch_signal(self, event: SignalEvent) -> None:
        """A signal event starts."""
        if all(other.signum != event.signum for other in self._signals):
            subscribe(self, event.signum)
        self._signals[event] = None

    def unwatch_signal(self, event: SignalEvent) -> None:
        """A signal event stops."""
        del self._signals[event]
        if all(other.signum != event.signum for other in self._signals):
            unsubscribe(self, event.signum)
            self._pending_signals.discard(event.signum)

    def signal_arrived(self, signum: int) -> None:
        """Called by the signal handler, that is in the middle of anything."""
        self._pending_signals.add(signum)
        self.wake()

    def deliver_signal(self, signum: int) -> None:
        """Outside a run: calls the callbacks of `signum` if it is pending. Exceptions are stored as in a run."""
        with suppress(_EndAtOnceError):
            self._deliver(signum)

    def _deliver_signals(self) -> None:
        for signum in sorted(self._pending_signals):
            self._deliver(signum)

    def _deliver(self, signum: int) -> None:
        if signum in self._pending_signals:
            self._pending_signals.discard(signum)
            for event in tuple(self._signals):
                if event.signum == signum and event.active:
                    self._call(event.callback, signum)

    def _take_signal_wakeups(self) -> int | None:
        """Has the interpreter wake this loop for signals; returns what to give back, None for nothing taken.

        The kernel may give a signal to any thread; the main thread, waiting in the kernel, would not notice one
        that another thread received. A descriptor that someone else has set up (asyncio) is left to them: then
        signals still work when the main thread is the one to receive them, as is usual.
        """
        if not in_main_thread():
            return None
        _, pipe = self.descriptors.open()
        _own_wakeups.add(pipe.write_fd)
        had = signal.set_wakeup_fd(pipe.write_fd, warn_on_full_buffer=False)
        if had != -1 and had not in _own_wakeups:
            signal.set_wakeup_fd(had)
            return None
        return had
