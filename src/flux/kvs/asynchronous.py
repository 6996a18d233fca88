"""The KVS under asyncio: what `AsyncFlux.kvs` is.

    async with flux.aio.connect() as h:
        await h.kvs.put("results.best", {"score": 0.93})
        print(await h.kvs.get("results.best"))
        async with h.kvs.transaction() as txn:              # several changes, all or none
            txn.put("a", 1)
            txn.unlink("b")
        async for value in h.kvs.watch("results.best"):
            ...

Differences from the functions of `flux.kvs`, which wait: tasks share a handle, so nothing is staged in it. A change
is committed by the call that makes it, or is part of a `transaction`, which an exception in its block gives up.
Namespaces, flags and errors are those of `flux.kvs`; errors have the service's text.
"""

from __future__ import annotations

import errno
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from flux.constants import (
    FLUX_KVS_APPEND,
    FLUX_KVS_READDIR,
    FLUX_KVS_READLINK,
    FLUX_KVS_WAITCREATE,
    FLUX_KVS_WATCH,
    FLUX_KVS_WATCH_FULL,
    FLUX_KVS_WATCH_UNIQ,
)
from flux.core import kvs_rpc
from flux.core.future_state import RpcState
from flux.core.kvs_dir import DirState
from flux.core.kvs_txn import Txn
from flux.future import Future
from flux.kvs.namespaces import checkpoints
from flux.kvs.transactions import KVSTxn
from flux.kvs.values import decode_value, encode_value, key_text

if TYPE_CHECKING:
    from flux.aio import AsyncFlux


