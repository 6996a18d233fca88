"""Storing many blobs from a command, some at a time (spec 05, section 2)."""

from __future__ import annotations

from collections import deque

from flux.cli.tool import Failure, text_of
from flux.core import content_rpc, kvs_rpc, treeobj
from flux.core.flux_t import FluxT
from flux.core.future_state import RpcState


class BlobStore:
    """Stores what it is called with, and returns its blobref without waiting for that.

    Args:
        ctx: of a handle.
        hash_name: the attribute content.hash.
        limit: how many may be under way.
        backing: store in the backing store, past the cache.

    Raises Failure when one of those before could not be stored.
    """

    def __init__(self, ctx: FluxT, hash_name: str, limit: int = 64, backing: bool = False) -> None:
        self._ctx = ctx
        self._hash = hash_name
        self._limit = limit
        self._backing = backing
        self._under_way: deque[RpcState] = deque()

    def __call__(self, data: bytes) -> str:
        if len(self._under_way) >= self._limit:
            self._settle()
        self._under_way.append(content_rpc.store(self._ctx, data, self._backing))
        return treeobj.blobref(data, self._hash)

    def _settle(self) -> None:
        try:
            kvs_rpc.wait(self._under_way.popleft())
        except OSError as exc:
            raise Failure(f"error storing blob: {text_of(exc)}") from None

    def finish(self) -> None:
        """Waits for those that are under way. Raises Failure."""
        while self._under_way:
            self._settle()
