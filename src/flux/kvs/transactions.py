"""Changing keys: staged, then committed (spec 05, 12.1 and 12.3).

A handle has a transaction of its own, in its attribute `aux_txn`, for who does not make one. Rules:

- Staging sends nothing. A commit takes what is staged; the handle's transaction is empty then, whatever comes of it.
- A `KVSTxn` given as `_kvstxn` belongs to the caller: `commit` leaves it as it is.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from flux.core import kvs_rpc
from flux.core.handle import Flux
from flux.core.kvs_txn import Txn
from flux.future import Future
from flux.kvs.values import encode_value, key_text


def _staging(flux_handle: Flux, given: KVSTxn | Txn | None) -> Txn:
    """The transaction to stage in: the one given, or the handle's own, made on first need."""
    if given is not None:
        return given if isinstance(given, Txn) else given.txn
    txn: Txn | None = flux_handle.aux_txn
    if txn is None:
        txn = flux_handle.aux_txn = Txn()
    return txn


def _raw_bytes(value: str | bytes) -> bytes:
    """A raw value; AttributeError for what is neither str nor bytes, as in the reference."""
    return value if isinstance(value, bytes) else value.encode("utf-8", "surrogateescape")


def put(
    flux_handle: Flux, key: str | bytes, value: Any, _kvstxn: KVSTxn | Txn | None = None, raw: bool = False
) -> None:
    """Stages a value.

    Args:
        value: stored as JSON; bytes as they are.
        raw: store str as its UTF-8, without quotes.
        _kvstxn: a transaction, instead of the handle's.

    Raises TypeError for what JSON does not have, AttributeError for a raw value that is neither str nor bytes,
    OSError(EINVAL) for an empty key.
    """
    data = _raw_bytes(value) if raw else encode_value(value)
    _staging(flux_handle, _kvstxn).put(key_text(key), data)


def put_mkdir(flux_handle: Flux, key: str | bytes, _kvstxn: KVSTxn | Txn | None = None) -> None:
    """Stages an empty directory, in the place of whatever is there."""
    _staging(flux_handle, _kvstxn).mkdir(key_text(key))


def put_unlink(flux_handle: Flux, key: str | bytes, _kvstxn: KVSTxn | Txn | None = None) -> None:
    """Stages the removal of a key, with all that is below it."""
    _staging(flux_handle, _kvstxn).unlink(key_text(key))


def put_symlink(flux_handle: Flux, key: str | bytes, target: str | bytes, _kvstxn: KVSTxn | Txn | None = None) -> None:
    """Stages a link at `key` that leads to the key `target`."""
    _staging(flux_handle, _kvstxn).symlink(key_text(key), None, key_text(target))


def commit(
    flux_handle: Flux, flags: int = 0, namespace: str | None = None, _kvstxn: KVSTxn | Txn | None = None
) -> None:
    """Commits what is staged, and waits until it can be read; does nothing if nothing has been staged.

    Args:
        flags: FLUX_KVS_SYNC: return when it would survive a crash; FLUX_KVS_NO_MERGE, FLUX_KVS_TXN_COMPACT.
        _kvstxn: a transaction, instead of the handle's; it is not cleared.

    Raises OSError: nothing has changed then. See `flux.core.kvs_txn` for compaction, spec 05, 6.4 for errors.
    """
    if _kvstxn is None and flux_handle.aux_txn is None:
        return
    commit_async(flux_handle, flags, namespace, _kvstxn).get()


def commit_async(
    flux_handle: Flux, flags: int = 0, namespace: str | None = None, _kvstxn: KVSTxn | Txn | None = None
) -> Future:
    """Sends what is staged, if it is nothing too; returns a future whose get() is that of `commit`."""
    txn = _staging(flux_handle, _kvstxn)
    if _kvstxn is None:
        flux_handle.aux_txn = None
    future = Future(kvs_rpc.commit(kvs_rpc.core_of(flux_handle), namespace, flags, txn))
    future._flux = flux_handle
    return future


class KVSTxn:
    """A transaction.

    Args:
        flux_handle: the handle to commit over.
        path: a directory that keys are in; links' targets are not.
        namespace: the namespace to commit to.

    As a context manager it commits when the block ends: after an exception, too.
    """

    def __init__(self, flux_handle: Flux | None = None, path: str = ".", namespace: str | None = None) -> None:
        self.fhdl = flux_handle
        self.path = path
        self.namespace = namespace
        self.txn = Txn()
        stem = path.rstrip(".")
        self._prefix = f"{stem}." if stem else ""

    def put(self, key: str | bytes, value: Any, raw: bool = False) -> None:
        """Stages a value, as the function `put`."""
        self.txn.put(self._at(key), _raw_bytes(value) if raw else encode_value(value))

    def mkdir(self, key: str | bytes) -> None:
        """Stages an empty directory."""
        self.txn.mkdir(self._at(key))

    def unlink(self, key: str | bytes) -> None:
        """Stages the removal of a key."""
        self.txn.unlink(self._at(key))

    def symlink(self, key: str | bytes, target: str | bytes) -> None:
        """Stages a link at `key` to the key `target`, which is one of the root."""
        self.txn.symlink(self._at(key), None, key_text(target))

    def _at(self, key: str | bytes) -> str:
        text = key_text(key)
        return self._prefix + text if text else ""  # an empty key is none, wherever it would be

    def commit(self, flags: int = 0) -> None:
        """Commits, and waits; nothing is staged then, whatever came of it. Does nothing if nothing was."""
        if self.txn.ops:
            try:
                commit(self._handle(), flags, self.namespace, self)
            finally:
                self.clear()

    def commit_async(self, flags: int = 0) -> Future:
        """Sends what is staged, if it is nothing too; returns the future. Nothing is staged then."""
        try:
            return commit_async(self._handle(), flags, self.namespace, self)
        finally:
            self.clear()

    def _handle(self) -> Flux:
        kvs_rpc.core_of(self.fhdl)  # raises for none
        assert self.fhdl is not None
        return self.fhdl

    def clear(self) -> None:
        """Forgets what is staged."""
        self.txn.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, type_arg: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.commit()
