"""Reading keys (spec 05, 12.1).

Functions that wait raise errors in shape A (``ENOENT: No such file or directory``), futures in shape B, with the
service's words: spec 02, 0.1.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_KVS_READDIR
from flux.core import kvs_rpc
from flux.core.future_state import FutureState
from flux.core.handle import Flux
from flux.future import Future
from flux.kvs.values import decode_value, key_text
from flux.wrapper import as_local_error

if TYPE_CHECKING:
    from flux.core.kvs_dir import DirState
    from flux.kvs.directory import KVSDir
    from flux.kvs.transactions import KVSTxn


class KVSLookupFuture(Future):
    """The future of a lookup; made by `get_async`."""

    def get(self) -> Any:
        """Waits; the value, decoded (spec 05, 12.2). Raises the error: IsADirectoryError for a directory."""
        return decode_value(self.get_raw())

    def get_raw(self) -> bytes:
        """As `get`, but the bytes as they are."""
        return kvs_rpc.value(self._fulfilled())

    def get_treeobj(self) -> dict[str, Any]:
        """As `get`, but the tree object of the response (RFC 11)."""
        return kvs_rpc.tree_object(self._fulfilled())

    def _fulfilled(self) -> FutureState:
        self._result()  # which raises an error, also that of another callback
        state: FutureState = self._state
        return state


def get_async(flux_handle: Flux, key: str | bytes, namespace: str | None = None, flags: int = 0) -> KVSLookupFuture:
    """Asks for the value of a key; returns at once, so that many can be asked for before the first answer.

    Args:
        flags: FLUX_KVS_TREEOBJ, FLUX_KVS_READDIR or FLUX_KVS_READLINK, to be read with `get_treeobj`.
    """
    future = KVSLookupFuture(kvs_rpc.lookup(kvs_rpc.core_of(flux_handle), namespace, flags, key_text(key)))
    future._flux = flux_handle
    return future


def get_key_direct(flux_handle: Flux, key: str | bytes, namespace: str | None = None) -> Any:
    """The value of a key, decoded; None for an empty one.

    Raises OSError: ENOENT, EISDIR, ENOTSUP for an unknown namespace, EINVAL for an empty key.
    """
    state = kvs_rpc.lookup(kvs_rpc.core_of(flux_handle), namespace, 0, key_text(key))
    try:
        return decode_value(kvs_rpc.value(state))
    except OSError as exc:
        raise as_local_error(exc) from None


def get(
    flux_handle: Flux, key: str | bytes, namespace: str | None = None, _kvstxn: KVSTxn | None = None
) -> Any | KVSDir:
    """The value of a key as `get_key_direct`, or a `KVSDir` if it is a directory."""
    try:
        return get_key_direct(flux_handle, key, namespace)
    except IsADirectoryError:
        return get_dir(flux_handle, key, namespace, _kvstxn)


def get_dir(
    flux_handle: Flux, key: str | bytes = ".", namespace: str | None = None, _kvstxn: KVSTxn | None = None
) -> KVSDir:
    """The directory at a key. Raises OSError ENOENT, ENOTDIR, ..."""
    from flux.kvs.directory import KVSDir

    return KVSDir(flux_handle, key, namespace=namespace, _kvstxn=_kvstxn)


def read_directory(flux_handle: Flux, key: str | bytes, namespace: str | None) -> DirState:
    """The listing of a directory. Raises OSError of shape A."""
    state = kvs_rpc.lookup(kvs_rpc.core_of(flux_handle), namespace, FLUX_KVS_READDIR, key_text(key))
    try:
        return kvs_rpc.listing(state)
    except OSError as exc:
        raise as_local_error(exc) from None


def exists(flux_handle: Flux, key: str | bytes, namespace: str | None = None) -> bool:
    """True if there is a value or a directory at a key, or a link that leads to one."""
    return found(kvs_rpc.lookup(kvs_rpc.core_of(flux_handle), namespace, 0, key_text(key)))


def found(state: FutureState) -> bool:
    """Whether a lookup has found something. Raises its other errors, in shape A."""
    try:
        kvs_rpc.wait(state)
    except (FileNotFoundError, IsADirectoryError) as exc:
        return exc.errno == errno.EISDIR
    except OSError as exc:
        raise as_local_error(exc) from None
    return True


def isdir(flux_handle: Flux, key: str | bytes, namespace: str | None = None) -> bool:
    """True if there is a directory at a key, or a link that leads to one."""
    try:
        read_directory(flux_handle, key, namespace)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def join(*args: str) -> str:
    """The parts of a key that are not empty, with dots between them."""
    return ".".join([part for part in args if part])
