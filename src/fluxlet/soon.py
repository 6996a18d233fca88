"""Doing something once the loop has read what there is to read: batches that need no timer to be tuned.

`Soon.ask()` any number of times in one pass of the loop calls back once, at the end of that pass. When it is quiet
that is at once; under load it is after everything that had arrived has been looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from flux.reactor import Reactor


class Soon:
    """See the module.

    Args:
        reactor: the loop; of a module its own (`Service.module.reactor`), so that what fails is the module.
        callback: called without arguments.
    """

    __slots__ = ("_due", "_timer", "asked")

    def __init__(self, reactor: Reactor, callback: Callable[[], None]) -> None:
        # A timer of no time: due after all that this pass of the loop reads, and never before the next poll if
        # it is started by another timer.
        def due() -> None:
            self.asked = False
            callback()

        self.asked = False
        self._due = 0.0
        self._timer = reactor.timer(0.0, 0.0, due)

    def ask(self) -> None:
        """Has the callback called at the end of this pass."""
        if not self.asked or self._due:
            self.asked = True
            self._due = 0.0
            self._timer.reset(0.0, 0.0)

    def ask_in(self, seconds: float) -> None:
        """Has the callback called in so many seconds, unless it is to be called earlier anyway."""
        if not seconds:
            self.ask()
            return
        due = monotonic() + seconds
        if not self.asked or self._due > due:
            self.asked = True
            self._due = due
            self._timer.reset(seconds, 0.0)

    def stop(self) -> None:
        """Forgets that it was asked."""
        self.asked = False
        self._timer.stop()
