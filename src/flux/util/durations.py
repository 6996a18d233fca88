"""Flux Standard Duration (RFC 23): seconds as text such as ``1.5m``, and back (spec 02, 13.1)."""

from __future__ import annotations

import math

_INFINITY = frozenset({"inf", "infinity", "INF", "INFINITY"})

# "ms" comes before "s" and "m": the first suffix that fits is taken.
_UNITS = (("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86400.0))


def fsd(secs: float) -> str:
    """Seconds as a Flux Standard Duration for people to read.

    Times under a millisecond, and negative ones, are ``0s``. Raises TypeError for what is no real number.
    """
    if math.isinf(secs):
        return "inf"
    if math.isnan(secs):
        return "nan"
    if secs < 0.001:
        return "0s"
    if secs < 10:
        return f"{secs:.03f}s"
    if secs < 60:
        return f"{secs:.4g}s"
    if secs < 3600:
        return f"{secs / 60:.4g}m"
    if secs < 86400:
        return f"{secs / 3600:.4g}h"
    return f"{secs / 86400:.4g}d"


def six_digits(seconds: float) -> str:
    """Seconds as the broker prints them: `1.22085ms`, `0.201695s`, `1m` (spec 03, conventions)."""
    if 0 < seconds < 0.1:
        return f"{seconds * 1000:g}ms"
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds / length:g}{unit}"
    return f"{seconds:g}s"


def parse_fsd(fsd_string: str) -> float:
    """The seconds of a duration: a number with an optional suffix ms, s, m, h or d; or an infinity.

    Raises ValueError for any other text, negative and NaN included; TypeError for what is no text.
    """
    if not isinstance(fsd_string, str):
        raise TypeError(f"a Flux standard duration is a str, not {type(fsd_string).__name__}")
    if fsd_string in _INFINITY:
        return math.inf
    number, scale = fsd_string, 1.0
    for suffix, seconds in _UNITS:
        if fsd_string.endswith(suffix):
            number, scale = fsd_string.removesuffix(suffix), seconds
            break
    try:
        value = float(number) * scale
    except ValueError:
        raise ValueError("invalid Flux standard duration") from None
    # Infinity in any other spelling, or by overflow, is no duration either.
    if not math.isfinite(value) or value < 0:
        raise ValueError("invalid Flux standard duration")
    return value
