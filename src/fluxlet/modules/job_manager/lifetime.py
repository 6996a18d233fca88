"""When the instance itself ends: the expiration of its resources, followed as it changes (spec 06, 7.2 and 10.4)."""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Callable
from time import time

import msgspec

from flux.constants import FLUX_NODEID_ANY, FLUX_RPC_STREAMING
from flux.core.future_state import RpcState
from flux.core.handle import Flux

_REQUEST = b'{"key":"resource.R","namespace":"primary","flags":12}\0'  # WATCH, WAITCREATE


class _Execution(msgspec.Struct):
    expiration: float = 0.0


class _R(msgspec.Struct):
    execution: _Execution


class _Value(msgspec.Struct):
    data: str


class _Response(msgspec.Struct):
    val: _Value


_response = msgspec.json.Decoder(_Response).decode
_resources = msgspec.json.Decoder(_R).decode


class Lifetime:
    """See the module.

    Args:
        handle: of the module.
        changed: called with a new expiration, in seconds since the epoch; 0: none.
    """

    def __init__(self, handle: Flux, changed: Callable[[float], None]) -> None:
        self.expiration = 0.0
        self._changed = changed
        self._state: RpcState = handle.core.rpc(b"kvs-watch.lookup", _REQUEST, FLUX_NODEID_ANY, FLUX_RPC_STREAMING)
        self._state.add_hook(self._heard)
        self._heard()

    @property
    def left(self) -> float | None:
        """Seconds that are left; None: there is no end."""
        return self.expiration - time() if self.expiration else None

    def _heard(self) -> None:
        state = self._state
        while state.ready:
            if state.errnum:
                # There is no kvs-watch, or not any more: nothing is known of an end.
                self.stop()
                return
            raw = state.value.raw
            state.reset()
            try:
                expiration = _resources(a2b_base64(_response(raw[:-1]).val.data)).execution.expiration
            except (msgspec.MsgspecError, ValueError):
                continue  # what is no R has no expiration
            if expiration != self.expiration:
                self.expiration = expiration
                self._changed(expiration)

    def stop(self) -> None:
        """Follows no more."""
        self._state.remove_hook(self._heard)
