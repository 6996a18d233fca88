"""Figures: number, least, mean, deviation and most of a series, as stats-get methods have them. Pure."""

from __future__ import annotations

from math import sqrt
from typing import Any


class Figures:
    """Number, least, mean, deviation and most of what was added."""

    def __init__(self) -> None:
        self.count = 0
        self._least: float = 0
        self._most: float = 0
        self._sum: float = 0
        self._squares: float = 0

    def add(self, value: float) -> None:
        """Adds a value."""
        self._least = value if not self.count or value < self._least else self._least
        self._most = max(self._most, value)
        self.count += 1
        self._sum += value
        self._squares += value * value

    def as_dict(self) -> dict[str, Any]:
        """As stats-get has them."""
        count = self.count
        mean = self._sum / count if count else 0.0
        variance = (self._squares - count * mean * mean) / (count - 1) if count > 1 else 0.0
        return {
            "count": count,
            "min": self._least,
            "mean": mean,
            "stddev": sqrt(max(variance, 0.0)),
            "max": self._most,
        }
