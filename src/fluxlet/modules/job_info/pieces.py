"""Pieces: a value of the KVS read blob by blob, so that a long log keeps nobody waiting (spec 05, 4.1).

A lookup answers a value whole: a gigabyte of output would be joined, encoded and decoded in one go. Here the references
are looked up, and their blobs loaded one after the other, with pauses in which the broker looks after everybody else.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from flux.constants import FLUX_KVS_TREEOBJ
from flux.core import kvs_rpc
from flux.core.future_state import RpcState
from fluxlet.modules.job_info.reading import Outcome, lookup_payload, outcome

if TYPE_CHECKING:
    from fluxlet.service import Service

#: Bytes between two pauses.
_PAUSE = 256 << 10


class Pieces:
    """One reading of a value.

    Args:
        service: who reads.
        key: in the primary namespace.
        told: called with each piece, or the error that ends it, and with None after the last piece. It returns False
            if it wants no more.
    """

    def __init__(self, service: Service, key: str, told: Callable[[Outcome | None], bool]) -> None:
        self._service = service
        self._key = key
        self._told = told
        self._refs: list[str] = []
        self._next = 0
        self._size = 0
        self._waiting = False
        self._over = False
        self._timer = service.module.reactor.timer(0.0, 0.0, self._resume)

    def read(self) -> None:
        """Begins."""
        self._service.ask(b"kvs.lookup", lookup_payload(self._key, FLUX_KVS_TREEOBJ), self._found)

    def _found(self, state: RpcState) -> None:
        if state.errnum:
            self._told(outcome(state))
            return
        try:
            found = kvs_rpc.tree_object(state)
        except OSError as exc:
            self._told(Outcome(b"", exc.errno or errno.EPROTO, exc.strerror))
            return
        if found["type"] != "valref":
            # A short value, or none at all: the lookup has the words for that.
            self._service.ask(b"kvs.lookup", lookup_payload(self._key), self._whole)
            return
        self._refs = found["data"]
        self._go()

    def _whole(self, state: RpcState) -> None:
        found = outcome(state)
        if self._told(found) and not found.errnum:
            self._told(None)

    def _resume(self) -> None:
        if self._told(Outcome(b"")):  # somebody is still there
            self._go()

    def _go(self) -> None:
        """Loads what is in memory; what is not, and who else is there, is waited for."""
        while self._next < len(self._refs):
            if self._size > _PAUSE:
                self._size = 0
                self._timer.start()
                return
            ref = self._refs[self._next]
            self._next += 1
            self._waiting = True
            self._service.ask(b"content.load", bytes.fromhex(ref.partition("-")[2]), self._loaded)
            if self._waiting:
                self._waiting = False  # the answer goes on
                return
            if self._over:
                return
        self._told(None)

    def _loaded(self, state: RpcState) -> None:
        at_once, self._waiting = self._waiting, False
        found = Outcome(b"", state.errnum, state.errtext) if state.errnum else Outcome(state.value.raw or b"")
        self._size += len(found.value)
        self._over = not self._told(found) or bool(found.errnum)
        if not at_once and not self._over:
            self._go()
