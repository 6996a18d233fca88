"""What the commands that look at whole trees of the KVS share: reading directories past the kvs service."""

from __future__ import annotations

import errno
import json
from typing import Any

from flux.core import content_rpc, treeobj
from flux.core.flux_t import FluxT
from flux.wrapper import local_error


def directory_of(blob: bytes) -> dict[str, dict[str, Any]]:
    """The entries of the directory that a blob holds. Raises OSError(ENOTRECOVERABLE) if it holds none."""
    try:
        obj = json.loads(blob)
    except ValueError:
        raise local_error(errno.ENOTRECOVERABLE) from None
    if treeobj.problem(obj) is not None or obj["type"] != "dir":
        raise local_error(errno.ENOTRECOVERABLE)
    entries: dict[str, dict[str, Any]] = obj["data"]
    return entries


def read_directory(ctx: FluxT, blobref: str, backing: bool) -> dict[str, dict[str, Any]]:
    """The entries of a directory. Raises OSError."""
    return directory_of(content_rpc.blob(content_rpc.load(ctx, blobref, backing)))
