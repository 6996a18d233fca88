"""The reactor of a handle that asyncio serves: its timers and watchers of descriptors and signals are asyncio's.

It is a `Reactor` that makes other events than its base does. It cannot be run: asyncio is the loop. What has no
counterpart there (prepare, check and idle watchers) is refused when it is made.

asyncio has one callback for each direction of a descriptor. Two watchers of one descriptor would displace each
other, so the second is refused; and a descriptor that asyncio itself uses (a transport's) is refused by asyncio.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import NoReturn

from flux.reactor import (
    POLLIN,
    POLLOUT,
    CheckEvent,
    Event,
    FdEvent,
    IdleEvent,
    PrepareEvent,
    Reactor,
    SignalEvent,
    Timer,
)


class AsyncioReactor(Reactor):
    """See the module."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.loop = loop
        self.in_use: set[tuple[int, int]] = set()  # (descriptor, direction)

    def timer(self, after: float, repeat: float, callback: Callable[[], None]) -> Timer:
        return _Timer(self, after, repeat, callback)

    def fd(self, fd: int, events: int, callback: Callable[[int, int], None]) -> FdEvent:
        return _Fd(self, fd, events, callback)

    def signal(self, signum: int, callback: Callable[[int], None]) -> SignalEvent:
        return _Signal(self, signum, callback)

    def prepare(self, callback: Callable[[], None]) -> PrepareEvent:
        self._refuse("prepare")

    def check(self, callback: Callable[[], None]) -> CheckEvent:
        self._refuse("check")

    def idle(self, callback: Callable[[], None] | None) -> IdleEvent:
        self._refuse("idle")

    def _refuse(self, kind: str) -> NoReturn:
        raise OSError(errno.ENOTSUP, f"under asyncio there are no {kind} watchers: use a task")

    def run(self, flags: int = 0) -> int:
        """Always raises RuntimeError."""
        raise RuntimeError("asyncio serves this Flux handle: await its futures instead of running its reactor")

    def close(self) -> None:
        """Stops nothing: each event ends with its watcher."""


def _loop_of(event: Event) -> asyncio.AbstractEventLoop:
    reactor = event.reactor
    assert isinstance(reactor, AsyncioReactor)
    return reactor.loop


class _Timer(Timer):
    """A timer that asyncio fires; a repeating one keeps to its grid, and skips what it has missed."""

    __slots__ = ("_deadline", "_scheduled")

    def _begin(self) -> None:
        loop = _loop_of(self)
        self._deadline = loop.time() + self.after
        self._scheduled = loop.call_at(self._deadline, self._fire)

    def _end(self) -> None:
        self._scheduled.cancel()

    def _fire(self) -> None:
        if self.repeat > 0:
            loop = _loop_of(self)
            self._deadline = max(self._deadline + self.repeat, loop.time())
            self._scheduled = loop.call_at(self._deadline, self._fire)
        else:
            self.stop()
        self.callback()


class _Fd(FdEvent):
    """A watched descriptor."""

    __slots__ = ("_watched",)

    def _begin(self) -> None:
        self._watched = 0
        try:
            self._watch(self.events)
        except BaseException:
            self._watch(0)
            raise

    def _end(self) -> None:
        self._watch(0)

    def set_events(self, events: int) -> None:
        self.events = events & (POLLIN | POLLOUT)
        if self.active:
            self._watch(self.events)

    def _watch(self, wanted: int) -> None:
        loop, fd = _loop_of(self), self.fd
        in_use = self.reactor.in_use  # type: ignore[attr-defined]  # an AsyncioReactor: see `_loop_of`
        if loop.is_closed():
            return
        ways = ((POLLIN, loop.add_reader, loop.remove_reader), (POLLOUT, loop.add_writer, loop.remove_writer))
        for bit, add, remove in ways:
            if wanted & ~self._watched & bit:
                if (fd, bit) in in_use:
                    raise OSError(errno.EEXIST, f"under asyncio a descriptor has one watcher, and {fd} has one")
                add(fd, self._ready, bit)
                in_use.add((fd, bit))
                self._watched |= bit
            elif self._watched & ~wanted & bit:
                remove(fd)
                in_use.discard((fd, bit))
                self._watched &= ~bit

    def _ready(self, bit: int) -> None:
        self.callback(self.fd, bit)


class _Signal(SignalEvent):
    """A watched signal: asyncio has one handler for each, the last one set."""

    __slots__ = ()

    def _begin(self) -> None:
        try:
            _loop_of(self).add_signal_handler(self.signum, self.callback, self.signum)
        except (ValueError, RuntimeError) as exc:
            raise OSError(errno.EINVAL, str(exc)) from exc

    def _end(self) -> None:
        loop = _loop_of(self)
        if not loop.is_closed():
            loop.remove_signal_handler(self.signum)
