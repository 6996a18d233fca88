"""The journal of an instance's resources (spec 07, 2.3 and 8.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flux.abc.journal import JournalConsumerBase, JournalEventBase

if TYPE_CHECKING:
    from flux.core.handle import Flux


class ResourceJournalEvent(JournalEventBase):
    """An event; `R` is there for a resource-define, else None."""

    def __init__(self, event: Any, R: Any = None) -> None:
        super().__init__(event)
        self.R = R

    def __str__(self) -> str:
        return super().__str__()


class ResourceJournalConsumer(JournalConsumerBase):
    """Reads the journal of resources. For the instance owner.

    Args:
        flux_handle: a connected handle.
        since: skip what is not later, seconds since the epoch.
        include_sentinel: hand out the mark between history and what happens then.
    """

    def __init__(self, flux_handle: Flux, since: float = 0.0, include_sentinel: bool = False) -> None:
        super().__init__(flux_handle, "resource.journal", since=since, include_sentinel=include_sentinel)

    def process_response(self, resp: dict[str, Any]) -> Mapping[str, Any]:
        """As of JournalConsumerBase."""
        return {"R": resp.get("R")}

    def create_event(self, entry: dict[str, Any], R: Any = None) -> ResourceJournalEvent:  # type: ignore[override]
        """As of JournalConsumerBase."""
        return ResourceJournalEvent(entry, R)
