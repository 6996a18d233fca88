"""Flux for Python: handles, RPC, events, KVS and jobs of a Flux instance (spec 02, section 1).

    import flux
    h = flux.Flux()
    print(h.get_size(), flux.kvs.get(h, "resource.R"))

Importing needs no instance and starts nothing. What most programs use is loaded at once; the other submodules
load when they are first named, so `import flux` is all that is needed for any of them.

Other distributions may add modules to this package: every directory `flux` on `sys.path` is part of it.
"""

# No `from __future__ import annotations` here: it would leave a name in the package.
import os as _os
import sys as _sys

# What pkgutil.extend_path would do; importing pkgutil takes a tenth of what `import flux` may.
__path__ = list(__path__)
for _entry in _sys.path:
    _entry = _os.path.join(_entry, "flux") if isinstance(_entry, str) else ""
    if _entry not in __path__ and _os.path.isdir(_entry):
        __path__.append(_entry)
del _os, _sys, _entry

import flux.core.inner  # noqa: E402 - the path must be complete before submodules are looked for
import flux.core.watchers  # noqa: E402
import flux.utils  # noqa: E402, F401
from flux import constants, core, future, message, rpc, util, wrapper  # noqa: E402, F401
from flux.core.handle import Flux  # noqa: E402

__all__ = ["Flux", "constants", "core", "kvs", "rpc"]


def __getattr__(name: str) -> object:
    if not name.startswith("__"):
        from importlib import import_module

        full = f"{__name__}.{name}"
        try:
            return import_module(full)
        except ModuleNotFoundError as exc:
            if exc.name != full:
                raise
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
