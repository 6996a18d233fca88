"""Who watches which descriptor, and what becomes of those that are closed or cannot be polled.

Rules:
- A descriptor has one entry here however many events watch it; the kernel is asked for the union.
- An interest of nothing is not given to the kernel at all (epoll would report hangups for ever).
- What cannot be polled (regular files) is ready in every pass, for as long as it is open and the same file.
- A descriptor that its owner closes while it is watched is silent from then on. It is no error to stop it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from flux.reactor.events import Event, SourceEvent
from flux.reactor.poller import POLLIN, POLLOUT, Poller, WakePipe, new_poller

if TYPE_CHECKING:
    from flux.reactor.loop import Reactor


class FdEvent(Event):
    """Calls `callback(fd, revents)` while `fd` is ready for any of `events` (spec 02, 5.2)."""

    __slots__ = ("callback", "events", "fd", "pending")

    def __init__(self, reactor: Reactor, fd: int, events: int, callback: Callable[[int, int], None]) -> None:
        super().__init__(reactor)
        self.fd = fd
        self.events = events & (POLLIN | POLLOUT)
        self.callback = callback
        self.pending = 0
        """What this pass has found and not yet reported; stopping forgets it."""

    def set_events(self, events: int) -> None:
        """Changes what is watched for (POLLIN, POLLOUT, or 0 for nothing), active or not."""
        events &= POLLIN | POLLOUT
        if events != self.events:
            self.events = events
            self.pending &= events
            if self.active:
                self.reactor.descriptors.update(self.fd)

    def _begin(self) -> None:
        # EBADF comes from here: an interest of nothing never gets to the kernel, and a poller that is made
        # only now may itself be given the number of a descriptor that is closed.
        os.fstat(self.fd)
        self.reactor.descriptors.add_event(self.fd, self)

    def _end(self) -> None:
        self.pending = 0
        self.reactor.descriptors.remove_event(self.fd, self)


class ReaderEvent(FdEvent):
    """An `FdEvent` that is reported from within the poll (see `Reactor.reader`)."""

    __slots__ = ()


class Entry:
    """One descriptor and its watchers. The tuples are replaced, never changed: the loop may be walking them."""

    __slots__ = ("events", "interest", "reader", "sources")

    def __init__(self) -> None:
        self.sources: tuple[SourceEvent, ...] = ()
        self.events: tuple[FdEvent, ...] = ()
        self.reader: Callable[[int, int], None] | None = None


class Descriptors:
    """The table of watched descriptors of one reactor, with its poller and the pipe that wakes the poller.

    Those two are made at first need, but before anything is watched: they must not be given the number of a
    descriptor that is watched though closed.
    """

    def __init__(self, poller_factory: Callable[[], Poller] = new_poller) -> None:
        self.entries: dict[int, Entry] = {}
        self.always_ready: dict[int, tuple[int, int]] = {}
        """The unpollable descriptors, with device and inode of what they were when the watch began."""
        self.event_count = 0
        """Active `FdEvent`s: while there are any, the loop polls in every pass."""
        self.wake_pipe: WakePipe | None = None
        self._new_poller = poller_factory
        self._poller: Poller | None = None

    def open(self) -> tuple[Poller, WakePipe]:
        """The poller, and the pipe that interrupts it."""
        if self._poller is None:
            self._poller = self._new_poller()
            if self.wake_pipe is None:
                self.wake_pipe = WakePipe()
            self._poller.watch(self.wake_pipe.fd, POLLIN)
        assert self.wake_pipe is not None
        return self._poller, self.wake_pipe

    def add_source(self, fd: int, source: SourceEvent) -> None:
        entry = self.entries.setdefault(fd, Entry())
        if entry.reader is not None:
            raise OSError(errno.EEXIST, f"descriptor {fd} has a reader, which shares it with nobody")
        before = entry.sources
        entry.sources = (*before, source)
        try:
            self.update(fd)
        except OSError:
            entry.sources = before
            self._drop_unused(fd, entry)
            raise

    def remove_source(self, fd: int, source: SourceEvent) -> None:
        entry = self.entries[fd]
        entry.sources = tuple(other for other in entry.sources if other is not source)
        self._shrink(fd, entry)

    def add_event(self, fd: int, event: FdEvent) -> None:
        entry = self.entries.setdefault(fd, Entry())
        if entry.reader is not None or (isinstance(event, ReaderEvent) and (entry.events or entry.sources)):
            raise OSError(errno.EEXIST, f"descriptor {fd} has a reader, which shares it with nobody")
        before = entry.events
        entry.events = (*before, event)
        entry.reader = event.callback if isinstance(event, ReaderEvent) else None
        try:
            self.update(fd)
        except OSError:
            entry.events = before
            entry.reader = None
            self._drop_unused(fd, entry)
            raise
        self.event_count += 1

    def remove_event(self, fd: int, event: FdEvent) -> None:
        entry = self.entries[fd]
        entry.events = tuple(other for other in entry.events if other is not event)
        entry.reader = None
        self.event_count -= 1
        self._shrink(fd, entry)

    def update(self, fd: int) -> None:
        """Tells the kernel the union of the interests in `fd`. Raises OSError(EBADF) if it is not open.

        The kernel is told even if the union is what it was: the number may be another file than before.
        """
        entry = self.entries[fd]
        interest = POLLIN if entry.sources else 0
        for event in entry.events:
            interest |= event.events
        self.always_ready.pop(fd, None)
        poller, _ = self.open()
        if not interest:
            poller.forget(fd)
        elif not poller.watch(fd, interest):
            status = os.fstat(fd)
            self.always_ready[fd] = status.st_dev, status.st_ino

    def _shrink(self, fd: int, entry: Entry) -> None:
        if not self._drop_unused(fd, entry):
            with suppress(OSError):  # closed while watched: nothing left to tell the kernel
                self.update(fd)

    def _drop_unused(self, fd: int, entry: Entry) -> bool:
        if entry.sources or entry.events:
            return False
        del self.entries[fd]
        self.always_ready.pop(fd, None)
        if self._poller is not None:
            self._poller.forget(fd)
        return True

    def open_always_ready(self) -> list[int]:
        """The unpollable descriptors, without those that have been closed."""
        for fd, identity in tuple(self.always_ready.items()):
            try:
                status = os.fstat(fd)
            except OSError:
                del self.always_ready[fd]
                continue
            if (status.st_dev, status.st_ino) != identity:
                del self.always_ready[fd]
        return list(self.always_ready)

    def rebuild(self) -> Poller:
        """Starts over with a new poller, in place of one that is confused."""
        if self._poller is not None:
            self._poller.close()
            self._poller = None
        poller, _ = self.open()
        for fd, entry in tuple(self.entries.items()):
            self._shrink(fd, entry)
        return poller

    def close(self) -> None:
        """Releases the poller and the pipe. The entries' events have been stopped before."""
        if self._poller is not None:
            self._poller.close()
            self._poller = None
        if self.wake_pipe is not None:
            pipe, self.wake_pipe = self.wake_pipe, None
            pipe.close()