class AsyncKVS:
    """The KVS of the instance that `owner` is connected to."""

    def __init__(self, owner: AsyncFlux) -> None:
        self._owner = owner

    async def _wait(self, state: RpcState) -> RpcState:
        await Future(state)
        return state

    async def _lookup(self, key: str | bytes, namespace: str | None, flags: int) -> RpcState:
        return await self._wait(kvs_rpc.lookup(self._owner.flux.core, namespace, flags, key_text(key)))

    # Reading.

    async def get(self, key: str | bytes, namespace: str | None = None) -> Any:
        """The value of a key, decoded; None for an empty one. IsADirectoryError for a directory: see `list_dir`."""
        return decode_value(await self.get_raw(key, namespace))

    async def get_raw(self, key: str | bytes, namespace: str | None = None) -> bytes:
        """The value of a key, as the bytes it is."""
        return kvs_rpc.value(await self._lookup(key, namespace, 0))

    async def list_dir(self, key: str | bytes = ".", namespace: str | None = None) -> tuple[list[str], list[str]]:
        """(files, directories): the names in a directory, sorted. Raises OSError ENOENT, ENOTDIR."""
        listing = await self._listing(key, namespace)
        names = listing.names()
        return [n for n in names if not listing.is_dir(n)], [n for n in names if listing.is_dir(n)]

    async def _listing(self, key: str | bytes, namespace: str | None) -> DirState:
        return kvs_rpc.listing(await self._lookup(key, namespace, FLUX_KVS_READDIR))

    async def readlink(self, key: str | bytes, namespace: str | None = None) -> tuple[str | None, str]:
        """(namespace, target) of a link; namespace None: the link's own. Raises OSError(EINVAL) for no link."""
        return kvs_rpc.link(await self._lookup(key, namespace, FLUX_KVS_READLINK))

    async def exists(self, key: str | bytes, namespace: str | None = None) -> bool:
        """True if there is a value or a directory at a key, or a link that leads to one."""
        try:
            await self._lookup(key, namespace, 0)
        except (FileNotFoundError, IsADirectoryError) as exc:
            return exc.errno == errno.EISDIR
        return True

    async def isdir(self, key: str | bytes, namespace: str | None = None) -> bool:
        """True if there is a directory at a key, or a link that leads to one."""
        try:
            await self._lookup(key, namespace, FLUX_KVS_READDIR)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    async def watch(
        self,
        key: str | bytes,
        namespace: str | None = None,
        waitcreate: bool = False,
        uniq: bool = False,
        full: bool = False,
    ) -> AsyncGenerator[Any]:
        """The value of a key now, and after each commit to it: an async iterator.

        Args:
            waitcreate: wait for a key that is not there yet, rather than raise ENOENT.
            uniq, full: as for `flux.kvs.kvs_watch_async`.

        The watch ends with the loop over it: by `break`, or an error such as the removal of the key.
        """
        flags = FLUX_KVS_WATCH
        flags |= FLUX_KVS_WAITCREATE if waitcreate else 0
        flags |= FLUX_KVS_WATCH_UNIQ if uniq else 0
        flags |= FLUX_KVS_WATCH_FULL if full else 0
        state = kvs_rpc.lookup(self._owner.flux.core, namespace, flags, key_text(key))
        future = Future(state)
        try:
            while True:
                try:
                    await future
                except OSError as exc:
                    if exc.errno == errno.ENODATA:
                        return
                    raise
                value = decode_value(kvs_rpc.value(state))
                future.reset()
                yield value
        finally:
            if not state.done:
                # A connection that is lost or closed has ended the watch by that.
                with suppress(OSError):
                    kvs_rpc.cancel_lookup(state)

    # Changing.

    async def put(
        self,
        key: str | bytes,
        value: Any,
        namespace: str | None = None,
        flags: int = 0,
        raw: bool = False,
    ) -> None:
        """Puts a value, and returns when it can be read. Arguments as of `flux.kvs.put` and `commit`."""
        txn = KVSTxn()
        txn.put(key, value, raw)
        await self.commit(txn, flags, namespace)

    async def put_all(self, values: Mapping[str, Any], namespace: str | None = None, flags: int = 0) -> None:
        """Puts several values in one transaction."""
        txn = KVSTxn()
        for key, value in values.items():
            txn.put(key, value)
        await self.commit(txn, flags, namespace)

    async def append(self, key: str | bytes, value: Any, namespace: str | None = None, flags: int = 0) -> None:
        """Adds to the value of a key: str as its UTF-8, bytes as they are, anything else as JSON."""
        data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else encode_value(value)
        txn = Txn()
        txn.put(key_text(key), data, FLUX_KVS_APPEND)
        await self.commit(txn, flags, namespace)

    async def mkdir(self, key: str | bytes, namespace: str | None = None, flags: int = 0) -> None:
        """Makes an empty directory, in the place of whatever is there."""
        txn = KVSTxn()
        txn.mkdir(key)
        await self.commit(txn, flags, namespace)

    async def unlink(self, key: str | bytes, namespace: str | None = None, flags: int = 0) -> None:
        """Removes a key, with all that is below it; no error if it is not there."""
        txn = KVSTxn()
        txn.unlink(key)
        await self.commit(txn, flags, namespace)

    async def symlink(
        self, key: str | bytes, target: str | bytes, namespace: str | None = None, flags: int = 0
    ) -> None:
        """Makes a link at `key` that leads to the key `target`."""
        txn = KVSTxn()
        txn.symlink(key, target)
        await self.commit(txn, flags, namespace)

    async def commit(self, txn: KVSTxn | Txn, flags: int = 0, namespace: str | None = None) -> tuple[str, int]:
        """Commits a transaction; (blobref, sequence) of the root that it has made. Does not clear it.

        Args:
            namespace: None: the transaction's own, if it has one.
            flags: as of `flux.kvs.commit`.
        """
        if isinstance(txn, KVSTxn):
            namespace = namespace or txn.namespace
            txn = txn.txn
        state = await self._wait(kvs_rpc.commit(self._owner.flux.core, namespace, flags, txn))
        return kvs_rpc.root_reference(state), kvs_rpc.root_sequence(state)

    @asynccontextmanager
    async def transaction(self, path: str = ".", namespace: str | None = None, flags: int = 0) -> AsyncIterator[KVSTxn]:
        """A transaction for `async with`: committed at the end of the block, unless that raises."""
        txn = KVSTxn(None, path, namespace)
        yield txn
        await self.commit(txn, flags)

    # Roots, namespaces, checkpoints.

    async def getroot(self, namespace: str | None = None) -> dict[str, Any]:
        """The root of a namespace: `rootref`, `rootseq`, `owner` and more."""
        state = await self._wait(kvs_rpc.getroot(self._owner.flux.core, namespace))
        root: dict[str, Any] = kvs_rpc.answer(state, ("rootref", str), ("rootseq", int))
        return root

    async def wait_version(self, version: int, namespace: str | None = None) -> None:
        """Returns when this rank has got to a sequence number, such as another program's `commit` gave it."""
        await self._wait(kvs_rpc.wait_version(self._owner.flux.core, namespace, version))

    async def namespace_create(self, namespace: str | bytes, owner: int = -1) -> None:
        """Makes an empty namespace; `owner` may use it besides the instance owner. Raises OSError(EEXIST)."""
        root = kvs_rpc.empty_root(await self._owner.attr_get("content.hash"))
        await self._wait(kvs_rpc.namespace_create(self._owner.flux.core, key_text(namespace), root, owner, 0))

    async def namespace_remove(self, namespace: str | bytes) -> None:
        """Removes a namespace; one that there is not is fine. Raises OSError(ENOTSUP) for ``primary``."""
        await self._wait(kvs_rpc.namespace_remove(self._owner.flux.core, key_text(namespace)))

    async def namespace_list(self) -> list[str]:
        """The names of the namespaces that are known on the rank connected to."""
        state = await self._wait(kvs_rpc.namespace_list(self._owner.flux.core))
        return [entry["namespace"] for entry in kvs_rpc.namespaces(state)]

    async def checkpoint_lookup(self) -> list[dict[str, Any]]:
        """The checkpoints, the newest first: see `flux.kvs.kvs_checkpoint_lookup`."""
        return checkpoints(await self._owner.rpc("content.checkpoint-get"))
