"""The requests to the KVS and what their responses say (spec 05, sections 6, 8 and 9).

What both `flux.kvs` and the C names (`flux.core.table_kvs`) are made of. Rules:

- A request returns its future at once (an opaque one); what cannot be right is OSError(EINVAL) before it is sent.
- Functions that take a future wait for it, and raise its error in shape B (spec 02, 0.1).
- The usual lookup and its answer are put together and taken apart as bytes: nothing is parsed that needs not be.
"""

from __future__ import annotations

import errno
import os
from binascii import a2b_base64
from typing import Any

from flux.constants import (
    FLUX_KVS_READDIR,
    FLUX_KVS_READLINK,
    FLUX_KVS_STREAM,
    FLUX_KVS_TREEOBJ,
    FLUX_KVS_WAITCREATE,
    FLUX_KVS_WATCH,
    FLUX_KVS_WATCH_APPEND,
    FLUX_KVS_WATCH_FULL,
    FLUX_KVS_WATCH_INITIAL_SENTINEL,
    FLUX_KVS_WATCH_UNIQ,
    FLUX_NODEID_ANY,
    FLUX_RPC_NORESPONSE,
    FLUX_RPC_STREAMING,
)
from flux.core import treeobj
from flux.core.arguments import is_null
from flux.core.codec import dump_payload, load_text
from flux.core.flux_t import FluxT
from flux.core.future_state import FutureState, RpcState
from flux.core.kvs_dir import DirState
from flux.core.kvs_txn import Txn, quoted, quoted_key
from flux.core.treeobj import TreeObject
from flux.wrapper import InvalidArguments, local_error

_WATCHES = FLUX_KVS_WATCH | FLUX_KVS_WAITCREATE | FLUX_KVS_STREAM
_WATCH_KINDS = FLUX_KVS_WATCH_FULL | FLUX_KVS_WATCH_UNIQ | FLUX_KVS_WATCH_APPEND | FLUX_KVS_WATCH_INITIAL_SENTINEL
_FORMS = (0, FLUX_KVS_TREEOBJ, FLUX_KVS_READDIR, FLUX_KVS_READDIR | FLUX_KVS_TREEOBJ, FLUX_KVS_READLINK)

# The answer to a lookup as our service sends it; any other is read as JSON.
_VALUE_HEAD = b'{"val":{"data":"'
_VALUE_TAIL = b'","type":"val","ver":1}}\0'


def core_of(handle: Any) -> FluxT:
    """The opaque handle of a `Flux`, or that itself. Raises OSError(EINVAL) for None, InvalidArguments otherwise."""
    if isinstance(handle, FluxT):
        return handle
    if is_null(handle):
        raise local_error(errno.EINVAL)
    core = getattr(handle, "core", None)
    if not isinstance(core, FluxT):
        raise InvalidArguments("flux_kvs", "flux_kvs(flux_t *, ...)", (handle,))
    return core


def namespace_of(namespace: str | None) -> str:
    """The namespace that is meant: by default that of the environment, or ``primary``."""
    return namespace or os.environ.get("FLUX_KVS_NAMESPACE") or "primary"


def check_flags(flags: int) -> None:
    """Raises OSError(EINVAL) for lookup flags that do not go together."""
    if flags & _WATCH_KINDS and not flags & FLUX_KVS_WATCH:
        raise local_error(errno.EINVAL)
    if flags & ~(_WATCHES | _WATCH_KINDS) not in _FORMS:
        raise local_error(errno.EINVAL)


def lookup(ctx: FluxT, namespace: str | None, flags: int, key: str) -> RpcState:
    """Asks for what is at a key; with WATCH, WAITCREATE or STREAM, as it comes.

    Its `aux` is the key. Raises OSError(EINVAL) for an empty key, and flags that do not go together.
    """
    raw = b'{"key":%b,"namespace":%b,"flags":%d}\0' % (quoted_key(key), quoted(namespace_of(namespace)), flags)
    if not flags:
        state = ctx.rpc(b"kvs.lookup", raw, FLUX_NODEID_ANY, 0)
    else:
        check_flags(flags)
        streaming = FLUX_RPC_STREAMING if flags & (FLUX_KVS_WATCH | FLUX_KVS_STREAM) else 0
        state = ctx.rpc(b"kvs-watch.lookup" if flags & _WATCHES else b"kvs.lookup", raw, FLUX_NODEID_ANY, streaming)
    state.aux = key
    return state


def lookup_at(ctx: FluxT, flags: int, key: str, root: str | bytes) -> RpcState:
    """Asks for what was at a key in a snapshot, whose `dirref` is the JSON text `root`.

    Raises OSError EINVAL as `lookup`, and for flags to watch; EPROTO or EINVAL for what is no root.
    """
    if flags not in _FORMS:
        raise local_error(errno.EINVAL)
    rootdir = treeobj.decode(root)
    if rootdir["type"] != "dirref":
        raise local_error(errno.EINVAL)
    raw = b'{"key":%b,"flags":%d,"rootdir":%b}\0' % (quoted_key(key), flags, treeobj.encode_bytes(rootdir))
    state = ctx.rpc(b"kvs.lookup", raw, FLUX_NODEID_ANY, 0)
    state.aux = key
    return state


