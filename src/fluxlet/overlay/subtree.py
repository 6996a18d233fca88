"""What a broker knows of the ranks below it (spec 04, 2.7 to 2.9). Pure: times are given, nothing is sent.

Rules:
- A rank is online if it is full, partial or degraded. At first every child is offline.
- The own status is the worst that follows from the children's: degraded if one is degraded or lost, else partial if
  one is partial or offline, else full; so a loss shows in every rank above it.
- Why a child is not online is known no later than that it is not: who hears of a change reads the reason with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: Names of statuses, as their numbers on the wire have it.
STATUSES = ("unknown", "full", "partial", "degraded", "lost", "offline")
ONLINE = frozenset(("full", "partial", "degraded"))


class Tree:
    """A rank and all that is below it.

    Args:
        rank: at the root.
        children: the trees of its direct children.

    `size` counts all ranks, the root too.
    """

    def __init__(self, rank: int, children: Sequence[Tree] = ()) -> None:
        self.rank = rank
        self.children = tuple(children)
        self.size: int = 1 + sum(child.size for child in self.children)

    @classmethod
    def of(cls, rank: int, parents: Sequence[int]) -> Tree:
        """The tree below `rank`; `parents` has the parent of each rank, which is always a lower one, -1 for rank 0."""
        below: dict[int, list[Tree]] = {}
        for number in range(len(parents) - 1, rank, -1):
            tree = cls(number, below.pop(number, [])[::-1])
            below.setdefault(parents[number], []).append(tree)
        return cls(rank, below.get(rank, [])[::-1])

    def describe(self) -> dict[str, Any]:
        """As `overlay.topology` answers it."""
        return {"rank": self.rank, "size": self.size, "children": [child.describe() for child in self.children]}


@dataclass
class Child:
    """A direct child.

    Args:
        tree: itself and what is below it.
        since: when its status changed last.
        error: why it is not online.
        torpid: it has not been heard of for a while.
    """

    tree: Tree
    since: float
    status: str = "offline"
    error: str = ""
    torpid: bool = False

    @property
    def rank(self) -> int:
        """Its rank."""
        return self.tree.rank

    @property
    def online(self) -> bool:
        """True if it can be reached."""
        return self.status in ONLINE


class Subtree:
    """The status of a broker and of its children.

    Args:
        tree: the broker's.
        now: the time, in seconds; as of all methods.
    """

    def __init__(self, tree: Tree, now: float) -> None:
        self.tree = tree
        self.children = {child.rank: Child(child, now) for child in tree.children}
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
        return {"rank": self.tree.rank, "status": self.status, "duration": now - self.since, "children": children}
