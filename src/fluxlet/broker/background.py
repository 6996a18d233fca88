"""Something that the broker does on its loop while it serves, and whose end its life waits for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from flux.core.coroutine import spawn
from flux.core.handle import Flux


class Background:
    """Runs one coroutine after another.

    Args:
        handle: on whose loop.
    """

    def __init__(self, handle: Flux) -> None:
        self._handle = handle
        self._done: Callable[[int], None] | None = None

    @property
    def running(self) -> bool:
        """Whether somebody waits for the end of one."""
        return self._done is not None

    def run(self, work: Coroutine[Any, Any, int], done: Callable[[int], None]) -> None:
        """Begins; `done` is called once, with the exit code that `work` returns."""
        self._done = done
        spawn(self._handle, self._run(work, done))

    async def _run(self, work: Coroutine[Any, Any, int], done: Callable[[int], None]) -> None:
        code = await work
        if self._done is done:
            self.give_up(code)

    def give_up(self, code: int) -> None:
        """Who waits does so no more; what has begun takes its course."""
        done, self._done = self._done, None
        if done is not None:
            done(code)
