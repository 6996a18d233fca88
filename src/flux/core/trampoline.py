"""How early releases entered a broker module written in Python (spec 02, section 16; obsolete).

Modules of today are files that the broker loads: see `flux.brokermod`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from flux.core.ffi import ffi
from flux.core.handle import Flux


def mod_main_trampoline(name: str, int_handle: Any, args: Sequence[str]) -> Any:
    """Runs ``flux.modules.<name>.mod_main(handle, *args)`` and returns what it returns.

    Args:
        int_handle: an opaque handle, or its address as ``ffi.cast("uintptr_t", handle)`` gives it.
        args: the module's arguments.

    Raises ModuleNotFoundError if there is no such module, ValueError for an address of no handle.
    """
    address = int_handle if isinstance(int_handle, int) else ffi.cast("uintptr_t", int_handle)
    opaque = ffi.cast("flux_t *", address)
    module = import_module(f"flux.modules.{name}")
    return module.mod_main(Flux(handle=opaque.incref()), *args)
