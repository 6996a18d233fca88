"""The keeper: the parent of the shell process, which ends all that is left of it (Linux).

A shell that is killed leaves its tasks behind, and what a task has started may leave its parents. The kernel gives such
orphans to the nearest ancestor that asks for them: the shell, while it is there, and then the keeper. The keeper does
nothing but wait. When the shell ends, it kills whatever has been left to it, until nothing is.

Elsewhere there is no such thing: the shell is the only process, and ends the process groups of its tasks.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_IGNORED = (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2)


def _prctl(option: int, value: int) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def split() -> None:
    """Makes this process the keeper of a child, in which alone this returns."""
    if not sys.platform.startswith("linux"):
        adopt_orphans()
        return
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    parent = os.getpid()
    pid = os.fork()
    if pid:
        os._exit(_keep(pid))
    os.setsid()
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)  # it was killed before we asked to be told
    adopt_orphans()


def adopt_orphans() -> None:
    """Orphans among our descendants become our children."""
    if sys.platform.startswith("linux"):
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def children() -> list[int] | None:
    """The children of this process; None where the system does not tell."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(pid) for pid in file.read().split()]
    except OSError:
        return None


def _keep(shell: int) -> int:
    """The keeper's life. Returns its exit code: the shell's."""
    for signum in _IGNORED:
        signal.signal(signum, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: os.kill(shell, signum))
    _let_go()
    code = 0
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == shell:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            code = os.waitstatus_to_exitcode(status)
            break
    while True:
        left = children()
        for pid in left or ():
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0 if left else os.WNOHANG)
        except ChildProcessError:
            return code if code >= 0 else 128 - code


def _let_go() -> None:
    """Holds on to nothing that others may wait for the end of."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.closerange(3, 256)
    with suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write("flux-keeper")
