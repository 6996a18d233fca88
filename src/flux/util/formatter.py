"""Values as text for listings: Python's format language plus Flux's conversions and suffixes (spec 02, 13.3).

Rules that hold here:
- a spec is Python's, then optionally ``h`` (a hyphen for an empty value), then optionally ``+`` (mark that
  the precision cut something off);
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
        if value == "" and conv != "d":
            return ""
        return convert(value)

    def format_field(self, value: Any, spec: str) -> str:
        """`format(value, spec)`, with the suffixes."""
        if isinstance(value, UtilDatetime):
            return format(value, spec)
        return _format_suffixed(value, spec)


def _format_suffixed(value: Any, spec: str) -> str:
    mark = spec.endswith("+")
    if mark:
        spec = spec[:-1]
    if spec.endswith("h"):
        spec = spec[:-1]
        value = str(value)
        if value in empty_outputs():
            value = "-"
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
