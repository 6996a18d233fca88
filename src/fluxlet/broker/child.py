"""A process that the broker has started for itself: a module that is one. Those of others: `fluxlet.modules.rexec`."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from flux.reactor import Reactor
from fluxlet.broker.process_end import ProcessEnd
from fluxlet.broker.program import DEFAULT_SIGNALS

if TYPE_CHECKING:
    from fluxlet.broker.guardian import Guardian


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

        def start() -> int:
            return os.posix_spawn(
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

        self._start(reactor, guardian, environ, start, ended)

    @classmethod
    def forked(
        cls,
        reactor: Reactor,
        guardian: Guardian | None,
        main: Callable[[], int],
        environ: Mapping[str, str],
        ended: Callable[[int], None],
    ) -> Child:
        """One that is a copy of the broker and runs `main` (`fluxlet.broker.forked`). Raises OSError as above."""
        from fluxlet.broker.forked import fork

        child = cls.__new__(cls)
        child._start(reactor, guardian, environ, lambda: fork(main, environ), ended)
        return child

    def _start(
        self,
        reactor: Reactor,
        guardian: Guardian | None,
        environ: Mapping[str, str],
        start: Callable[[], int],
        ended: Callable[[int], None],
    ) -> None:
        if guardian is not None:
            guardian.add_starting(environ["FLUX_URI"])
        try:
            pid = start()
            if guardian is not None:
                guardian.add_process(pid)
        finally:
            if guardian is not None:
                guardian.remove_starting()
        self._end = ProcessEnd(reactor, guardian, pid, lambda status: ended(os.waitstatus_to_exitcode(status)))

    @property
    def pid(self) -> int:
        """The process; 0 once it has ended."""
        return self._end.pid

    def look(self) -> bool:
        """True if the process has ended; it is then done with."""
        return self._end.look()

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
