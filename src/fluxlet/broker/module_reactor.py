"""The broker's loop, as a module in the broker's process sees it.

It is the same loop, but what a module's callback does there is the module's affair:

- What it raises is the module's failure, not the loop's; SystemExit is no more than that either.
- Time that it takes is logged in the module's name.
- `stop` is the module's end, `stop_error` its failure: a module that wants its loop to end means itself.

How it is the same loop: a ModuleReactor has no state of its own but its module; its instance dictionary *is* that of
the broker's Reactor. Events made by the one are events of the other, wherever they are started or stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, TypeVarTuple

from flux.reactor import FdEvent, Reactor, Timer, tls
from flux.reactor.events import CheckEvent, IdleEvent, PrepareEvent
from flux.reactor.signals import SignalEvent

if TYPE_CHECKING:
    from fluxlet.broker.host import Module

#: For so long, in seconds, a module may keep the broker's thread before that is logged.
PATIENCE = 1.0

_Arguments = TypeVarTuple("_Arguments")


class ModuleReactor(Reactor):
    """The loop of a module.

    Args:
        reactor: the broker's.
        module: whose callbacks are called.
    """

    __slots__ = ("module",)

    def __init__(self, reactor: Reactor, module: Module) -> None:
        self.__dict__ = reactor.__dict__
        self.module = module

    def __del__(self) -> None:
        """The loop is not ours to close."""

    def close(self) -> None:
        """The loop is not ours to close."""

    # Events: as of Reactor, with callbacks that are watched.

    def timer(self, after: float, repeat: float, callback: Callable[[], None]) -> Timer:
        """As `Reactor.timer`."""
        return super().timer(after, repeat, self._watched(callback, "a timer"))

    def fd(self, fd: int, events: int, callback: Callable[[int, int], None]) -> FdEvent:
        """As `Reactor.fd`."""
        return super().fd(fd, events, self._watched(callback, "a file descriptor watcher"))

    def reader(self, fd: int, events: int, callback: Callable[[int, int], None]) -> FdEvent:
        """As `Reactor.reader`."""
        return super().reader(fd, events, self._watched(callback, "a file descriptor watcher"))

    def signal(self, signum: int, callback: Callable[[int], None]) -> SignalEvent:
        """As `Reactor.signal`."""
        return super().signal(signum, self._watched(callback, "a signal watcher"))

    def prepare(self, callback: Callable[[], None]) -> PrepareEvent:
        """As `Reactor.prepare`."""
        return super().prepare(self._watched(callback, "a prepare watcher"))

    def check(self, callback: Callable[[], None]) -> CheckEvent:
        """As `Reactor.check`."""
        return super().check(self._watched(callback, "a check watcher"))

    def idle(self, callback: Callable[[], None] | None) -> IdleEvent:
        """As `Reactor.idle`."""
        return super().idle(None if callback is None else self._watched(callback, "an idle watcher"))

    def _watched(self, callback: Callable[[*_Arguments], None], what: str) -> Callable[[*_Arguments], None]:
        module = self.module

        def call(*arguments: *_Arguments) -> None:
            started = monotonic()
            try:
                callback(*arguments)
            except KeyboardInterrupt:
                raise  # of the whole process
            except BaseException as exc:  # noqa: BLE001  # whatever a module raises must not end the broker
                module.failed(exc)
            if tls.exception is not None:
                module.take_exception()
            if monotonic() - started > PATIENCE:
                module.report_block(started, what)

        return call

    # The end.

    def stop(self) -> None:
        """Ends the module."""
        self.module.leave()

    def stop_error(self) -> None:
        """Ends the module, which has failed."""
        if tls.exception is not None:
            self.module.take_exception()
        else:
            self.module.failed(RuntimeError("the module has stopped its reactor with an error"))
