"""What a broker knows of the ranks below it (spec 04, 2.7 to 2.9). Pure: times are given, nothing is sent.

Rules:
- A rank is online if it is full, partial or degraded. At first every child is offline.
- The own status is the worst that follows from the children's: degraded if one is degraded or lost, else partial if
  one is partial or offline, else full; so a loss shows in every rank above it.
- Why a child is not online is known no later than that it is not: who hears of a change reads the reason with it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fluxlet.overlay.topology import Topology

#: Names of statuses, as their numbers on the wire have it.
STATUSES = ("unknown", "full", "partial", "degraded", "lost", "offline")
ONLINE = frozenset(("full", "partial", "degraded"))


class Child(msgspec.Struct):
    """A direct child.

    Args:
        rank: its rank.
        size: how many ranks there are at it and below it.
        since: when its status changed last.
        error: why it is not online.
        torpid: it has not been heard of for a while.
    """

    rank: int
    size: int
    since: float
    status: str = "offline"
    error: str = ""
    torpid: bool = False

    @property
    def online(self) -> bool:
        """True if it can be reached."""
        return self.status in ONLINE


class Subtree:
    """The status of a broker and of its children.

    Args:
        topology: the shape of the instance.
        rank: of the broker.
        now: the time, in seconds; as of all methods.
    """

    def __init__(self, topology: Topology, rank: int, now: float) -> None:
        self.topology = topology
        self.rank = rank
        self.children = {child: Child(child, topology.subtree_size(child), now) for child in topology.children(rank)}
        self.status = self._derived()
        self.since = now

    def _derived(self) -> str:
        statuses = {child.status for child in self.children.values()}
        if statuses & {"degraded", "lost"}:
            return "degraded"
        return "partial" if statuses & {"partial", "offline"} else "full"

    def update(self, rank: int, status: str, now: float, error: str = "") -> bool:
        """A direct child's status has changed. True if the own one follows. Raises KeyError for another rank."""
        child = self.children[rank]
        child.error = "" if status in ONLINE else error
        if child.status != status:
            child.status, child.since = status, now
        derived = self._derived()
        if derived == self.status:
            return False
        self.status, self.since = derived, now
        return True

    def health(self, now: float) -> dict[str, Any]:
        """As `overlay.health` answers it."""
        children = []
        for child in self.children.values():
            entry: dict[str, Any] = {"rank": child.rank, "status": child.status, "duration": now - child.since}
            if child.error:
                entry["error"] = child.error
            children.append(entry)
        return {"rank": self.rank, "status": self.status, "duration": now - self.since, "children": children}
