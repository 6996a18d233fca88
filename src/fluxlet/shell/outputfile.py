"""OutputFile: a file that output of a job goes to, whoever reads it, and however slowly (spec 07, 5.6).

Rules:
- A regular file is written to at once. What has a reader at its other end (a FIFO, a terminal) is written to as far as
  it takes something; the rest waits here. Nobody but the job waits for it: other jobs have the same process.
- Who writes looks at `full`, and comes back when `drained` is called: nothing is dropped, unless the job is killed.
- Order is kept.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable

from flux.constants import FLUX_POLLOUT
from flux.reactor import FdEvent, Reactor

#: What may wait here before whoever writes is to pause, in bytes.
HIGH = 64 << 10
#: Writes to one file before somebody else gets his turn.
_WRITES = 16


class OutputFile:
    """An open file. Raises OSError if it cannot be opened: ENXIO for a FIFO that nobody reads.

    Args:
        path: its name.
        append: what is in it stays.
        drained: called when all that waited is written.
        failed: called with the error, if what waited cannot be written.
    """

    __slots__ = ("_drained", "_event", "_failed", "_queue", "_reactor", "abandoned", "fd", "regular", "size")

    def __init__(
        self,
        reactor: Reactor,
        path: str,
        append: bool,
        drained: Callable[[], None],
        failed: Callable[[OSError], None],
    ) -> None:
        # The terminal of somebody's is not to become that of this process.
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        self.fd = os.open(path, flags | (os.O_APPEND if append else os.O_TRUNC), 0o666)
        self.regular = stat.S_ISREG(os.fstat(self.fd).st_mode)
        self.size = 0
        """What waits, in bytes."""
        self.abandoned = False
        self._reactor = reactor
        self._drained = drained
        self._failed = failed
        self._queue: deque[memoryview] = deque()
        self._event: FdEvent | None = None

    @property
    def full(self) -> bool:
        """True if whoever writes is to pause."""
        return self.size >= HIGH

    def write(self, data: bytes) -> None:
        """Writes `data`, or has it wait. Raises OSError."""
        if self.abandoned:
            return
        rest = memoryview(data)
        if not self._queue:
            rest = self._put(rest)
        if rest:
            self._queue.append(rest)
            self.size += len(rest)
            if self._event is None:
                self._event = self._reactor.fd(self.fd, FLUX_POLLOUT, lambda fd, revents: self._writable())
            self._event.start()

    def _put(self, rest: memoryview) -> memoryview:
        """Writes what it takes; returns what it does not."""
        while rest:
            try:
                rest = rest[os.write(self.fd, rest) :]
            except BlockingIOError:
                break
        return rest

    def _writable(self) -> None:
        try:
            for _ in range(_WRITES):
                before = self._queue[0]
                rest = self._put(before)
                self.size -= len(before) - len(rest)
                if rest:
                    self._queue[0] = rest
                    break
                self._queue.popleft()
                if not self._queue:
                    break
        except OSError as exc:
            self.abandon()
            self._failed(exc)
            return
        if not self._queue:
            self._stop()
            self._drained()

    def abandon(self) -> None:
        """What waits is not written any more, and nothing else is."""
        self.abandoned = True
        self._queue.clear()
        self.size = 0
        self._stop()

    def _stop(self) -> None:
        if self._event is not None:
            self._event.stop()

    def close(self) -> None:
        """Lets go of it."""
        self._stop()
        os.close(self.fd)
