"""Whether there is any use in writing what is in memory to disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker


def nothing_stays(broker: Broker) -> bool:
    """True if the instance ends, and its state directory goes with it."""
    life = broker.life
    return life is not None and life.ended and broker.attributes.visible.get("statedir-cleanup") == "1"
