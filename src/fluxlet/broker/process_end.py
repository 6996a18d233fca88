"""The moment when a process that we have started ends.

Rules:
- The guardian forgets the process before it is waited for: after that its number may be another process.
- Where the system has descriptors for processes (Linux), the loop watches one; elsewhere it looks now and then.
  Not SIGCHLD: a broker may run in a thread that gets no signals.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from flux.constants import FLUX_POLLIN
from flux.reactor import Event, Reactor

if TYPE_CHECKING:
    from fluxlet.broker.guardian import Guardian

#: Seconds between looks where there is nothing to watch.
_INTERVAL = 0.1


class ProcessEnd:
    """Waits for the end of a child process.

    Args:
        reactor: the loop.
        guardian: that knows of the process; None: nobody does.
        pid: the process.
        ended: called once, with its status as of wait(2).
    """

    def __init__(self, reactor: Reactor, guardian: Guardian | None, pid: int, ended: Callable[[int], None]) -> None:
        self.pid = pid
        self._guardian = guardian
        self._ended = ended
        self._pidfd = -1
        self._watch: Event
        if hasattr(os, "pidfd_open"):
            self._pidfd = os.pidfd_open(pid)
            self._watch = reactor.fd(self._pidfd, FLUX_POLLIN, lambda fd, revents: self._on_event())
        else:
            self._watch = reactor.timer(_INTERVAL, _INTERVAL, self._on_event)
        self._watch.start()

    def fileno(self) -> int:
        """A descriptor that can be read when the process has ended; -1 where there are none."""
        return self._pidfd

    def _on_event(self) -> None:
        self.look()

    def look(self) -> bool:
        """True if the process has ended; it is then done with."""
        if not self.pid:
            return True
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return False
        if self._guardian is not None:
            self._guardian.remove_process(self.pid)
        status = os.waitpid(self.pid, 0)[1]
        self.pid = 0
        self._watch.stop()
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._ended(status)
        return True
