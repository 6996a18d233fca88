"""`IDset.pimpl`: the C functions `idset_*` with the set implied, for programs that call them (spec 02, 9.3).

The opaque handle is the set's `Ranges`. Results are as cffi gives them: texts are bytes, success of an int function
is 0.
"""

from __future__ import annotations

from typing import Any

from flux.core.ownerpimpl import OwnerPimpl
from flux.idset.codec import IDSET_INVALID_ID, check_storable, encode_text
from flux.idset.ranges import Ranges


class IDsetPimpl(OwnerPimpl):
    """The functions `idset_*`."""

    prefixes = ("idset_",)
    attribute = "_ranges"
    handle_type = Ranges
    not_methods = ("create", "decode", "decode_ex")

    @property
    def _ids(self) -> Ranges:
        ids: Ranges = self._owner._ranges
        return ids

    def encode(self, flags: int) -> bytes:
        """The text of the set."""
        return encode_text(self._ids, flags).encode()

    def count(self) -> int:
        """The number of ids."""
        return self._ids.count()

    def first(self) -> int:
        """The smallest id, or IDSET_INVALID_ID."""
        bounds = self._ids.bounds
        return bounds[0] if bounds else IDSET_INVALID_ID

    def last(self) -> int:
        """The largest id, or IDSET_INVALID_ID."""
        bounds = self._ids.bounds
        return bounds[-1] - 1 if bounds else IDSET_INVALID_ID

    def next(self, i: int) -> int:
        """The smallest id > `i`, or IDSET_INVALID_ID."""
        found = self._ids.after(i)
        return IDSET_INVALID_ID if found is None else found

    def prev(self, i: int) -> int:
        """The largest id < `i`, or IDSET_INVALID_ID."""
        found = self._ids.before(i)
        return IDSET_INVALID_ID if found is None else found

    def test(self, i: int) -> bool:
        """Is `i` in the set?"""
        return self._ids.test(i)

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
        ids: Ranges = self.opaque("idset_equal", other)
        return self._ids.bounds == ids.bounds

    def has_intersection(self, other: Any) -> bool:
        """Do both sets have an id in common?"""
        return bool(self.intersect(self.opaque("idset_has_intersection", other)).bounds)

    def add(self, other: Any) -> int:
        """Adds the ids of another set."""
        self._ids.add(self.opaque("idset_add", other))
        return 0

    def subtract(self, other: Any) -> int:
        """Removes the ids of another set."""
        self._ids.subtract(self.opaque("idset_subtract", other))
        return 0

    def copy(self) -> Ranges:
        """A new opaque set."""
        return self._ids.copy()

    def union(self, other: Any) -> Ranges:
        """A new opaque set."""
        result = self._ids.copy()
        result.add(self.opaque("idset_union", other))
        return result

    def difference(self, other: Any) -> Ranges:
        """A new opaque set."""
        result = self._ids.copy()
        result.subtract(self.opaque("idset_difference", other))
        return result

    def intersect(self, other: Any) -> Ranges:
        """A new opaque set."""
        result = self._ids.copy()
        result.intersect(self.opaque("idset_intersect", other))
        return result
