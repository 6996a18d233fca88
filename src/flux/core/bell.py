"""The descriptor that a handle gives to foreign event loops (flux_pollfd; spec 01, 6.4).

It is readable while there is something to receive, in the socket or in this process, or while a sender that was
refused (EAGAIN) may try again. It is level-triggered: loops that are written for the reference's edge-triggered
one work with it, and so do simple ones that receive until nothing is left and never ask `pollevents`.
"""

from __future__ import annotations

import os
import select


class Bell:
    """An epoll descriptor over the connection's socket, and an eventfd for what is not in the socket.

    Args:
        fd: the socket, -1 for none.
    """

    def __init__(self, fd: int) -> None:
        self._epoll = select.epoll()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._event, select.EPOLLIN)
        self._rung = False
        self._output = False
        self._fd = -1
        self.set_socket(fd)

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._epoll.fileno()

    def set_socket(self, fd: int) -> None:
        """Polls another socket from now on: the one before has been closed, and the kernel has forgotten it."""
        self._fd = fd
        self._output = False
        if fd >= 0:
            self._epoll.register(fd, select.EPOLLIN)

    def ring(self, buffered: bool) -> None:
        """Tells whether messages are at hand that no socket will announce."""
        if buffered != self._rung:
            self._rung = buffered
            if buffered:
                os.eventfd_write(self._event, 1)
            else:
                os.eventfd_read(self._event)

    def want_output(self, wanted: bool) -> None:
        """Whether to become readable when the socket can be written to."""
        if wanted != self._output and self._fd >= 0:
            self._output = wanted
            self._epoll.modify(self._fd, select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def close(self) -> None:
        """Releases the descriptors."""
        self._epoll.close()
        os.close(self._event)
