"""The broker's states, and which event leads from where to where (spec 03 section 6, 04 section 3.6).

Pure: no clock but the one it is given, and nothing is done here. What a state does, its watchers do, by posting
the event that ends it.

Rules:
- (state, event) -> state is one table. An event that is not in it for the current state changes nothing.
- Watchers see every state, in order: an event posted by a watcher takes effect when all of them have seen the
  transition it was called for.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from syslog import LOG_DEBUG, LOG_INFO
from typing import NamedTuple

from flux.util.durations import six_digits

#: The states by number, as `state-machine.monitor` numbers them.
STATES = (
    "load-builtins",
    "join",
    "config-sync",
    "init",
    "quorum",
    "run",
    "cleanup",
    "shutdown",
    "finalize",
    "goodbye",
    "unload-builtins",
    "exit",
)

#: The numbers by state.
NUMBERS = {state: number for number, state in enumerate(STATES)}

#: (state, event) -> next state.
TABLE: dict[tuple[str, str], str] = {
    ("load-builtins", "builtins-success"): "join",
    ("load-builtins", "builtins-fail"): "unload-builtins",
    ("join", "parent-none"): "config-sync",
    ("join", "parent-ready"): "config-sync",
    ("join", "parent-fail"): "shutdown",
    ("config-sync", "sync-none"): "init",
    ("config-sync", "sync-success"): "init",
    ("config-sync", "sync-fail"): "shutdown",
    ("init", "rc1-success"): "quorum",
    ("init", "rc1-none"): "quorum",
    ("init", "rc1-ignorefail"): "quorum",
    ("init", "rc1-fail"): "shutdown",
    ("init", "panic"): "shutdown",
    ("quorum", "quorum-full"): "run",
    ("quorum", "quorum-fail"): "shutdown",
    ("quorum", "panic"): "shutdown",
    ("run", "rc2-success"): "cleanup",
    ("run", "rc2-fail"): "cleanup",
    ("run", "shutdown"): "cleanup",
    ("run", "parent-fail"): "cleanup",
    ("run", "rc2-none"): "run",
    ("run", "panic"): "shutdown",
    ("cleanup", "cleanup-success"): "shutdown",
    ("cleanup", "cleanup-none"): "shutdown",
    ("cleanup", "cleanup-fail"): "shutdown",
    ("shutdown", "children-none"): "finalize",
    ("shutdown", "children-complete"): "finalize",
    ("finalize", "rc3-success"): "goodbye",
    ("finalize", "rc3-none"): "goodbye",
    ("finalize", "rc3-fail"): "goodbye",
    ("goodbye", "goodbye"): "unload-builtins",
    ("unload-builtins", "builtins-done"): "exit",
    ("unload-builtins", "builtins-unload-fail"): "exit",
}


class Transition(NamedTuple):
    """A change of state: by which event, from where to where, after how many seconds in the old state."""

    event: str
    old: str
    new: str
    duration: float


class StateMachine:
    """Where a broker is in its life.

    Args:
        log: called with (severity, text) for every event posted.
        now: a monotonic clock, in seconds.
    """

    def __init__(
        self, log: Callable[[int, str], None] | None = None, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.state = STATES[0]
        self.since = now()
        self._now = now
        self._log = log or (lambda severity, text: None)
        self._watchers: list[Callable[[Transition], None]] = []
        self._posted: deque[str] = deque()
        self._posting = False

    @property
    def number(self) -> int:
        """The number of the current state."""
        return NUMBERS[self.state]

    def watch(self, callback: Callable[[Transition], None]) -> None:
        """From now on `callback` is called after every transition, also one of a state to itself."""
        self._watchers.append(callback)

    def post(self, event: str) -> None:
        """Makes the transition that `event` stands for; one that does not apply is logged, and nothing more."""
        self._posted.append(event)
        if self._posting:
            return
        self._posting = True
        try:
            while self._posted:
                self._step(self._posted.popleft())
        finally:
            self._posting = False

    def _step(self, event: str) -> None:
        old = self.state
        new = TABLE.get((old, event))
        if new is None:
            self._log(LOG_DEBUG, f"{event}: ignored in {old}")
            return
        now = self._now()
        transition = Transition(event, old, new, now - self.since)
        self._log(LOG_INFO, f"{event}: {old}->{new} {six_digits(transition.duration)}")
        self.state = new
        if new != old:
            self.since = now
        for watcher in tuple(self._watchers):
            watcher(transition)
