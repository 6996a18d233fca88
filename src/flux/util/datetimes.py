"""Dates and times as people write them (spec 02, 13.2).

In this order: ``now``; an offset from now (``+1h``, ``-2d``); ISO 8601; anything the parsedatetime library
understands (``noon tomorrow``). Only the last needs that library. ISO comes before it because it misreads
ISO's ``T`` (``2021-06-10T08:00:00`` as twenty-one past eight in the evening).
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from functools import cache
from typing import Any

from flux.util.durations import parse_fsd

# A date alone or with "T" can only be meant as ISO 8601; a date and a blank may go on in words ("... 8pm").
_surely_iso = re.compile(r"\d{4}-\d\d-\d\d|\d{4}-?\d\d-?\d\dT.*", re.IGNORECASE).fullmatch
_maybe_iso = re.compile(r"\d{4}-\d\d-\d\d \d.*").fullmatch


def parse_datetime(string: str, now: datetime | None = None) -> datetime:
    """The time that a text means, aware and in the local time zone.

    Args:
        string: the text; see the head of this file.
        now: what relative times are relative to, naive (local) or aware; by default the current time.

    Raises:
        ValueError: the text means no time, or one out of range.
        ImportError: a time in words, and the parsedatetime library is not installed.

    ``now`` is returned unchanged. A date without a time keeps the time of day of `now`. Fractions of a second
    are dropped except for ``now`` and offsets.
    """
    if now is None:
        now = datetime.now().astimezone()
    if string == "now":
        return now
    try:
        if string.startswith(("+", "-")):
            return _offset(string, now)
        local = now.astimezone().replace(tzinfo=None)
        return _absolute(string, local).replace(microsecond=0).astimezone()
    except OverflowError:
        raise _invalid(string) from None


def _invalid(string: str) -> ValueError:
    return ValueError(f'Invalid datetime: "{string}"')


def _offset(string: str, now: datetime) -> datetime:
    seconds = parse_fsd(string[1:])
    if string.startswith("-"):
        seconds = -seconds
    # astimezone() gives a fixed offset, so that the sum is exact even across a change to or from summer time.
    return (now.astimezone() + timedelta(seconds=seconds)).astimezone()


def _absolute(string: str, local: datetime) -> datetime:
    sure = _surely_iso(string)
    if sure or _maybe_iso(string):
        try:
            return _iso(string, local)
        except ValueError:
            if sure:
                raise _invalid(string) from None
    found, context = _calendar().parseDT(string, sourceTime=local)
    if not context.dateTimeFlag:
        raise _invalid(string)
    assert isinstance(found, datetime)
    return found


def _iso(string: str, local: datetime) -> datetime:
    if len(string) == len("YYYY-MM-DD"):
        return datetime.combine(date.fromisoformat(string), local.time())
    return datetime.fromisoformat(string.upper())


@cache
def _calendar() -> Any:
    from flux.utils import parsedatetime

    # PyICU, where it happens to be installed, would make the result depend on the user's language.
    constants = parsedatetime.Constants(usePyICU=False)
    constants.StartHour = 0
    return parsedatetime.Calendar(constants, version=parsedatetime.VERSION_CONTEXT_STYLE)  # the other one is deprecated