def cancel_lookup(state: RpcState) -> None:
    """Asks for the end of a watch, which then ends with ENODATA."""
    request = dump_payload({"matchtag": state.matchtag})
    state.ctx.rpc(b"kvs-watch.cancel", request, FLUX_NODEID_ANY, FLUX_RPC_NORESPONSE)


def wait(state: FutureState) -> Any:
    """Waits; the response message. Raises the error."""
    if not state.ready:
        state.wait(-1.0)
    if state.errnum:
        state.raise_error()
    return state.value


def answer(state: FutureState, *members: tuple[str, type]) -> Any:
    """The object that a response holds. Raises OSError(EPROTO) without these members, of these types."""
    message = wait(state)
    if message is None:
        raise local_error(errno.EINVAL)  # no future of an RPC
    try:
        result = load_text(message.text_bytes() or b"")
    except ValueError:
        raise local_error(errno.EPROTO) from None
    if not isinstance(result, dict) or not all(isinstance(result.get(name), kind) for name, kind in members):
        raise local_error(errno.EPROTO)
    return result


def tree_object(state: FutureState) -> TreeObject:
    """The tree object that a lookup found."""
    found: TreeObject = answer(state, ("val", dict))["val"]
    return found


def is_sentinel(state: FutureState) -> bool:
    """True for the response without payload that follows what an APPEND watch found at first."""
    return wait(state).raw is None


def value(state: FutureState) -> bytes:
    """The bytes of the value that a lookup found; none in a sentinel. Raises OSError(EINVAL) for anything else."""
    message = state.value if state.ready and not state.errnum else wait(state)
    raw: bytes | None = message.raw
    if raw is None:
        return b""
    start, end = len(_VALUE_HEAD), len(raw) - len(_VALUE_TAIL)
    if raw.endswith(_VALUE_TAIL) and raw.startswith(_VALUE_HEAD) and raw.find(b'"', start) == end:
        try:
            return a2b_base64(raw[start:end], strict_mode=True)
        except ValueError:
            raise local_error(errno.EPROTO) from None
    return treeobj.data_of(tree_object(state))


def listing(state: RpcState, rootref: str | None = None) -> DirState:
    """The listing that a lookup with READDIR found."""
    found = tree_object(state)
    if found.get("type") != "dir" or not isinstance(found.get("data"), dict):
        raise local_error(errno.EINVAL)
    return DirState(state.ctx, state.aux, found["data"], rootref)


def link(state: FutureState) -> tuple[str | None, str]:
    """(namespace, target) of the link that a lookup with READLINK found."""
    found = tree_object(state)
    if found.get("type") != "symlink" or not isinstance(found.get("data"), dict):
        raise local_error(errno.EINVAL)
    return found["data"].get("namespace"), found["data"]["target"]


def commit(ctx: FluxT, namespace: str | None, flags: int, txn: Txn) -> RpcState:
    """Sends a transaction; the response has `rootref` and `rootseq`."""
    return ctx.rpc(b"kvs.commit", txn.encode(namespace_of(namespace), flags), FLUX_NODEID_ANY, 0)


def getroot(ctx: FluxT, namespace: str | None, flags: int | None = 0) -> RpcState:
    """Asks for the root: `rootref`, `rootseq` and `owner` of a namespace."""
    request: dict[str, Any] = {"namespace": namespace_of(namespace)}
    if flags is not None:
        request["flags"] = flags
    return ctx.rpc(b"kvs.getroot", dump_payload(request), FLUX_NODEID_ANY, 0)


def wait_version(ctx: FluxT, namespace: str | None, version: int) -> RpcState:
    """Asks to be told when the namespace has got to this sequence number."""
    request = {"rootseq": version, "namespace": namespace_of(namespace)}
    return ctx.rpc(b"kvs.wait-version", dump_payload(request), FLUX_NODEID_ANY, 0)


def root_reference(state: FutureState) -> str:
    """The root's blobref, of getroot, commit and wait_version."""
    ref: str = answer(state, ("rootref", str))["rootref"]
    return ref


def root_sequence(state: FutureState) -> int:
    """The root's sequence number, of getroot, commit and wait_version."""
    sequence: int = answer(state, ("rootseq", int))["rootseq"]
    return sequence


def empty_root(hash_name: str) -> str:
    """The root of a namespace without keys."""
    return treeobj.blobref(treeobj.EMPTY_DIR, hash_name)


def namespace_create(ctx: FluxT, namespace: str, rootref: str, owner: int, flags: int) -> RpcState:
    """Asks for a new namespace. Raises OSError(EINVAL) for flags: there are none."""
    if flags:
        raise local_error(errno.EINVAL)
    request = {"namespace": namespace, "rootref": rootref, "owner": owner, "flags": flags}
    return ctx.rpc(b"kvs.namespace-create", dump_payload(request), 0, 0)


def namespace_remove(ctx: FluxT, namespace: str) -> RpcState:
    """Asks for the end of a namespace."""
    return ctx.rpc(b"kvs.namespace-remove", dump_payload({"namespace": namespace}), 0, 0)


def namespace_list(ctx: FluxT) -> RpcState:
    """Asks for the namespaces that are known on the rank connected to."""
    return ctx.rpc(b"kvs.namespace-list", None, FLUX_NODEID_ANY, 0)


def namespaces(state: FutureState) -> list[dict[str, Any]]:
    """What `namespace_list` has found: dicts of `namespace`, `owner` and `flags`."""
    found: list[dict[str, Any]] = answer(state, ("namespaces", list))["namespaces"]
    return found
