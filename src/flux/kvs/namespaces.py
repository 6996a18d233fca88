"""Namespaces and checkpoints (spec 05, sections 8, 11.1 and 12.1)."""

from __future__ import annotations

import os
from typing import Any

from flux.core import kvs_rpc
from flux.core.handle import Flux
from flux.kvs.values import key_text
from flux.rpc import RPC


# The default is that of the import, as in the reference.
def namespace_create(flux_handle: Flux, namespace: str | bytes, owner: int = os.getuid(), flags: int = 0) -> None:
    """Makes an empty namespace.

    Args:
        owner: the userid that may use it besides the instance owner.
        flags: 0.

    Raises OSError EEXIST for a name in use, EINVAL for flags, EPERM for a guest.
    """
    core = kvs_rpc.core_of(flux_handle)
    root = kvs_rpc.empty_root(core.attr_get("content.hash"))
    kvs_rpc.wait(kvs_rpc.namespace_create(core, key_text(namespace), root, owner, flags))


def namespace_remove(flux_handle: Flux, namespace: str | bytes) -> None:
    """Removes a namespace with all that is in it; one that there is not is fine.

    Raises OSError(ENOTSUP) for ``primary``.
    """
    kvs_rpc.wait(kvs_rpc.namespace_remove(kvs_rpc.core_of(flux_handle), key_text(namespace)))


def namespace_list(flux_handle: Flux) -> list[str]:
    """The names of the namespaces that are known on the rank connected to, in no order."""
    found = kvs_rpc.namespaces(kvs_rpc.namespace_list(kvs_rpc.core_of(flux_handle)))
    return [entry["namespace"] for entry in found]


def kvs_checkpoint_lookup(flux_handle: Flux, cache_bypass: bool = False) -> list[dict[str, Any]]:
    """The checkpoints of the primary namespace, the newest first: dicts of version, rootref, sequence, timestamp.

    Args:
        cache_bypass: ask the backing store, not the content cache.

    Raises OSError(ENOENT) if there is none yet.
    """
    service = "content-backing" if cache_bypass else "content"
    return checkpoints(RPC(flux_handle, f"{service}.checkpoint-get").get())


def checkpoints(answer: Any) -> list[dict[str, Any]]:
    """The list in an answer to checkpoint-get; older services sent a single one."""
    value = answer["value"]
    return value if isinstance(value, list) else [value]
