"""`IDset.pimpl`: the C functions `idset_*` with the set implied, for programs that call them (spec 02, 9.3).

The opaque handle is the set's `Ranges`. Results are as cffi gives them: texts are bytes, success of an int function
is 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flux.idset.codec import IDSET_INVALID_ID, check_storable, encode_text
from flux.idset.ranges import Ranges
from flux.wrapper import ErrorPrinter, InvalidArguments, Wrapper

if TYPE_CHECKING:
    from flux.idset import IDset

_PREFIX = "idset_"

#: Functions of the C library that make a set and so take none.
_NOT_METHODS = ("create", "decode", "decode_ex")


class IDsetPimpl(Wrapper):
    """Calls on the opaque set of `idset`, whose handle it shares."""

    prefixes = (_PREFIX,)

    def __init__(self, idset: IDset) -> None:
        self._idset = idset

    @property
    def handle(self) -> Any:
        """The opaque set; None once closed. May be set to another set's handle: the two then share their ids."""
        return self._idset.__dict__.get("_ranges")

    @handle.setter
    def handle(self, handle: Any) -> None:
        if handle is None:
            self._idset.__dict__.pop("_ranges", None)
        elif isinstance(handle, Ranges):
            self._idset._ranges = handle
        else:
            raise TypeError(f"expected the handle of an IDset, got {type(handle)}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
        bare = name.removeprefix(_PREFIX)
        if bare in _NOT_METHODS:
            raise AttributeError(f"IDset.pimpl.{name} masks function {_PREFIX}{bare}, which takes no idset")
        if bare != name and bare in type(self).__dict__:
            return getattr(self, bare)
        return ErrorPrinter(name, self.prefixes)

    @property
    def _ids(self) -> Ranges:
        return self._idset._ranges

    def encode(self, flags: int) -> bytes:
        """The text of the set."""
        return encode_text(self._ids, flags).encode()

    def count(self) -> int:
        """The number of ids."""
        return self._ids.count()

    def first(self) -> int:
        """The smallest id, or IDSET_INVALID_ID."""
        return self._idset.first()

    def last(self) -> int:
        """The largest id, or IDSET_INVALID_ID."""
        return self._idset.last()

    def next(self, i: int) -> int:
        """The smallest id > `i`, or IDSET_INVALID_ID."""
        return self._idset.next(i)

    def prev(self, i: int) -> int:
        """The largest id < `i`, or IDSET_INVALID_ID."""
        found = self._ids.before(i)
        return IDSET_INVALID_ID if found is None else found

    def test(self, i: int) -> bool:
        """Is `i` in the set?"""
        return self._idset.test(i)

    def set(self, i: int) -> int:
        """Adds `i`."""
        return self.range_set(i, i)

    def range_set(self, low: int, high: int) -> int:
        """Adds the ids low..high, inclusive, in either order."""
        low, high = sorted((low, high))
        check_storable(high)
        self._ids.set(low, high + 1)
        return 0

    def clear(self, i: int) -> int:
        """Removes `i`."""
        return self.range_clear(i, i)

    def range_clear(self, low: int, high: int) -> int:
        """Removes the ids low..high, inclusive, in either order."""
        low, high = sorted((low, high))
        self._ids.clear(low, high + 1)
        return 0

    def equal(self, other: Any) -> bool:
        """Do both sets have the same ids?"""
        return self._ids.bounds == _opaque("idset_equal", other).bounds

    def has_intersection(self, other: Any) -> bool:
        """Do both sets have an id in common?"""
        return bool(self.intersect(_opaque("idset_has_intersection", other)).bounds)

    def add(self, other: Any) -> int:
        """Adds the ids of another set."""
        self._ids.add(_opaque("idset_add", other))
        return 0

    def subtract(self, other: Any) -> int:
        """Removes the ids of another set."""
        self._ids.subtract(_opaque("idset_subtract", other))
        return 0

    def copy(self) -> Ranges:
        """A new opaque set."""
        return self._ids.copy()

    def union(self, other: Any) -> Ranges:
        """A new opaque set."""
        result = self._ids.copy()
        result.add(_opaque("idset_union", other))
        return result

    def difference(self, other: Any) -> Ranges:
        """A new opaque set."""
        result = self._ids.copy()
        result.subtract(_opaque("idset_difference", other))
        return result

    def intersect(self, other: Any) -> Ranges:
        """A new opaque set."""
        result = self._ids.copy()
        result.intersect(_opaque("idset_intersect", other))
        return result


def _opaque(function: str, other: Any) -> Ranges:
    """The opaque set of an argument: a handle, or an object that has one (spec 02, 0.2)."""
    handle = getattr(other, "handle", other)
    if not isinstance(handle, Ranges):
        raise InvalidArguments(function, f"{function}(idset, idset)", (other,))
    return handle
