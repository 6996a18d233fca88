"""What the commands that handle whole trees of the KVS share: directories, past the kvs service."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
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


def store_tree(tree: dict[str, Any], store: Callable[[bytes], str]) -> str:
    """Stores a tree that is in memory: names to trees like this one, or to tree objects (in a list).

    Args:
        store: stores a blob, and returns its blobref.

    Returns the blobref of the root. Directories are stored before those above them, without recursion: a tree may be
    deeper than Python's stack.
    """
    order = [tree]
    for directory in order:
        order += [below for below in directory.values() if isinstance(below, dict)]
    refs: dict[int, str] = {}
    for directory in reversed(order):
        entries = {
            name: treeobj.dirref(refs.pop(id(entry))) if isinstance(entry, dict) else entry[0]
            for name, entry in directory.items()
        }
        refs[id(directory)] = store(treeobj.encode_bytes(treeobj.directory(entries)))
    return refs[id(tree)]
