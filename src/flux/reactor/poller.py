"""Asking the kernel which descriptors are ready, and interrupting the question.

Rules:
- Interests are in Flux's bits (`POLLIN`, `POLLOUT`); what `poll` returns is the platform's, because the loop
  needs only "something" for message sources. `translate` gives Flux's bits where they matter.
- A hangup or an error makes a descriptor both readable and writable: the next read or write tells the story.

Facts about epoll that shape this file:
- It refuses regular files and directories (EPERM). They are always ready, as for poll(2).
- Closing the last descriptor of an open file removes it silently; the number may then come back as another
  file. So what we believe to be registered may not be (ENOENT), and the other way round (EEXIST).
- If a duplicate of the closed descriptor lives on (in a child, say), events keep coming under a number that
  can no longer be unregistered, and may be another file by now. The only cure is a new epoll: whenever the
  kernel's idea is found to differ from ours the poller is `confused`, and `Descriptors.rebuild` replaces it.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from typing import Protocol

POLLIN = 1
POLLOUT = 2
POLLERR = 4
"""FLUX_POLLIN, FLUX_POLLOUT, FLUX_POLLERR of `flux.constants`."""

_MAX_EVENTS = 256


class Poller(Protocol):
    """What the loop needs of the kernel."""

    confused: bool
    """What the kernel watches may not be what we asked for: to be replaced before the next `poll`."""

    def watch(self, fd: int, interest: int) -> bool:
        """Makes `interest` (not 0) the interest in `fd`, known or not.

        False: this descriptor cannot be polled, take it as always ready. Raises OSError(EBADF) for one that is
        not open.
        """
        ...

    def forget(self, fd: int) -> None:
        """Ends the interest in `fd`; one that is not known (any more) is fine."""
        ...

    def poll(self, timeout: float) -> Sequence[tuple[int, int]]:
        """Waits up to `timeout` seconds (negative: for ever); gives (fd, native events) of the ready ones."""
        ...

    def translate(self, native: int) -> int:
        """Native events as `POLLIN` and `POLLOUT` bits."""
        ...

    def close(self) -> None: ...


class SelectorPoller:
    """The poller for platforms without epoll: the best that `selectors` has."""

    def __init__(self) -> None:
        import selectors  # where there is epoll, this is not needed

        self.confused = False
        self._read, self._write = selectors.EVENT_READ, selectors.EVENT_WRITE
        self._selector = selectors.DefaultSelector()

    def watch(self, fd: int, interest: int) -> bool:
        os.fstat(fd)  # some selectors take a closed descriptor without complaint: EBADF comes from here
        self.forget(fd)
        native = (self._read if interest & POLLIN else 0) | (self._write if interest & POLLOUT else 0)
        try:
            self._selector.register(fd, native)
        except PermissionError:
            return False
        return True

    def forget(self, fd: int) -> None:
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def poll(self, timeout: float) -> Sequence[tuple[int, int]]:
        ready = self._selector.select(None if timeout < 0 else timeout)
        return [(key.fd, native) for key, native in ready]

    def translate(self, native: int) -> int:
        return (POLLIN if native & self._read else 0) | (POLLOUT if native & self._write else 0)

    def close(self) -> None:
        self._selector.close()


if hasattr(select, "epoll"):

    class EpollPoller:
        """Linux: epoll, level-triggered."""

        def __init__(self) -> None:
            self.confused = False
            self._epoll = select.epoll()
            self._known: set[int] = set()

        def watch(self, fd: int, interest: int) -> bool:
            native = (select.EPOLLIN if interest & POLLIN else 0) | (select.EPOLLOUT if interest & POLLOUT else 0)
            try:
                self._register(fd, native)
            except PermissionError:
                self._known.discard(fd)
                return False
            self._known.add(fd)
            return True

        def _register(self, fd: int, native: int) -> None:
            if fd in self._known:
                try:
                    self._epoll.modify(fd, native)
                except FileNotFoundError:  # closed behind our back, and the number is another file now
                    self.confused = True
                    self._epoll.register(fd, native)
            else:
                try:
                    self._epoll.register(fd, native)
                except FileExistsError:  # forgotten while closed, and the same file came back to the number
                    self._epoll.modify(fd, native)

        def forget(self, fd: int) -> None:
            if fd in self._known:
                self._known.discard(fd)
                try:
                    self._epoll.unregister(fd)
                except OSError:  # closed already: the kernel has forgotten it too, unless there is a duplicate
                    self.confused = True

        def poll(self, timeout: float) -> Sequence[tuple[int, int]]:
            return self._epoll.poll(timeout, _MAX_EVENTS)

        def translate(self, native: int) -> int:
            return (POLLIN if native & ~select.EPOLLOUT else 0) | (POLLOUT if native & ~select.EPOLLIN else 0)

        def close(self) -> None:
            self._epoll.close()


def new_poller() -> Poller:
    """The best poller of this platform."""
    if hasattr(select, "epoll"):
        return EpollPoller()
    return SelectorPoller()


class WakePipe:
    """A pipe that makes a waiting `poll` return: for signal handlers, and for other threads.

    A pipe rather than an eventfd, because `signal.set_wakeup_fd` writes single bytes to it.
    """

    def __init__(self) -> None:
        self.fd, self.write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self.write_fd, False)

    def wake(self) -> None:
        try:
            os.write(self.write_fd, b"\0")
        except BlockingIOError:  # full: then the reader is awake already
            return

    def drain(self) -> None:
        try:
            os.read(self.fd, 4096)
        except BlockingIOError:  # a nested run has drained it
            return

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.write_fd)
