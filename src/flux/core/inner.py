"""The C library as the reference exposes it: `raw`, with Python's conventions, and `lib`, with C's (spec 02, 9.4).

    raw.flux_strerror(2)                 bytes; a failure raises
    lib.flux_get_reactor(h.handle)       opaque; a failure is NULL or -1, with `ffi.errno` set

Nothing is looked up before it is used: most programs never do.
"""

from __future__ import annotations

from typing import Any

from flux.core.ffi import ffi
from flux.wrapper import Wrapper

__all__ = ["Core", "ffi", "lib", "raw"]


class Lib:
    """The functions and constants of the library, as attributes. Unknown names: AttributeError."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("__"):
            from flux.core.dynamic import find

            found = find(name)
            if found is not None:
                return found
        raise AttributeError(f"the Flux library has no '{name}', or fluxlet does not offer it")


lib = Lib()


class Core(Wrapper):
    """The library without any object implied: every function takes all its arguments."""

    def __init__(self) -> None:
        super().__init__(ffi, lib, prefixes=("flux_", "FLUX_"))


raw = Core()
