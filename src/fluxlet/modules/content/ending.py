"""Whether there is any use in writing what is in memory to disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker


#: States in which the initial program has ended, and rc3 removes the modules, or has removed them.
_LAST = ("finalize", "goodbye", "unload-builtins", "exit")


def nothing_stays(broker: Broker) -> bool:
    """True if the instance ends, and its state directory goes with it."""
    state = broker.state
    ends = state is not None and state.state in _LAST
    attributes = broker.attributes.visible
    return ends and attributes.get("statedir-cleanup") == "1" and "content.dump" not in attributes
