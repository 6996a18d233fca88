"""What the resource module is asked (spec 07, 2.2)."""

from __future__ import annotations

from typing import Any

import msgspec


class DrainRequest(msgspec.Struct):
    """Payload of resource.drain and resource.undrain: an idset or hostlist, why, and what if there is a reason."""

    targets: str
    reason: str | None = None
    mode: str | None = None


class ReloadRequest(msgspec.Struct):
    """Payload of resource.reload: a file with R, or a directory of topologies; ranks over the size are taken."""

    path: str
    xml: bool = False
    force: bool = False


class ExpirationRequest(msgspec.Struct):
    """Payload of resource.expiration-update: seconds since the epoch."""

    expiration: float


class ReduceRequest(msgspec.Struct):
    """Payload of resource.topo-reduce: what so many ranks have."""

    count: int
    resource: dict[str, Any]


class CancelRequest(msgspec.Struct):
    """Payload of resource.acquire-cancel and resource.journal-cancel."""

    matchtag: int


class WaitupRequest(msgspec.Struct):
    """Payload of resource.monitor-waitup: a number of ranks."""

    up: int


class RanksRequest(msgspec.Struct):
    """Payload of resource.monitor-force-down."""

    ranks: str
