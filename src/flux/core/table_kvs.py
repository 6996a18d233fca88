"""The functions about the KVS: `flux_kvs_*`, `flux_kvsdir_*`, `flux_kvsitr_*` (spec 05, 12.6)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

from flux.constants import FLUX_KVS_TREEOBJ
from flux.core import kvs_rpc, treeobj
from flux.core.ffi import CData, CType, Pointer, char_pointer, ffi
from flux.core.flux_t import FluxT
from flux.core.future_state import FutureState, RpcState
from flux.core.kinds import FUTURE, HANDLE, INT, KVSDIR, KVSITR, OUT, OWNER, POINTER, TEXT, TXN, UINT64, function
from flux.core.kvs_dir import DirCursor, DirState
from flux.core.kvs_txn import Txn
from flux.core.table_message import store
from flux.wrapper import local_error

_VOID_POINTER = CType("void *", CType("void"))


def _text(value: bytes | None) -> str:
    """A text that has to be there. Raises OSError(EINVAL)."""
    if value is None:
        raise local_error(errno.EINVAL)
    return value.decode("utf-8", "surrogateescape")


def _optional(value: bytes | None) -> str | None:
    return None if value is None else _text(value)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _rpc(state: FutureState) -> RpcState:
    if not isinstance(state, RpcState):
        raise local_error(errno.EINVAL)
    return state


# Transactions.


@function("flux_kvs_txn_create")
def _txn_create() -> Txn:
    return Txn()


@function("flux_kvs_txn_destroy", TXN)
@function("flux_kvs_txn_clear", TXN)
def _txn_clear(txn: Txn) -> None:
    txn.clear()


@function("flux_kvs_txn_is_empty", TXN)
def _txn_is_empty(txn: Txn) -> bool:
    return not txn.ops


@function("flux_kvs_txn_put", TXN, INT, TEXT, TEXT, failure=-1)
def _txn_put(txn: Txn, flags: int, key: bytes | None, value: bytes | None) -> int:
    txn.put(_text(key), value or b"", flags)
    return 0


@function("flux_kvs_txn_put_raw", TXN, INT, TEXT, POINTER, UINT64, failure=-1)
def _txn_put_raw(txn: Txn, flags: int, key: bytes | None, data: Any, size: int) -> int:
    if data is None:
        data = b""
    elif isinstance(data, str):
        data = _bytes(data)
    elif isinstance(data, CData):
        data = ffi.buffer(data)
    elif not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"the data of a value must be bytes, not {type(data).__name__}")
    if len(data) < size:
        raise local_error(errno.EINVAL)
    txn.put(_text(key), bytes(data[:size]), flags)
    return 0


@function("flux_kvs_txn_put_treeobj", TXN, INT, TEXT, TEXT, failure=-1)
def _txn_put_treeobj(txn: Txn, flags: int, key: bytes | None, text: bytes | None) -> int:
    txn.put_treeobj(_text(key), _text(text), flags)
    return 0


@function("flux_kvs_txn_mkdir", TXN, INT, TEXT, failure=-1)
def _txn_mkdir(txn: Txn, flags: int, key: bytes | None) -> int:
    txn.mkdir(_text(key), flags)
    return 0


@function("flux_kvs_txn_unlink", TXN, INT, TEXT, failure=-1)
def _txn_unlink(txn: Txn, flags: int, key: bytes | None) -> int:
    txn.unlink(_text(key), flags)
    return 0


@function("flux_kvs_txn_symlink", TXN, INT, TEXT, TEXT, TEXT, failure=-1)
def _txn_symlink(txn: Txn, flags: int, key: bytes | None, namespace: bytes | None, target: bytes | None) -> int:
    txn.symlink(_text(key), _optional(namespace), _text(target), flags)
    return 0


@function("flux_kvs_commit", HANDLE, TEXT, INT, TXN)
def _commit(ctx: FluxT, namespace: bytes | None, flags: int, txn: Txn) -> FutureState:
    return kvs_rpc.commit(ctx, _optional(namespace), flags, txn)


# Lookups.


@function("flux_kvs_lookup", HANDLE, TEXT, INT, TEXT)
def _lookup(ctx: FluxT, namespace: bytes | None, flags: int, key: bytes | None) -> FutureState:
    return kvs_rpc.lookup(ctx, _optional(namespace), flags, _text(key))


@function("flux_kvs_lookupat", HANDLE, INT, TEXT, TEXT)
def _lookupat(ctx: FluxT, flags: int, key: bytes | None, root: bytes | None) -> FutureState:
    return kvs_rpc.lookup_at(ctx, flags, _text(key), _text(root))


@function("flux_kvs_lookup_get", FUTURE, OUT, failure=-1)
def _lookup_get(state: FutureState, out: Any) -> int:
    return store(out, char_pointer(kvs_rpc.value(state) or None))


@function("flux_kvs_lookup_get_raw", FUTURE, OUT, OUT, failure=-1)
def _lookup_get_raw(state: FutureState, out: Any, size: Any) -> int:
    data = kvs_rpc.value(state)
    store(size, len(data))
    return store(out, Pointer(_VOID_POINTER, data) if data else ffi.NULL)


@function("flux_kvs_lookup_get_treeobj", FUTURE, OUT, failure=-1)
def _lookup_get_treeobj(state: FutureState, out: Any) -> int:
    return store(out, char_pointer(treeobj.encode_bytes(kvs_rpc.tree_object(state))))


@function("flux_kvs_lookup_get_dir", FUTURE, OUT, failure=-1)
def _lookup_get_dir(state: FutureState, out: Any) -> int:
    return store(out, kvs_rpc.listing(_rpc(state)))


@function("flux_kvs_lookup_get_symlink", FUTURE, OUT, OUT, failure=-1)
def _lookup_get_symlink(state: FutureState, namespace: Any, target: Any) -> int:
    found, key = kvs_rpc.link(state)
    store(namespace, ffi.NULL if found is None else char_pointer(_bytes(found)))
    return store(target, char_pointer(_bytes(key)))


@function("flux_kvs_lookup_get_key", FUTURE)
def _lookup_get_key(state: FutureState) -> bytes:
    if not isinstance(state.aux, str):
        raise local_error(errno.EINVAL)
    return _bytes(state.aux)


@function("flux_kvs_lookup_cancel", FUTURE, failure=-1)
def _lookup_cancel(state: FutureState) -> int:
    kvs_rpc.cancel_lookup(_rpc(state))
    return 0


# Roots.


@function("flux_kvs_getroot", HANDLE, TEXT, INT)
def _getroot(ctx: FluxT, namespace: bytes | None, flags: int) -> FutureState:
    if flags:
        raise local_error(errno.EINVAL)
    return kvs_rpc.getroot(ctx, _optional(namespace), flags)


@function("flux_kvs_getroot_get_treeobj", FUTURE, OUT, failure=-1)
@function("flux_kvs_commit_get_treeobj", FUTURE, OUT, failure=-1)
def _root_treeobj(state: FutureState, out: Any) -> int:
    root = treeobj.dirref(kvs_rpc.root_reference(state))
    return store(out, char_pointer(treeobj.encode_bytes(root)))


@function("flux_kvs_getroot_get_blobref", FUTURE, OUT, failure=-1)
@function("flux_kvs_commit_get_rootref", FUTURE, OUT, failure=-1)
def _root_blobref(state: FutureState, out: Any) -> int:
    return store(out, char_pointer(_bytes(kvs_rpc.root_reference(state))))


@function("flux_kvs_getroot_get_sequence", FUTURE, OUT, failure=-1)
@function("flux_kvs_commit_get_sequence", FUTURE, OUT, failure=-1)
def _root_sequence(state: FutureState, out: Any) -> int:
    return store(out, kvs_rpc.root_sequence(state))


@function("flux_kvs_getroot_get_owner", FUTURE, OUT, failure=-1)
def _root_owner(state: FutureState, out: Any) -> int:
    return store(out, kvs_rpc.answer(state, ("owner", int))["owner"] & 0xFFFFFFFF)


@function("flux_kvs_get_version", HANDLE, TEXT, OUT, failure=-1)
def _get_version(ctx: FluxT, namespace: bytes | None, out: Any) -> int:
    return store(out, kvs_rpc.root_sequence(kvs_rpc.getroot(ctx, _optional(namespace), None)))


@function("flux_kvs_wait_version", HANDLE, TEXT, INT, failure=-1)
def _wait_version(ctx: FluxT, namespace: bytes | None, version: int) -> int:
    kvs_rpc.wait(kvs_rpc.wait_version(ctx, _optional(namespace), version))
    return 0


# Namespaces.


@function("flux_kvs_namespace_create", HANDLE, TEXT, OWNER, INT)
def _namespace_create(ctx: FluxT, namespace: bytes | None, owner: int, flags: int) -> FutureState:
    root = kvs_rpc.empty_root(ctx.attr_get("content.hash"))
    return kvs_rpc.namespace_create(ctx, _text(namespace), root, owner, flags)


@function("flux_kvs_namespace_create_with", HANDLE, TEXT, TEXT, OWNER, INT)
def _namespace_create_with(
    ctx: FluxT, namespace: bytes | None, root: bytes | None, owner: int, flags: int
) -> FutureState:
    return kvs_rpc.namespace_create(ctx, _text(namespace), _text(root), owner, flags)


@function("flux_kvs_namespace_remove", HANDLE, TEXT)
def _namespace_remove(ctx: FluxT, namespace: bytes | None) -> FutureState:
    return kvs_rpc.namespace_remove(ctx, _text(namespace))


# Copies.

#: Puts a tree object somewhere, and removes what it was the copy of: each returns the future of a commit.
_Step = Callable[[FluxT, str], RpcState]


def _steps(ctx: FluxT, namespace: str | None, key: str, steps: tuple[_Step, ...]) -> FutureState:
    """A future that is fulfilled when an entry has been read and each step with it has been done."""
    future = FutureState()
    future.ctx = ctx

    def begin() -> None:
        # Where the future is waited for, what it waits for is on the view of the connection that the wait uses.
        view = future.current or ctx
        run(kvs_rpc.lookup(view, namespace, FLUX_KVS_TREEOBJ, key), view, None, steps)

    def run(request: RpcState, view: FluxT, text: str | None, rest: tuple[_Step, ...]) -> None:
        def answered() -> None:
            found = text
            if request.errnum:
                future.fulfil(None, request.errnum, request.errtext)
                return
            try:
                if found is None:
                    found = treeobj.encode(kvs_rpc.tree_object(request))
                if rest:
                    run(rest[0](view, found), view, found, rest[1:])
                    return
            except OSError as exc:
                future.fulfil(None, exc.errno or errno.EIO, exc.strerror)
                return
            future.fulfil(None)

        request.then(answered, -1.0)

    future.init = begin
    return future


def _put_step(namespace: str | None, key: str, flags: int) -> _Step:
    def step(ctx: FluxT, text: str) -> RpcState:
        txn = Txn()
        txn.put_treeobj(key, text)
        return kvs_rpc.commit(ctx, namespace, flags, txn)

    return step


def _unlink_step(namespace: str | None, key: str, flags: int) -> _Step:
    def step(ctx: FluxT, text: str) -> RpcState:
        txn = Txn()
        txn.unlink(key)
        return kvs_rpc.commit(ctx, namespace, flags, txn)

    return step


@function("flux_kvs_copy", HANDLE, TEXT, TEXT, TEXT, TEXT, INT)
def _copy(
    ctx: FluxT, src_ns: bytes | None, src: bytes | None, dst_ns: bytes | None, dst: bytes | None, flags: int
) -> FutureState:
    steps = (_put_step(_optional(dst_ns), _text(dst), flags),)
    return _steps(ctx, _optional(src_ns), _text(src), steps)


@function("flux_kvs_move", HANDLE, TEXT, TEXT, TEXT, TEXT, INT)
def _move(
    ctx: FluxT, src_ns: bytes | None, src: bytes | None, dst_ns: bytes | None, dst: bytes | None, flags: int
) -> FutureState:
    source = _optional(src_ns)
    steps = (_put_step(_optional(dst_ns), _text(dst), flags), _unlink_step(source, _text(src), flags))
    return _steps(ctx, source, _text(src), steps)


# Listings.


@function("flux_kvsdir_create", HANDLE, TEXT, TEXT, TEXT)
def _kvsdir_create(ctx: FluxT, rootref: bytes | None, key: bytes | None, text: bytes | None) -> DirState:
    found = treeobj.decode(_text(text))
    if found["type"] != "dir":
        raise local_error(errno.EINVAL)
    return DirState(ctx, _text(key), found["data"], _optional(rootref))


@function("flux_kvsdir_copy", KVSDIR)
def _kvsdir_copy(listing: DirState) -> DirState:
    return listing  # it never changes


@function("flux_kvsdir_incref", KVSDIR)
@function("flux_kvsdir_destroy", KVSDIR)
def _kvsdir_count(listing: DirState) -> None:
    """Python counts the references by itself."""


@function("flux_kvsdir_get_size", KVSDIR, failure=-1)
def _kvsdir_get_size(listing: DirState) -> int:
    return len(listing.entries)


@function("flux_kvsdir_exists", KVSDIR, TEXT)
def _kvsdir_exists(listing: DirState, name: bytes | None) -> bool:
    return listing.exists(_text(name))


@function("flux_kvsdir_isdir", KVSDIR, TEXT)
def _kvsdir_isdir(listing: DirState, name: bytes | None) -> bool:
    return listing.is_dir(_text(name))


@function("flux_kvsdir_issymlink", KVSDIR, TEXT)
def _kvsdir_issymlink(listing: DirState, name: bytes | None) -> bool:
    return listing.is_symlink(_text(name))


@function("flux_kvsdir_key", KVSDIR)
def _kvsdir_key(listing: DirState) -> bytes:
    return _bytes(listing.key)


@function("flux_kvsdir_key_at", KVSDIR, TEXT)
def _kvsdir_key_at(listing: DirState, name: bytes | None) -> bytes:
    return _bytes(listing.key_at(_text(name)))


@function("flux_kvsdir_handle", KVSDIR)
def _kvsdir_handle(listing: DirState) -> FluxT:
    return listing.ctx


@function("flux_kvsdir_rootref", KVSDIR)
def _kvsdir_rootref(listing: DirState) -> bytes | None:
    return None if listing.rootref is None else _bytes(listing.rootref)


@function("flux_kvsitr_create", KVSDIR)
def _kvsitr_create(listing: DirState) -> DirCursor:
    return DirCursor(listing)


@function("flux_kvsitr_destroy", KVSITR)
def _kvsitr_destroy(cursor: DirCursor) -> None:
    """Python counts the references by itself."""


@function("flux_kvsitr_next", KVSITR)
def _kvsitr_next(cursor: DirCursor) -> bytes | None:
    name = cursor.next()
    return None if name is None else _bytes(name)


@function("flux_kvsitr_rewind", KVSITR)
def _kvsitr_rewind(cursor: DirCursor) -> None:
    cursor.rewind()
