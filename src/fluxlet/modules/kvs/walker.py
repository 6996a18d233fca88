"""Run: takes a generator of `transaction` or `lookup` to its end, and gets it what it asks for."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fluxlet.modules.kvs.loader import Loader

#: Called with what a generator has returned, or the error that it has raised.
Ended = Callable[[Any, OSError | None], None]
#: Called with the name of a namespace and what is to be called with its root's blobref, or why there is none.
Enter = Callable[[str, Ended], None]


class Run:
    """A generator that is run.

    Args:
        steps: the generator, which has been started.
        loader: for directories.
        pause: has a function called when others have had their turn.
        enter: for links into namespaces.
        ended: called at the end.
    """

    __slots__ = ("_answer", "_asking", "_ended", "_enter", "_loader", "_pause", "_steps")

    def __init__(
        self,
        steps: Generator[Any, Any, Any],
        loader: Loader,
        pause: Callable[[Callable[[], None]], None],
        enter: Enter,
        ended: Ended,
    ) -> None:
        self._steps = steps
        self._loader = loader
        self._pause = pause
        self._enter = enter
        self._ended = ended
        self._asking = False
        self._answer: tuple[Any, OSError | None] | None = None

    def go(self, need: Any) -> None:
        """Goes on with what the generator has yielded."""
        while True:
            if need is None:
                self._pause(self._go_on)
                return
            self._asking, self._answer = True, None
            if isinstance(need, str):
                self._enter(need, self._answered)
            else:
                self._loader.directory(need, self._answered)
            self._asking = False
            if self._answer is None:
                return  # it comes later
            try:
                need = self._send(*self._answer)
            except StopIteration:
                return

    def _answered(self, value: Any, error: OSError | None) -> None:
        if self._asking:
            self._answer = value, error
            return
        try:
            need = self._send(value, error)
        except StopIteration:
            return
        self.go(need)

    def _go_on(self) -> None:
        self._answered(None, None)

    def _send(self, value: Any, error: OSError | None) -> Any:
        """The next thing the generator needs. Raises StopIteration when it has ended, and that was told."""
        try:
            return self._steps.throw(error) if error is not None else self._steps.send(value)
        except StopIteration as stop:
            self._ended(stop.value, None)
        except OSError as exc:
            self._ended(None, exc)
        raise StopIteration
