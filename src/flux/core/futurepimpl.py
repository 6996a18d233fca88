"""`Future.pimpl` and `RPC.pimpl`: functions about futures with the future implied (spec 02, 9.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flux.core.ffi import CType
from flux.core.inner import ffi, lib
from flux.wrapper import Wrapper

if TYPE_CHECKING:
    from flux.future import Future


class FuturePimpl(Wrapper):
    """The functions `flux_future_*`. `handle` is the future's own: setting it here sets it there."""

    ffi = ffi
    lib = lib
    match = CType("flux_future_t *")
    prefixes: tuple[str, ...] = ("flux_future_",)

    def __init__(self, future: Future) -> None:
        self._future = future

    @property
    def handle(self) -> Any:
        """The opaque future; None once destroyed."""
        return self._future.handle

    @handle.setter
    def handle(self, handle: Any) -> None:
        self._future.handle = handle

    def __exit__(self, type_arg: object, value: object, unused: object) -> None:
        self._future.__exit__(type_arg, value, unused)


class RpcPimpl(FuturePimpl):
    """The functions `flux_rpc_*`, then `flux_future_*`."""

    prefixes = ("flux_rpc_", "flux_future_")
