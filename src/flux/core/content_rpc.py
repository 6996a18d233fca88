"""The requests to the content store and its backing store that tools make (spec 05, sections 2, 3.1 and 11.1).

Each returns its opaque future at once. `backing` goes past the cache, to the backing store on rank 0.
"""

from __future__ import annotations

import errno
from typing import Any

from flux.constants import FLUX_NODEID_ANY
from flux.core import kvs_rpc, treeobj
from flux.core.codec import dump_payload
from flux.core.flux_t import FluxT
from flux.core.future_state import FutureState, RpcState
from flux.wrapper import local_error


def digest(blobref: str) -> bytes:
    """The hash that a blobref is about. Raises OSError(EINVAL) for text that is none."""
    if not treeobj.is_blobref(blobref):
        raise local_error(errno.EINVAL)
    return bytes.fromhex(blobref.partition("-")[2])


def load(ctx: FluxT, blobref: str, backing: bool = False) -> RpcState:
    """Asks for a blob; read it with `blob`."""
    if backing:
        return ctx.rpc(b"content-backing.load", digest(blobref), 0, 0)
    return ctx.rpc(b"content.load", digest(blobref), FLUX_NODEID_ANY, 0)


def blob(state: FutureState) -> bytes:
    """The blob that `load` has brought. Raises its error."""
    data: bytes | None = kvs_rpc.wait(state).raw
    return b"" if data is None else data


def store(ctx: FluxT, data: bytes, backing: bool = False) -> RpcState:
    """Stores a blob, whose name is `treeobj.blobref(data, hash)`."""
    if backing:
        return ctx.rpc(b"content-backing.store", data or None, 0, 0)
    return ctx.rpc(b"content.store", data or None, FLUX_NODEID_ANY, 0)


def validate(ctx: FluxT, blobref: str) -> RpcState:
    """Asks whether the backing store has a blob: ENOENT if not."""
    return ctx.rpc(b"content-backing.validate", digest(blobref), 0, 0)


def checkpoint_get(ctx: FluxT) -> RpcState:
    """Asks for the checkpoints; read them with `newest`."""
    return ctx.rpc(b"content.checkpoint-get", None, 0, 0)


def newest(state: FutureState) -> dict[str, Any]:
    """The newest of the checkpoints: `rootref`, and `sequence` and `timestamp` if known. Raises OSError."""
    value = kvs_rpc.answer(state).get("value")
    # Older services sent a single one.
    checkpoint = value[0] if isinstance(value, list) and value else value
    if not isinstance(checkpoint, dict) or not treeobj.is_blobref(checkpoint.get("rootref")):
        raise local_error(errno.EPROTO)
    if checkpoint.get("version") not in (0, 1):
        raise local_error(errno.EINVAL)
    return checkpoint


def checkpoint_put(ctx: FluxT, rootref: str, sequence: int, timestamp: float) -> RpcState:
    """Has a root written as the newest checkpoint, when all blobs have been."""
    value = {"version": 1, "rootref": rootref, "sequence": sequence, "timestamp": timestamp}
    return ctx.rpc(b"content.checkpoint-put", dump_payload({"value": value}), 0, 0)


def kvs_is_loaded(ctx: FluxT) -> bool:
    """True if there is a kvs service: what is written past it would be lost when it ends."""
    state = kvs_rpc.getroot(ctx, "primary")
    state.wait(-1.0)
    return state.errnum != errno.ENOSYS
