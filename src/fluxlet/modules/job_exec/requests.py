"""The payloads of what job-exec is asked, but for job-exec.start."""

from __future__ import annotations

import msgspec


class ExpirationRequest(msgspec.Struct):
    """Payload of job-exec.expiration."""

    id: int
    expiration: float


class CriticalRanksRequest(msgspec.Struct):
    """Payload of job-exec.critical-ranks."""

    id: int
    ranks: str


class BarrierRequest(msgspec.Struct):
    """Payload of job-exec.shell-barrier."""

    id: int
    rank: int


class OverrideRequest(msgspec.Struct):
    """Payload of job-exec.override."""

    event: str
    jobid: int
    status: int = 0


class ExceptionEvent(msgspec.Struct):
    """Payload of the event job-exception."""

    id: int
    type: str
    severity: int
    wait_status: int | None = None
