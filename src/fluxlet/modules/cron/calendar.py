"""Dates in the manner of crontabs: which moments match, and which is the next (spec 03, 13.8). Pure.

Rules:
- Every field must match, days of the month and of the week alike: unlike in cron(8) naming both means both.
- Months count from 0, as in flux-cron(1); years from 1900; Sunday is 0, and 7.
- Where a zone sets its clocks forward, entries of certain hours run when the skipped time is over. Where it sets
  them back, they run in the first of the two equal hours only. Entries of every hour just go on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta, tzinfo
from typing import NamedTuple

from flux.idset import IDset

_DAY = 86400
_EPOCH = datetime(1970, 1, 1)


class _Unit(NamedTuple):
    """A field: its values, and what some of them may be called."""

    first: int
    last: int
    names: tuple[str, ...] = ()


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")

#: In the order in which entries list them.
UNITS = {
    "second": _Unit(0, 59),
    "minute": _Unit(0, 59),
    "hour": _Unit(0, 23),
    "mday": _Unit(1, 31),
    "month": _Unit(0, 11, _MONTHS),
    "year": _Unit(0, 1100),
    "weekday": _Unit(0, 7, _DAYS),
}

_element = re.compile(r"(?:\*|(\w+)(?:-(\w+))?)(?:/(\d{1,4}))?", re.ASCII).fullmatch


def _number(word: str, unit: _Unit) -> int | None:
    if word.isdigit() and len(word) <= 4:
        return int(word)
    # Whole names as well as their first three letters.
    short = word.lower()[:3]
    return unit.names.index(short) if short in unit.names else None


def parse_field(name: str, text: str) -> tuple[int, ...]:
    """The values of a field, in order: `*`, numbers, ranges `1-5`, steps `*/15` and `1-30/2`, separated by commas.

    Raises ValueError with a sentence that names the field.
    """
    unit = UNITS[name]
    values: set[int] = set()
    for element in text.split(","):
        match = _element(element.strip())
        if match is None:
            raise ValueError(f"{name}: '{text}' is no list of numbers and ranges")
        low, high, step = match.groups()
        first, last = unit.first, unit.last
        if low is not None:
            start = _number(low, unit)
            # A step behind a single number counts from there to the end, as cron(8) has it.
            end = _number(high, unit) if high is not None else (start if step is None else last)
            if start is None or end is None or not unit.first <= start <= end <= unit.last:
                raise ValueError(f"{name}: '{element}' is not within {unit.first}-{unit.last}")
            first, last = start, end
        if step is not None and not int(step):
            raise ValueError(f"{name}: the step of '{element}' is 0")
        values.update(range(first, last + 1, int(step or 1)))
    if name == "weekday" and 7 in values:
        values = (values - {7}) | {0}
    return tuple(sorted(values))


class Calendar:
    """The moments that match.

    Args:
        fields: by name, number or text as for `parse_field`; what is missing is as `*`.

    Raises ValueError with a sentence for the user: a wrong field, or a date that never comes.
    """

    def __init__(self, fields: Mapping[str, int | str]) -> None:
        unknown = sorted(fields.keys() - UNITS)
        if unknown:
            raise ValueError(f"{unknown[0]}: there is no such field of a date; there are {', '.join(UNITS)}")
        self.values = {name: parse_field(name, str(fields.get(name, "*"))) for name in UNITS}
        self._times = (self.values["hour"], self.values["minute"], self.values["second"])
        self._weekdays = frozenset(self.values["weekday"])
        self.every_hour = len(self.values["hour"]) == 24
        if self.match_from(datetime(1900, 1, 1)) is None:
            raise ValueError("there is no such date in any year")

    def texts(self) -> dict[str, str]:
        """The fields as entries show them: sets of numbers."""
        return {name: str(IDset(list(values))) for name, values in self.values.items()}

    # The calendar alone: no zones.

    def matches(self, when: datetime) -> bool:
        """True if a local time matches, to the second."""
        values = self.values
        return (
            when.second in values["second"]
            and when.minute in values["minute"]
            and when.hour in values["hour"]
            and when.day in values["mday"]
            and when.month - 1 in values["month"]
            and when.year - 1900 in values["year"]
            and when.isoweekday() % 7 in self._weekdays
        )

    def match_from(self, start: datetime) -> datetime | None:
        """The first local time that matches, not before `start` (naive, whole seconds); None if there is none."""
        for day in self._days(start.date()):
            time = self._time(start if day == start.date() else None)
            if time is not None:
                return datetime(day.year, day.month, day.day, *time)
        return None

    def _days(self, start: date) -> Iterator[date]:
        for year in self.values["year"]:
            if year + 1900 < start.year:
                continue
            for month in self.values["month"]:
                if (year + 1900, month + 1) < (start.year, start.month):
                    continue
                for mday in self.values["mday"]:
                    try:
                        day = date(year + 1900, month + 1, mday)
                    except ValueError:
                        break  # the month is shorter
                    if day >= start and day.isoweekday() % 7 in self._weekdays:
                        yield day

    def _time(self, start: datetime | None) -> tuple[int, int, int] | None:
        """The first time of a day that matches, not before that of `start`; None if that day has none left."""
        hours, minutes, seconds = self._times
        if start is None:
            return hours[0], minutes[0], seconds[0]
        second = next((value for value in seconds if value >= start.second), None)
        for hour in hours:
            if hour > start.hour:
                return hour, minutes[0], seconds[0]
            if hour < start.hour:
                continue
            for minute in minutes:
                if minute > start.minute:
                    return hour, minute, seconds[0]
                if minute == start.minute and second is not None:
                    return hour, minute, second
        return None

    # In a zone.

    def next_run(self, after: float, zone: tzinfo | None = None) -> int | None:
        """The first time after `after` to run, both in seconds since the epoch; None if there is none any more.

        Args:
            zone: whose clocks count; None: the machine's.
        """
        last = int(after // 1)  # nothing to run up to here
        while True:
            offset = _offset(last, zone)
            match = self.match_from(_local(last, zone).replace(fold=0) + timedelta(seconds=1))
            if match is None:
                return None
            found = int((match - _EPOCH).total_seconds()) - offset
            # Not further than clocks can be trusted to change once at most.
            horizon = min(found, last + _DAY)
            if _offset(horizon, zone) != offset:
                change = _change(last, horizon, zone)
                time = _EPOCH + timedelta(seconds=change + _offset(change, zone))
                if self.matches(time) and (self.every_hour or not _local(change, zone).fold):
                    return change
                if match < time and not self.every_hour:
                    return change  # the clocks have skipped it
                last = change
            elif horizon < found:
                last = max(horizon, found - _DAY)
            elif self.every_hour or not _local(found, zone).fold:
                return found
            else:
                last = found


def _local(time: int, zone: tzinfo | None) -> datetime:
    """The local time, naive; `fold` tells the second of two that are equal."""
    return datetime.fromtimestamp(time, zone).replace(tzinfo=None)


def _offset(time: int, zone: tzinfo | None) -> int:
    """Seconds that local time is ahead of UTC."""
    return int((_local(time, zone) - _EPOCH).total_seconds()) - time


def _change(low: int, high: int, zone: tzinfo | None) -> int:
    """The first time with another offset than `low` has, which `high` has, too."""
    before = _offset(low, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if _offset(middle, zone) == before:
            low = middle
        else:
            high = middle
    return high
