"""Drains: the ranks that are not to be used, since when and why (spec 07, 2.4). Pure.

What changes it is an event, made by `drain` and `undrain`, and applied by `apply`: replaying an eventlog makes the
same state.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from flux.idset import IDset
from fluxlet.modules.resource.hosts import Hosts

#: Modes of a drain, and the number they have in its event.
OVERWRITES = {None: 0, "update": 0, "overwrite": 1, "force-overwrite": 2}


class Drain(NamedTuple):
    """Since when a rank is drained, in seconds since the epoch, and why; None: no reason was given."""

    timestamp: float
    reason: str | None


def _ranks(ranks: set[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {idset(ranks)}"


def idset(ranks: set[int]) -> str:
    """The text of a set of ranks."""
    return str(IDset(",".join(map(str, sorted(ranks)))))


class Drains:
    """The drained ranks."""

    def __init__(self) -> None:
        self.ranks: dict[int, Drain] = {}

    def drain(self, ranks: set[int], reason: str | None, mode: str | None, excluded: set[int]) -> set[int]:
        """Which ranks the event of a drain names; the others need none.

        Args:
            ranks: those to be drained.
            reason: why.
            mode: None, "update", "overwrite" or "force-overwrite".
            excluded: ranks that are out of use by configuration.

        Raises OSError: EINVAL for a bad mode or excluded ranks, EEXIST for ranks that are drained, with a reason,
        without a mode that says what is to be done about it.
        """
        if mode not in OVERWRITES:
            raise OSError(errno.EINVAL, "Invalid mode specified")
        out = ranks & excluded
        explained = {rank for rank in ranks if rank in self.ranks and self.ranks[rank].reason is not None}
        if mode is None and explained:
            text = "already drained or excluded" if out else "already drained"
            raise OSError(errno.EEXIST, f"{_ranks(explained | out)} {text}")
        if out:
            raise OSError(errno.EINVAL, f"{_ranks(out)} excluded")
        if mode == "update":
            return ranks - explained
        return ranks

    def undrain(self, ranks: set[int], mode: str | None) -> set[int]:
        """Which ranks the event of an undrain names.

        Raises OSError: EINVAL for a bad mode, EEXIST for ranks that are not drained, without a mode.
        """
        if mode not in OVERWRITES:
            raise OSError(errno.EINVAL, f"invalid undrain mode '{mode}' specified")
        undrained = ranks - self.ranks.keys()
        if mode is None and undrained:
            raise OSError(errno.EEXIST, f"{_ranks(undrained)} not drained")
        return ranks - undrained

    def apply(self, name: str, timestamp: float, context: Mapping[str, Any], ranks: set[int]) -> None:
        """An event has happened.

        Args:
            name: of the event; others than drain and undrain change nothing.
            timestamp, context: of the event.
            ranks: those of its ranks that the instance has.
        """
        if name == "undrain":
            for rank in ranks:
                self.ranks.pop(rank, None)
        elif name == "drain":
            reason, overwrite = context.get("reason"), context.get("overwrite", 0)
            for rank in ranks:
                old = self.ranks.get(rank)
                if old is None or overwrite == 2:
                    self.ranks[rank] = Drain(timestamp, reason)
                elif overwrite == 1 or old.reason is None:
                    self.ranks[rank] = Drain(old.timestamp, reason)

    def checkpoint(self, now: float, hosts: Hosts) -> str:
        """What there is at the time `now`, as text that `restore` reads."""
        state = {
            str(rank): {"timestamp": drain.timestamp, "reason": drain.reason or "", "nodelist": hosts.on({rank})}
            for rank, drain in self.ranks.items()
        }
        return json.dumps({"timestamp": now, "drain_state": state})

    def restore(self, checkpoint: str, hosts: Hosts) -> float:
        """What there was; hosts may have other ranks now. Returns the time of that.

        Raises ValueError, TypeError, KeyError, AttributeError for what is no checkpoint.
        """
        kept = json.loads(checkpoint)
        since = float(kept["timestamp"])
        for ranks, drain in kept["drain_state"].items():
            for rank in hosts.now(drain.get("nodelist", ""), set(IDset(ranks))):
                self.ranks[rank] = Drain(float(drain["timestamp"]), drain["reason"] or None)
        return since

    def describe(self) -> dict[str, dict[str, Any]]:
        """As `resource.status` answers: ranks with equal time, to the second, and reason have one key."""
        groups: dict[tuple[float, str], set[int]] = {}
        for rank in sorted(self.ranks):
            timestamp, reason = self.ranks[rank]
            groups.setdefault((float(round(timestamp)), reason or ""), set()).add(rank)
        return {
            idset(ranks): {"timestamp": timestamp, "reason": reason} for (timestamp, reason), ranks in groups.items()
        }
