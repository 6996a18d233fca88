"""flux kvs unlink, link, readlink, mkdir, copy and move: what changes entries and not values."""

from __future__ import annotations

import errno
import os

from flux.cli.commands.kvs.common import commit, connect, failure, line
from flux.cli.options import Parsed
from flux.cli.tool import Failure, text_of
from flux.constants import FLUX_KVS_READDIR, FLUX_KVS_READLINK, FLUX_KVS_TREEOBJ
from flux.core import kvs_rpc, treeobj
from flux.core.flux_t import FluxT
from flux.core.kvs_txn import Txn


def unlink_command(parsed: Parsed) -> int:
    """Removes keys, in one transaction; directories only if empty, or with --recursive."""
    txn = Txn()
    with connect() as handle:
        for key in parsed.words:
            try:
                _check_unlink(handle.core, parsed, key)
                txn.unlink(key)
            except FileNotFoundError as exc:
                if not parsed.has("force"):
                    raise _cannot_unlink(key, exc) from None
            except OSError as exc:
                raise _cannot_unlink(key, exc) from None
        commit(handle, parsed, txn)
    return 0


def _cannot_unlink(key: str, error: OSError) -> Failure:
    return Failure(f"cannot unlink '{key}': {text_of(error)}")


def _check_unlink(core: FluxT, parsed: Parsed, key: str) -> None:
    namespace = parsed.value("namespace")
    kind = kvs_rpc.tree_object(kvs_rpc.lookup(core, namespace, FLUX_KVS_TREEOBJ, key))["type"]
    if kind in ("dir", "dirref") and not parsed.has("recursive"):
        listing = kvs_rpc.listing(kvs_rpc.lookup(core, namespace, FLUX_KVS_READDIR, key))
        if listing.entries:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))


def link_command(parsed: Parsed) -> int:
    """Makes a link."""
    target, key = parsed.words
    txn = Txn()
    with connect() as handle:
        try:
            txn.symlink(key, parsed.value("target-namespace"), target)
        except OSError as exc:
            raise failure(key, exc) from None
        commit(handle, parsed, txn)
    return 0


def readlink_command(parsed: Parsed) -> int:
    """Prints where links lead."""
    only_namespace, only_key = parsed.has("namespace-only"), parsed.has("key-only")
    if only_namespace and only_key:
        raise Failure("--namespace-only and --key-only do not go together")
    at = parsed.value("at")
    with connect() as handle:
        for key in parsed.words:
            try:
                if at is None:
                    state = kvs_rpc.lookup(handle.core, parsed.value("namespace"), FLUX_KVS_READLINK, key)
                else:
                    state = kvs_rpc.lookup_at(handle.core, FLUX_KVS_READLINK, key, at)
                namespace, target = kvs_rpc.link(state)
            except OSError as exc:
                raise failure(key, exc) from None
            if only_namespace:
                if namespace is not None:
                    line(namespace)
            else:
                line(target if only_key or namespace is None else f"{namespace}::{target}")
    return 0


def mkdir_command(parsed: Parsed) -> int:
    """Makes empty directories, in one transaction, in the place of whatever is there."""
    txn = Txn()
    with connect() as handle:
        for key in parsed.words:
            try:
                txn.mkdir(key)
            except OSError as exc:
                raise failure(key, exc) from None
        commit(handle, parsed, txn)
    return 0


def copy_command(parsed: Parsed) -> int:
    """Copies an entry: a directory with all that is below it, without reading that."""
    return _copy(parsed, "flux_kvs_copy", False)


def move_command(parsed: Parsed) -> int:
    """Copies an entry and removes the original."""
    return _copy(parsed, "flux_kvs_move", True)


def _copy(parsed: Parsed, what: str, remove: bool) -> int:
    source, destination = parsed.words
    namespace = parsed.value("src-namespace")
    with connect() as handle:
        try:
            found = kvs_rpc.tree_object(kvs_rpc.lookup(handle.core, namespace, FLUX_KVS_TREEOBJ, source))
            txn = Txn()
            txn.put_treeobj(destination, treeobj.encode(found))
            kvs_rpc.wait(kvs_rpc.commit(handle.core, parsed.value("dst-namespace"), 0, txn))
            if remove:
                txn = Txn()
                txn.unlink(source)
                kvs_rpc.wait(kvs_rpc.commit(handle.core, namespace, 0, txn))
        except OSError as exc:
            raise failure(what, exc) from None
    return 0
