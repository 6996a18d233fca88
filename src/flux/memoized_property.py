"""`memoized_property`: a property that is computed once per object (spec 02, section 16)."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any


def memoized_property(fget: Callable[[Any], Any]) -> property:
    """A read-only property that calls `fget` when it is first read, and keeps the value in ``_<name>``.

    Deleting that attribute makes the next read compute the value anew. If `fget` raises, nothing is kept.
    """
    kept = f"_{fget.__name__}"

    @wraps(fget)
    def read(self: Any) -> Any:
        try:
            # Not getattr(): a class may define __getattr__, whose answer is no kept value.
            return object.__getattribute__(self, kept)
        except AttributeError:
            pass
        value = fget(self)
        setattr(self, kept, value)
        return value

    return property(read)
