"""Feeder: stdin of a job's tasks from a FIFO (spec 07, 5.10).

Opening a FIFO waits for somebody to write to it, and this process must not. So tasks do not open it as they do a file:
it is read here when there is something in it, and each of them gets all of it through its own pipe. Tasks that read
slowly keep the writer waiting.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from flux.constants import FLUX_POLLIN
from flux.reactor import FdEvent

if TYPE_CHECKING:
    from fluxlet.shell.job import Job

_READ_SIZE = 65536


class Feeder:
    """Reads a FIFO for the tasks of a job on this rank.

    Args:
        fd: of the FIFO, open for reading without blocking; this object's to close.
    """

    def __init__(self, job: Job, fd: int) -> None:
        self._job = job
        self._fd = fd
        self._event: FdEvent | None = None

    def start(self) -> None:
        """All tasks are there."""
        for task in self._job.tasks:
            if task.stdin is not None:
                task.stdin.drained = self._drained
        self._event = self._job.server.reactor.fd(self._fd, FLUX_POLLIN, lambda fd, revents: self._readable())
        self._event.start()

    @property
    def _waiting(self) -> bool:
        return any(task.stdin is not None and task.stdin.size for task in self._job.tasks)

    def _readable(self) -> None:
        try:
            data = os.read(self._fd, _READ_SIZE)
        except BlockingIOError:
            return
        self._job.feed(None, data, not data)
        if not data:
            self.close()
        elif self._waiting and self._event is not None:
            self._event.stop()

    def _drained(self) -> None:
        if self._event is not None and not self._waiting:
            self._event.start()

    def close(self) -> None:
        """Lets go of the FIFO."""
        if self._event is not None:
            self._event.stop()
            self._event = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
