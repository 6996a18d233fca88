"""Pump: another loop than a reactor, as a handle sees it."""

from __future__ import annotations

from typing import Protocol


class Pump(Protocol):
    """What serves a handle in its reactor's place (asyncio's: `flux.core.aiopump`)."""

    def wake(self) -> None:
        """There may be something to do: a callback is due, a message is at hand, or somebody waits for one."""

    def closed(self) -> bool:
        """True if the loop is over: the handle is the reactor's again."""

    def close(self) -> None:
        """The handle is not to be served any more."""

    def reconnecting(self) -> None:
        """The connection's descriptor is about to be replaced."""

    def reconnected(self) -> None:
        """It has been."""


class NoPump:
    """The pump of a view that nothing serves but a blocking wait, and of a closed handle."""

    def wake(self) -> None: ...

    def closed(self) -> bool:
        return False

    def close(self) -> None: ...

    def reconnecting(self) -> None: ...

    def reconnected(self) -> None: ...


NO_PUMP = NoPump()
