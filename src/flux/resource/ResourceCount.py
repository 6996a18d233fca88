"""ResourceCount: how many of something a jobspec asks for (RFC 14, RFC 45; spec 07, 1.4).

A number, a range, or a set of numbers that will do. A set is what an operator makes of a range: ``{"min": 2, "max": 8,
"operator": "*", "operand": 2}`` and ``2-8:2:*`` are 2, 4 and 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flux.idset import IDset

#: A set of more values than these is nobody's wish, and would be a way to make us run out of memory.
_MOST_VALUES = 1 << 16


class ResourceCount:
    """A count.

    Args:
        mn: the least that will do.
        mx: the most that is wanted; None: as many as there are.
        values: the numbers that will do, if these are not all from `mn` to `mx`.
    """

    __slots__ = ("_max", "_min", "values")

    def __init__(self, mn: int, mx: int | None, values: IDset | None = None) -> None:
        self._min = mn
        self._max = mx
        self.values = values

    def __repr__(self) -> str:
        values = "" if self.values is None else f", values=IDset('{self.values}')"
        return f"ResourceCount({self._min}, {self._max}{values})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ResourceCount):
            return NotImplemented
        return (self._min, self._max, str(self.values)) == (other._min, other._max, str(other.values))

    def __hash__(self) -> int:
        return hash((self._min, self._max, str(self.values)))

    @property
    def min(self) -> int:
        """The least that will do."""
        return self._min

    @property
    def max(self) -> int | None:
        """The most that is wanted; None: as many as there are."""
        return self._max

    @classmethod
    def from_count_spec(cls, v: Any, default: int = 1) -> ResourceCount:
        """What a jobspec's ``count`` means.

        Args:
            v: a number, an object with min, max, operator and operand, or text of RFC 45.
            default: what anything else, such as None, stands for.

        Raises ValueError, saying what is wrong.
        """
        match v:
            case int():
                if v < 1:
                    raise ValueError(f"RFC 14 count: integer count must be >= 1, got {v}")
                return cls(v, v)
            case Mapping():
                return cls._from_range(
                    v.get("min", 1), v.get("max"), v.get("operator", "+"), v.get("operand", 1), "RFC 14"
                )
            case str():
                return cls._from_text(v)
            case _:
                return cls(default, default)

    @classmethod
    def _from_text(cls, text: str) -> ResourceCount:
        body = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        if "," in body:
            values = IDset(body)
            if not 0 < values.count() <= _MOST_VALUES:
                raise ValueError(
                    f"RFC 14 count: {values.count()} values in '{text}', where 1 to {_MOST_VALUES} will do"
                )
            cls._check(values.first(), values.last())
            return cls(values.first(), values.last(), values)
        span, *rest = body.split(":")
        operand = int(rest[0]) if rest else 1
        operator = rest[1] if len(rest) > 1 else "+"
        if len(rest) > 2:
            raise ValueError(f"RFC 45 count: '{text}' has more than a range, an operand and an operator")
        if span.endswith("+"):
            return cls._from_range(int(span[:-1]), None, operator, operand, "RFC 45")
        low, dash, high = span.partition("-")
        least = int(low)
        return cls._from_range(least, int(high) if dash else least, operator, operand, "RFC 45")

    @staticmethod
    def _check(least: Any, most: Any) -> None:
        for value in (least, most):
            if value is not None and not isinstance(value, int):
                raise ValueError(f"RFC 14 count: {value!r} is not an integer")
        if least < 1:
            raise ValueError(f"RFC 14 count: min must be >= 1, got {least}")
        if most is not None and most < least:
            raise ValueError(f"RFC 14 count: max must be >= min, got max={most} min={least}")

    @classmethod
    def _from_range(cls, least: Any, most: Any, operator: Any, operand: Any, rfc: str) -> ResourceCount:
        cls._check(least, most)
        if operator not in ("+", "*", "^"):
            raise ValueError(f"RFC 14 count: operator '{operator}' is not supported")
        if not isinstance(operand, int):
            raise ValueError(f"RFC 14 count: {operand!r} is not an integer")
        smallest = 1 if operator == "+" else 2
        if operand < smallest:
            raise ValueError(f"RFC 14 count: operator '{operator}' requires operand > {smallest - 1}, got {operand}")
        if operator == "^" and least < 2:
            raise ValueError(f"RFC 14 count: operator '^' requires min >= 2, got {least}")
        if operator == "+" and operand == 1:
            return cls(least, most)
        if most is None:
            raise ValueError(
                f"{rfc} unbounded count with operator='{operator}' operand={operand} cannot be expanded to a finite set"
            )
        return cls(least, most, _idset(_expand(least, most, operator, operand)))

    def scaled(self, factor: int) -> ResourceCount:
        """`factor` times as many."""
        values = None if self.values is None else _idset(value * factor for value in self.values)
        return ResourceCount(self._min * factor, None if self._max is None else self._max * factor, values)

    def valid_counts(self, available: int) -> Iterable[int]:
        """The numbers that will do, of those up to `available`; the largest first."""
        if self.values is not None:
            return [value for value in reversed(list(self.values)) if value <= available]
        return range(available if self._max is None else min(self._max, available), self._min - 1, -1)


def _idset(numbers: Iterable[int]) -> IDset:
    return IDset(",".join(map(str, numbers)))


def _expand(least: int, most: int, operator: str, operand: int) -> Iterable[int]:
    value = least
    for _ in range(_MOST_VALUES):
        if value > most:
            return
        yield value
        # A power soon has more digits than there are things to count: those of the first are enough to see that.
        if operator == "^":
            value = value**operand if value.bit_length() * operand < 64 else most + 1
        else:
            value = value + operand if operator == "+" else value * operand
    raise ValueError(f"RFC 14 count: more than {_MOST_VALUES} values between {least} and {most}")
