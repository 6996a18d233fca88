"""Starting a task: posix_spawn, with what that cannot set borrowed by this process meanwhile (spec 07, 5.4).

The kernel makes the child without copying this process (vfork), and it is running its program when the call returns.
What a child inherits and posix_spawn has no argument for, this process takes on for that moment: the working directory,
soft limits, the processors it may use. It has one thread, so nobody sees it.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

#: What Python or the shell ignores or handles: programs start with the defaults.
DEFAULT_SIGNALS = [
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGXCPU,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTERM,
    signal.SIGCHLD,
    signal.SIGUSR1,
    signal.SIGUSR2,
]

#: Where a program is started whose working directory is not there.
FALLBACK = "/tmp"


class Spawner:
    """Starts programs, and knows what this process is like when it does not."""

    def __init__(self) -> None:
        self.processors = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()
        self._cwd: str | None = None

    def enter(self, cwd: str) -> OSError | None:
        """Makes `cwd` the working directory; where that fails, FALLBACK, and the error is returned.

        It is entered anew each time: what has that name may be another directory by now.
        """
        try:
            os.chdir(cwd)
        except OSError as exc:
            os.chdir(FALLBACK)
            return exc
        except ValueError as exc:  # it has a NUL in it
            os.chdir(FALLBACK)
            return OSError(errno.EINVAL, str(exc))
        return None

    def start(
        self,
        path: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        file_actions: Sequence[tuple[Any, ...]],
        processors: frozenset[int] | None,
        session: bool = True,
    ) -> int:
        """Starts a program in the present working directory; returns its pid. Raises OSError as execvp would.

        Args:
            path: of the program.
            argv: its words.
            file_actions: as of os.posix_spawn.
            processors: those it may use; None: all that this process may.
            session: it gets a session and a process group of its own.
        """
        bind = processors is not None and processors != self.processors
        if bind:
            os.sched_setaffinity(0, processors or ())
        try:
            return self._spawn(path, argv, env, file_actions, session)
        except OSError as exc:
            if exc.errno != errno.ENOEXEC:
                raise
            # No program, and no #! line: a script, as execvp(3) has it.
            return self._spawn("/bin/sh", ["/bin/sh", path, *argv[1:]], env, file_actions, session)
        finally:
            if bind:
                os.sched_setaffinity(0, self.processors)

    @staticmethod
    def _spawn(
        path: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        file_actions: Sequence[tuple[Any, ...]],
        session: bool,
    ) -> int:
        return os.posix_spawn(
            path,
            argv,  # type: ignore[arg-type]  # any sequence does
            env,
            file_actions=file_actions,
            setsid=session,
            setsigmask=(),
            setsigdef=DEFAULT_SIGNALS,
        )


def kill_group(pid: int, signum: int) -> bool:
    """Signals the process group of a task; False if nobody is in it."""
    try:
        os.killpg(pid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True
