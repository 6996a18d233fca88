"""Acquisition: what the scheduler has been told, and what it is to be told now (RFC 28; spec 07, 2.2). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flux.resource._pool import bits
from flux.resource.Rv1Set import Rv1Set, unmask


class Acquisition:
    """One client of resource.acquire.

    Args:
        resources: all there are, without those that are excluded.
        up: ranks that may be used, as bits.
    """

    def __init__(self, resources: Rv1Set, up: int) -> None:
        self.ranks = sum(1 << rank for rank in resources.nodes)
        self.resources = resources
        self.up = up & self.ranks

    def first(self) -> dict[str, Any]:
        """The first response."""
        return {"resources": self.resources.to_dict(), "up": unmask(self.up)}

    def change(self, up: int, gone: int) -> dict[str, Any] | None:
        """The response for a change; None if there is nothing to tell.

        Args:
            up: ranks that may be used now.
            gone: ranks that will never come back.
        """
        up &= self.ranks
        gone &= self.ranks
        self.ranks &= ~gone
        up &= self.ranks
        came, went = up & ~self.up, self.up & ~up | gone
        self.up = up
        told = {}
        if came:
            told["up"] = unmask(came)
        if went:
            told["down"] = unmask(went)
        if gone:
            told["shrink"] = unmask(gone)
        return told or None


def mask_of(ranks: Iterator[int] | set[int]) -> int:
    """Ranks as bits."""
    mask = 0
    for rank in ranks:
        mask |= 1 << rank
    return mask


def ranks_of(mask: int) -> set[int]:
    """Bits as ranks."""
    return set(bits(mask))
