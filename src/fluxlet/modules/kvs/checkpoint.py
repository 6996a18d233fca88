"""Checkpoints: the root that an instance begins with when it is started again (spec 05, 11.1)."""

from __future__ import annotations

import errno
import time
from typing import Any

import msgspec

from flux.util.durations import parse_fsd
from fluxlet.modules.kvs import treeobj
from fluxlet.payload import UNREADABLE


class Checkpoint(msgspec.Struct):
    """A checkpoint (spec 05, 11.1)."""

    rootref: str
    version: int
    sequence: int = 0
    timestamp: float = 0.0


class _Answer(msgspec.Struct):
    """Payload of a content.checkpoint-get response; older ones have one checkpoint."""

    value: list[Checkpoint] | Checkpoint


def newest(answer: Any) -> Checkpoint:
    """The last checkpoint, of the answer to content.checkpoint-get. Raises OSError(EINVAL)."""
    try:
        value = msgspec.convert(answer, _Answer).value
        found = value if isinstance(value, Checkpoint) else value[0]
    except (*UNREADABLE, IndexError) as exc:
        raise OSError(errno.EINVAL, f"cannot restore the KVS from {answer}: {exc}") from None
    if found.version not in (0, 1) or not treeobj.is_blobref(found.rootref):
        raise OSError(errno.EINVAL, f"cannot restore the KVS from the checkpoint {found}")
    return found


def checkpoint(root: bytes, seq: int) -> dict[str, Any]:
    """A checkpoint, as content.checkpoint-put takes it."""
    return {"version": 1, "rootref": root.decode(), "sequence": seq, "timestamp": time.time()}


def period(config: dict[str, Any]) -> float:
    """Seconds between checkpoints, as `kvs.checkpoint-period` says; 0 for none. Raises OSError(EINVAL)."""
    table = config.get("kvs", {})
    value = table.get("checkpoint-period") if isinstance(table, dict) else None
    if value is None:
        return 0.0
    try:
        seconds = parse_fsd(value)
    except (ValueError, TypeError):
        raise OSError(errno.EINVAL, f"invalid checkpoint-period config: {value}") from None
    return seconds if seconds < 1e9 else 0.0
