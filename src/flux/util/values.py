"""Values of listings: how they are ordered, and values that have an ASCII form (spec 02, 13.3)."""

from __future__ import annotations

import math
from typing import Any


class DisplayValue:
    """A value with a place in one order of all values: unset (None, "", "-"), then numbers, then text.

    Whatever `float()` accepts is a number; text that it accepts too.
    """

    EMPTY = 0
    NUMERIC = 1
    STRING = 2

    def __init__(self, value: Any) -> None:
        self._value = value
        self._type_order: int
        self._sort_value: Any
        if value is None or (isinstance(value, str) and value in ("", "-")):
            self._type_order, self._sort_value = self.EMPTY, ""
        elif isinstance(value, int):
            # Not float(): job ids have more digits than that holds, and would come out of order.
            self._type_order, self._sort_value = self.NUMERIC, value
        else:
            try:
                self._type_order, self._sort_value = self.NUMERIC, float(value)
            except (TypeError, ValueError):
                self._type_order, self._sort_value = self.STRING, str(value)

    @property
    def value(self) -> Any:
        """The value as it was given."""
        return self._value

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DisplayValue):
            return NotImplemented
        return (self._type_order, self._sort_value) == (other._type_order, other._sort_value)

    def __lt__(self, other: DisplayValue) -> bool:
        if not isinstance(other, DisplayValue):
            return NotImplemented
        if self._type_order != other._type_order:
            return self._type_order < other._type_order
        if self._type_order == self.NUMERIC and math.isnan(other._sort_value):
            # NaN is less than nothing and nothing is less than it, which no sort survives: it goes last.
            return not math.isnan(self._sort_value)
        return bool(self._sort_value < other._sort_value)

    # Equal values need not have equal hashes ("5" and "5.0"), so they have none.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"DisplayValue({self._value!r}, type_order={self._type_order}, sort_value={self._sort_value!r})"


class AltField:
    """A text with an alternative of ASCII characters only: ``{x}`` and ``{x.ascii}`` in an output format."""

    def __init__(self, default: str, ascii: str) -> None:
        self.default = default
        self.ascii = ascii

    def __str__(self) -> str:
        return self.default

    def __format__(self, fmt: str) -> str:
        return format(self.default, fmt)
