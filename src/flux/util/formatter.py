"""Values as text for listings: Python's format language plus Flux's conversions and suffixes (spec 02, 13.3).

Rules that hold here:
- a spec is Python's, then optionally ``h`` (a hyphen for an empty value), then optionally ``+`` (mark that
  the precision cut something off);
- what is not known is "" (or prints as that), and is laid out as a text even where a number was expected;
- a time is formatted by strftime, and only what follows ``::`` in its spec is Python's. The epoch stands for
  "never", and is empty.
"""

from __future__ import annotations

import math
import re
import string
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from flux.util.durations import fsd

_ISO = "%FT%T"

#: The precision of a spec that cuts text: numbers have a type letter after it, for them it means digits.
_text_precision = re.compile(r"\.([0-9]+)s?\Z").search


#: The spec of a number.
_numeric_spec = re.compile(
    r"(?:(?P<fill>.)?(?P<align>[<>=^]))?[-+ ]?z?#?0?(?P<width>[0-9]*)[,_]?(?:\.[0-9]+)?[bcdeEfFgGnoxX%]"
).fullmatch


def text_spec(spec: str) -> str:
    """A spec for a text in place of the number that it is for; another one as it is."""
    found = _numeric_spec(spec)
    if found is None:
        return spec
    align = found["align"] if found["align"] not in (None, "=") else ">"
    return f"{found['fill'] or ''}{align}{found['width']}"


def empty_outputs() -> tuple[str, ...]:
    """The texts that count as "nothing to show": those of zero durations and of the epoch among them."""
    return ("", "0s", "0.0", "0:00:00", "1970-01-01T00:00:00", time.strftime(_ISO, time.localtime(0)))


class UtilDatetime(datetime):
    """A datetime whose format spec is ``STRFTIME::SPEC``, both optional; the epoch formats as empty."""

    def __format__(self, fmt: str) -> str:
        """The time by strftime (default ``%FT%T``), laid out by the format spec that follows ``::``."""
        layout, _, spec = fmt.partition("::")
        epoch = datetime.fromtimestamp(0.0, self.tzinfo)
        text = "" if self == epoch else self.strftime(layout or _ISO)
        return _format_suffixed(text, spec)


class UtilFormatter(string.Formatter):
    """`string.Formatter` with the conversions ``!d !D !F !H !P`` and the spec suffixes ``h`` and ``+``."""

    def convert_field(self, value: Any, conv: str | None) -> Any:
        """Applies a conversion; an empty string stays empty.

        Raises TypeError where a number is needed and `value` is none, ValueError for an unknown conversion.
        """
        convert = _CONVERSIONS.get(conv or "")
        if convert is None:
            return super().convert_field(value, conv)
        if conv == "d":
            return convert("" if _is_nothing(value) else value)
        return "" if _is_nothing(value) else convert(value)

    def format_field(self, value: Any, spec: str) -> str:
        """`format(value, spec)`, with the suffixes."""
        if isinstance(value, UtilDatetime):
            return format(value, spec)
        return _format_suffixed(value, spec)


def _is_nothing(value: Any) -> bool:
    """Whether a value stands for one that is not known: "", or an object that prints so."""
    # Not every object can be compared with a text: an IDset raises.
    return value is not None and not isinstance(value, (int, float)) and str(value) == ""


def _format_suffixed(value: Any, spec: str) -> str:
    mark = spec.endswith("+")
    if mark:
        spec = spec[:-1]
    if spec.endswith("h"):
        spec = spec[:-1]
        text = str(value)
        if text in empty_outputs():
            value, spec = "-", text_spec(spec)
        elif _numeric_spec(spec) is None:
            value = text
    if isinstance(value, str) and not value:
        spec = text_spec(spec)
    if mark and not isinstance(value, (int, float)):
        found = _text_precision(spec)
        text = format(value)
        if found is not None and len(text) > (precision := int(found[1])):
            value = (text[: precision - 1] + "+") if precision > 0 else ""
    return format(value, spec)


def _moment(seconds: Any) -> UtilDatetime:
    # An unset time is the epoch, not "": its spec is one of strftime, which no str could format.
    return UtilDatetime.fromtimestamp(0.0 if seconds == "" else seconds)


def _iso_time(seconds: Any) -> str:
    return datetime.fromtimestamp(seconds).strftime(_ISO) if seconds else ""


def _clock(seconds: Any) -> str:
    if math.isinf(seconds):
        return "inf"
    # A job that ran at all took a second: 0:00:00 would say that it never ran.
    return str(timedelta(seconds=1 if 0 < seconds < 1 else round(seconds)))


def _percent(fraction: Any) -> str:
    percent = 100.0 * fraction
    return f"{percent:.2f}%" if 0 < percent < 1 else f"{percent:.3g}%"


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "d": _moment,
    "D": _iso_time,
    "F": fsd,
    "H": _clock,
    "P": _percent,
}
