"""A process that the broker has started, and the moment of its end.

Rules:
- The guardian knows of the process before its end and forgets it before it is waited for.
- Where the system has descriptors for processes (Linux), the loop watches one; elsewhere it looks now and then.
  Not SIGCHLD: a broker may run in a thread that gets no signals.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from flux.constants import FLUX_POLLIN
from flux.reactor import Event, Reactor
from fluxlet.broker.program import DEFAULT_SIGNALS

if TYPE_CHECKING:
    from fluxlet.broker.guardian import Guardian

#: Seconds between looks where there is nothing to watch.
_INTERVAL = 0.1


class Child:
    """A running process, in a process group of its own, with nothing on stdin.

    Args:
        reactor: the broker's loop.
        guardian: told of the process; None: nobody is.
        path: of the program.
        argv: its words.
        environ: its environment; with the FLUX_URI of the instance.
        inherit: (descriptor, its number in the child) of what it gets besides stdout and stderr.
        ended: called with what os.waitstatus_to_exitcode says, once.

    Raises OSError if it cannot be started.
    """

    def __init__(
        self,
        reactor: Reactor,
        guardian: Guardian | None,
        path: str,
        argv: Sequence[str],
        environ: Mapping[str, str],
        inherit: tuple[int, int],
        ended: Callable[[int], None],
    ) -> None:
        self._guardian = guardian
        self._ended = ended
        self._pidfd = -1
        if guardian is not None:
            guardian.add_starting(environ["FLUX_URI"])
        try:
            self.pid = os.posix_spawn(
                path,
                list(argv),
                environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, *inherit),
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                ],
                setpgroup=0,
                setsigmask=[],
                setsigdef=DEFAULT_SIGNALS,
            )
            if guardian is not None:
                guardian.add_process(self.pid)
        finally:
            if guardian is not None:
                guardian.remove_starting()
        self._watch: Event
        if hasattr(os, "pidfd_open"):
            self._pidfd = os.pidfd_open(self.pid)
            self._watch = reactor.fd(self._pidfd, FLUX_POLLIN, lambda fd, revents: self._on_event())
        else:
            self._watch = reactor.timer(_INTERVAL, _INTERVAL, self._on_event)
        self._watch.start()

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
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        self.pid = 0
        self._watch.stop()
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._ended(code)
        return True

    def kill(self) -> None:
        """Ends the process, and its group, at once."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            with suppress(ProcessLookupError, PermissionError):  # it has left its group, or nobody else is in it
                os.killpg(self.pid, signal.SIGKILL)

    def finish(self, patience: float) -> None:
        """Waits for the end of the process, at most `patience` seconds, and then ends it. For the end of the loop."""
        deadline = time.monotonic() + patience
        while not self.look():
            if time.monotonic() > deadline:
                self.kill()
            time.sleep(0.005)
