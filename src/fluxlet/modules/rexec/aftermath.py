"""What is left of processes, and how all of them end with their server (spec 04, 5.5).

Rules:
- A process group whose first process has ended, and which others are still in, is known by its number and by what
  its members were started with: the number alone may be another group's by the time it is needed.
- What has made itself a daemon, in a session of its own, is nobody's any more.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fluxlet.broker.guardian import members

if TYPE_CHECKING:
    from fluxlet.broker.guardian import Guardian
    from fluxlet.modules.rexec.process import Process

#: How many groups are kept before it is looked who is still there.
_MANY = 64


class LeftBehind:
    """The process groups that have outlived their first process.

    Args:
        uri: the FLUX_URI that their members were started with.
        guardian: told of them; None: nobody is.
    """

    def __init__(self, uri: str, guardian: Guardian | None) -> None:
        self._uri = uri
        self._guardian = guardian
        self._groups: set[int] = set()

    def note_end(self, process: Process) -> None:
        """A process has ended."""
        guardian = self._guardian
        if process.has_left_somebody:
            self._groups.add(process.pid)
            if guardian is not None:
                guardian.add_members(process.pid, self._uri)
            if len(self._groups) > _MANY:
                self._prune()
        if guardian is not None:
            guardian.remove_group(process.pid)

    def _prune(self) -> None:
        for pgid in tuple(self._groups):
            try:
                os.killpg(pgid, 0)
            except (ProcessLookupError, PermissionError):
                self._groups.discard(pgid)
                if self._guardian is not None:
                    self._guardian.remove_members(pgid)

    def members(self) -> set[int]:
        """The processes in them."""
        found: set[int] = set()
        for pgid in self._groups:
            found |= members(pgid, self._uri)
        return found


def end_all(running: Sequence[Process], left: LeftBehind, grace: float) -> bool:
    """Ends processes and what others have left behind, and waits for that: SIGTERM, and SIGKILL after `grace` seconds.

    False if it took force.
    """
    for process in running:
        _signal(process, signal.SIGTERM)
        _signal(process, signal.SIGCONT)  # one that is stopped is to hear of it
    lingering = left.members()
    for pid in lingering:
        _kill(pid, signal.SIGTERM)
    in_time = _wait_for(running, grace)
    if not in_time:
        for process in running:
            _signal(process, signal.SIGKILL)
        _wait_for(running, grace)
    # Also what those have left behind that have ended just now.
    for pid in left.members():
        _kill(pid, signal.SIGKILL)
    return in_time


def _signal(process: Process, signum: int) -> None:
    try:
        process.signal(signum)
    except OSError:
        return  # it has ended


def _kill(pid: int, signum: int) -> None:
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        return  # it has ended, or is not ours any more


def _wait_for(processes: Sequence[Process], patience: float) -> bool:
    """Waits until all have ended, at most `patience` seconds; False if some have not."""
    deadline = time.monotonic() + patience
    while left := [process for process in processes if not process.end.look()]:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return False
        poller = select.poll()
        pollable = [process.end.fileno() for process in left if process.end.fileno() >= 0]
        for fd in pollable:
            poller.register(fd, select.POLLIN)
        poller.poll(1000 * (min(remaining, 1.0) if pollable else 0.01))
    return True
