"""The key-value store of a Flux instance (spec 05, section 12).

    import flux, flux.kvs

    h = flux.Flux()
    flux.kvs.put(h, "results.best", {"score": 0.93})
    flux.kvs.commit(h)
    flux.kvs.get(h, "results.best")                     # {'score': 0.93}, in any process of the instance

What is put is staged, and takes effect with the commit: all of it, or nothing. `KVSTxn` is a transaction of its own,
`KVSDir` a directory as a mapping, `kvs_watch_async` follows a key. Under asyncio the same is at `AsyncFlux.kvs`
(`flux.kvs.asynchronous`).

Everywhere: `namespace` None means $FLUX_KVS_NAMESPACE, else ``primary``. Errors are OSError: FileNotFoundError for
a key that is not there, IsADirectoryError, PermissionError, ENOTSUP for a namespace that there is not.
"""

from flux.core.inner import ffi, lib
from flux.kvs.directory import KVSDir, walk
from flux.kvs.lookups import KVSLookupFuture, exists, get, get_async, get_dir, get_key_direct, isdir, join
from flux.kvs.namespaces import kvs_checkpoint_lookup, namespace_create, namespace_list, namespace_remove
from flux.kvs.raw import RAW, KVSWrapper
from flux.kvs.transactions import (
    KVSTxn,
    commit,
    commit_async,
    put,
    put_mkdir,
    put_symlink,
    put_unlink,
)
from flux.kvs.watching import KVSWatchFuture, WatchImplementation, kvs_watch_async

__all__ = [
    "RAW",
    "KVSDir",
    "KVSLookupFuture",
    "KVSTxn",
    "KVSWatchFuture",
    "KVSWrapper",
    "WatchImplementation",
    "commit",
    "commit_async",
    "exists",
    "ffi",
    "get",
    "get_async",
    "get_dir",
    "get_key_direct",
    "isdir",
    "join",
    "kvs_checkpoint_lookup",
    "kvs_watch_async",
    "lib",
    "namespace_create",
    "namespace_list",
    "namespace_remove",
    "put",
    "put_mkdir",
    "put_symlink",
    "put_unlink",
    "walk",
]
