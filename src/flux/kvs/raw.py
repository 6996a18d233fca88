"""RAW: the C functions `flux_kvs_*`, `flux_kvsdir_*` and `flux_kvsitr_*` with Python's conventions (spec 05, 12.6).

future = RAW.lookup(h, None, 0, "a.b")           # or RAW.flux_kvs_lookup
value = ffi.new("char *[1]")
RAW.lookup_get(future, value)
ffi.string(value[0])
"""

from __future__ import annotations

from flux.core.inner import ffi, lib
from flux.wrapper import Wrapper


class KVSWrapper(Wrapper):
    """The functions about the KVS; none has an argument implied."""


RAW = KVSWrapper(ffi, lib, prefixes=("flux_kvs_", "flux_kvs", "flux_"))
