"""From a name to what the C library has under it: a function, a constant, or nothing (spec 02, section 9).

The functions are in tables, one file a kind of object, which load with the first name that is looked up.
"""

from __future__ import annotations

from typing import Any

import flux.constants
import flux.core.table_future
import flux.core.table_handle
import flux.core.table_job
import flux.core.table_kvs
import flux.core.table_library
import flux.core.table_message
import flux.core.table_reactor
from flux.core.kinds import FUNCTIONS


def find(name: str) -> Any:
    """The `LibraryFunction` or the integer of exactly this name; None if there is neither."""
    found = FUNCTIONS.get(name)
    if found is not None:
        return found
    return getattr(flux.constants, name, None) if name.startswith("FLUX_") else None
