"""What all events of a reactor have in common, the loop hooks, and message sources.

Rules:
- An event is made stopped. `start`, `stop`, `ref`, `unref` are idempotent and allowed in any callback.
- An active and referenced event keeps the loop running and counts `weight` in the result of `Reactor.run`.
- A reactor holds its events only while they are active; sources it holds weakly otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from flux.reactor.loop import Reactor


class Event:
    """Base of all events: active or not, referenced or not (spec 02, 5.1)."""

    __slots__ = ("__weakref__", "active", "reactor", "referenced")

    weight = 1
    """What an event of this kind adds to the count of what keeps the loop running (spec 02, 4.1)."""

    def __init__(self, reactor: Reactor) -> None:
        self.reactor = reactor
        self.active = False
        self.referenced = True

    def start(self) -> None:
        """Makes the event active. Raises OSError, and stays stopped, if the system refuses."""
        if not self.active:
            self._begin()
            self.active = True
            if self.referenced:
                self.reactor.references += self.weight

    def stop(self) -> None:
        """Makes the event inactive: its callback is not called any more, not even in this pass."""
        if self.active:
            self.active = False
            if self.referenced:
                self.reactor.references -= self.weight
            self._end()

    def ref(self) -> None:
        """Undoes `unref`."""
        if not self.referenced:
            self.referenced = True
            if self.active:
                self.reactor.references += self.weight

    def unref(self) -> None:
        """Lets the loop end although this event is active."""
        if self.referenced:
            self.referenced = False
            if self.active:
                self.reactor.references -= self.weight

    def _begin(self) -> None:
        raise NotImplementedError

    def _end(self) -> None:
        raise NotImplementedError


class Hook(Event):
    """A callback that every pass of the loop makes at a certain point."""

    __slots__ = ("_siblings", "callback")

    def __init__(self, reactor: Reactor, siblings: dict[Hook, None], callback: Callable[[], None] | None) -> None:
        super().__init__(reactor)
        self._siblings = siblings
        self.callback = callback

    def _begin(self) -> None:
        self._siblings[self] = None

    def _end(self) -> None:
        del self._siblings[self]


class PrepareEvent(Hook):
    """Called before the loop polls."""

    __slots__ = ()


class CheckEvent(Hook):
    """Called after the loop has polled."""

    __slots__ = ()


class IdleEvent(Hook):
    """Keeps the loop from waiting; called in passes in which nothing else happened. The callback may be None."""

    __slots__ = ()


class Source(Protocol):
    """Something that messages come from: a handle, in practice."""

    def fileno(self) -> int:
        """The descriptor to poll for input, or -1 (nothing to poll: the source calls `source_ready`)."""
        ...

    def read_ready(self) -> bool:
        """The descriptor is readable: take what is there, without blocking. True: there is now something to dispatch.

        Not called while the source already has something to dispatch: input waits in the kernel then, which is
        what slows a sender down that is faster than we are.
        """
        ...

    def dispatch(self) -> bool:
        """Handle one message or one ready continuation. True: more is waiting.

        May be called with nothing waiting (a nested run cannot know), and must bear it.
        """
        ...

    # A source may also have a method `before_poll(self) -> None`: the loop is about to poll, or to end, and output
    # that was batched goes out. It is called whether or not the event is active.


class SourceEvent(Event):
    """A message source on a reactor: reads while active, dispatches one message per pass."""

    __slots__ = ("dispatch", "dispatching", "fd", "ready", "source")

    weight = 2

    def __init__(self, reactor: Reactor, source: Source) -> None:
        super().__init__(reactor)
        self.source = source
        self.dispatch = source.dispatch  # bound once: this is the loop's hottest call
        self.fd = -1
        self.ready = False
        """The source has said that it has something to dispatch (remembered while stopped)."""
        self.dispatching = False

    def _begin(self) -> None:
        fd = self.source.fileno()
        if fd >= 0:
            self.reactor.descriptors.add_source(fd, self)
        self.fd = fd
        if self.ready:
            self.reactor.ready.append(self)

    def _end(self) -> None:
        if self.fd >= 0:
            self.reactor.descriptors.remove_source(self.fd, self)
        if self.ready:
            self.reactor.ready.remove(self)


Hook = Hook
