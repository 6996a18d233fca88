"""Dates of cron entries: what a field may say, which moments match, and which is the next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fluxlet.modules.cron.calendar import UNITS, Calendar, parse_field

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")  # half an hour of summer time


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [
        ("minute", "*", range(60)),
        ("minute", "*/15", (0, 15, 30, 45)),
        ("minute", "7", (7,)),
        ("minute", "10-14,3,12", (3, 10, 11, 12, 13, 14)),
        ("minute", "10-20/5", (10, 15, 20)),
        ("minute", "50/4", (50, 54, 58)),
        ("minute", "1, 2", (1, 2)),
        ("hour", "*/24", (0,)),
        ("mday", "*", range(1, 32)),
        ("month", "*", range(12)),
        ("month", "Jan-mar,december", (0, 1, 2, 11)),
        ("weekday", "*", range(7)),
        ("weekday", "7", (0,)),
        ("weekday", "5-7", (0, 5, 6)),
        ("weekday", "mon-fri", (1, 2, 3, 4, 5)),
        ("year", "126", (126,)),
    ],
)
def test_fields(name: str, text: str, values: range | tuple[int, ...]) -> None:
    assert parse_field(name, text) == tuple(values)


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("minute", "60", "minute: '60' is not within 0-59"),
        ("minute", "5-3", "minute: '5-3' is not within 0-59"),
        ("minute", "", "minute: '' is no list of numbers and ranges"),
        ("minute", "1,,2", "minute: '1,,2' is no list of numbers and ranges"),
        ("minute", "-1", "minute: '-1' is no list of numbers and ranges"),
        ("minute", "*/0", "minute: the step of '*/0' is 0"),
        ("minute", "mon", "minute: 'mon' is not within 0-59"),
        ("minute", "\u0663", "minute: '\u0663' is no list of numbers and ranges"),
        ("minute", "9" * 5000, f"minute: '{'9' * 5000}' is not within 0-59"),
        ("mday", "0", "mday: '0' is not within 1-31"),
        ("month", "12", "month: '12' is not within 0-11"),
        ("weekday", "sun-xyz", "weekday: 'sun-xyz' is not within 0-7"),
        ("year", "2026", "year: '2026' is not within 0-1100"),
    ],
)
def test_wrong_fields(name: str, text: str, error: str) -> None:
    with pytest.raises(ValueError) as info:  # noqa: PT011  # the text is compared
        parse_field(name, text)
    assert str(info.value) == error


def test_what_is_no_field_or_no_date_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^hours: there is no such field of a date; there are second, minute, "):
        Calendar({"hours": 3})
    with pytest.raises(ValueError, match=r"^there is no such date in any year$"):
        Calendar({"month": 1, "mday": 30})


def seconds(text: str, zone: ZoneInfo | None = None) -> float:
    when = datetime.fromisoformat(text)
    return (when if when.tzinfo else when.replace(tzinfo=zone or UTC)).timestamp()


@pytest.mark.parametrize(
    ("fields", "after", "found"),
    [
        # The recording of the reference: 03:00 on Mondays, created on a Sunday.
        ({"minute": "0", "hour": "3", "weekday": "1", "second": 0}, 1795313833.147, "2026-11-23 03:00:00"),
        ({}, "2026-11-22 10:00:00", "2026-11-22 10:00:01"),
        ({}, "2026-11-22 10:00:00.999", "2026-11-22 10:00:01"),
        ({"second": 0}, "2026-11-22 10:00:00", "2026-11-22 10:01:00"),
        ({"second": 30}, "2026-11-22 10:00:00", "2026-11-22 10:00:30"),
        ({"second": 0, "minute": "*/20"}, "2026-11-22 10:41:00", "2026-11-22 11:00:00"),
        ({"second": 0, "minute": 0, "hour": 0}, "2026-12-31 00:00:00", "2027-01-01 00:00:00"),
        ({"second": 0, "minute": 0, "hour": 0, "mday": 31}, "2026-09-01 00:00:00", "2026-10-31 00:00:00"),
        ({"second": 0, "minute": 0, "hour": 0, "mday": 29, "month": 1}, "2026-01-01", "2028-02-29 00:00:00"),
        # Both days must match.
        ({"second": 0, "minute": 0, "hour": 0, "mday": 13, "weekday": 5}, "2026-11-22", "2027-08-13 00:00:00"),
        (
            {"second": 5, "minute": 4, "hour": 3, "mday": 2, "month": 0, "year": 130},
            "2026-01-01",
            "2030-01-02 03:04:05",
        ),
        ({"second": 5, "minute": 4, "hour": 3, "mday": 2, "month": 0, "year": 100}, "2026-01-01", None),
        (
            {"mday": 1, "month": 0, "hour": 0, "minute": 0, "second": 0, "year": 1100},
            "2026-01-01",
            "3000-01-01 00:00:00",
        ),
    ],
)
def test_next_run(fields: dict[str, int | str], after: str | float, found: str | None) -> None:
    if isinstance(after, str):
        after = seconds(after)
    run = Calendar(fields).next_run(after, UTC)
    assert run == (None if found is None else seconds(found))


DAILY = {"second": 0, "minute": 30, "hour": 2}
HOURLY = {"second": 0, "minute": 30}


@pytest.mark.parametrize(
    ("fields", "zone", "after", "runs"),
    [
        # Clocks go from 02:00 to 03:00.
        (DAILY, BERLIN, "2026-03-28T12:00+01:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
        (HOURLY, BERLIN, "2026-03-29T01:00+01:00", ["2026-03-29T01:30+01:00", "2026-03-29T03:30+02:00"]),
        # Clocks go from 03:00 to 02:00.
        (DAILY, BERLIN, "2026-10-24T12:00+02:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        (HOURLY, BERLIN, "2026-10-25T02:00+02:00", ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00"]),
        (DAILY, LORD_HOWE, "2026-10-03T12:00+10:30", ["2026-10-04T02:30+11:00", "2026-10-05T02:30+11:00"]),
        ({**DAILY, "minute": 15}, LORD_HOWE, "2026-10-03T12:00+10:30", ["2026-10-04T02:30+11:00"]),
    ],
)
def test_clocks_that_are_changed(fields: dict[str, int | str], zone: ZoneInfo, after: str, runs: list[str]) -> None:
    calendar = Calendar(fields)
    at: float = seconds(after)
    for run in runs:
        found = calendar.next_run(at, zone)
        assert found == seconds(run), run
        at = found


def brute_force(calendar: Calendar, after: int, zone: ZoneInfo, minutes: int) -> int | None:
    """The next run of an entry with second 0, found by looking at every minute."""
    time = (after // 60 + 1) * 60
    before = datetime.fromtimestamp(time - 60, zone).replace(tzinfo=None, fold=0)
    for _ in range(minutes):
        here = datetime.fromtimestamp(time, zone)
        clock = here.replace(tzinfo=None, fold=0)
        if calendar.matches(clock) and (calendar.every_hour or not here.fold):
            return time
        if not calendar.every_hour:
            skipped = before + timedelta(minutes=1)
            while skipped < clock:
                if calendar.matches(skipped):
                    return time
                skipped += timedelta(minutes=1)
        before = max(before, clock) if here.fold else clock
        time += 60
    return None


def values(name: str, lowest: int, most: int) -> st.SearchStrategy[str]:
    numbers = st.lists(st.integers(max(lowest, UNITS[name].first), UNITS[name].last), min_size=1, max_size=most)
    return st.one_of(st.just("*"), numbers.map(lambda found: ",".join(map(str, found))))


DAYS = st.one_of(
    st.tuples(st.just(BERLIN), st.sampled_from(["2026-03-28", "2026-10-24", "2026-12-31", "2028-02-28"])),
    st.tuples(st.just(LORD_HOWE), st.sampled_from(["2026-10-03", "2027-04-03"])),
)


@settings(max_examples=60, deadline=None)
@given(
    place=DAYS,
    offset=st.integers(0, 2 * 86400),
    minute=values("minute", 0, 4),
    hour=values("hour", 0, 3),
    weekday=values("weekday", 0, 3),
)
@example(place=(BERLIN, "2026-10-24"), offset=93600 + 1800, minute="15", hour="*", weekday="*")
@example(place=(BERLIN, "2026-10-24"), offset=93600 + 3600, minute="15", hour="2", weekday="*")
@example(place=(BERLIN, "2026-03-28"), offset=93599, minute="*", hour="2", weekday="*")
def test_next_run_is_that_of_brute_force(
    place: tuple[ZoneInfo, str], offset: int, minute: str, hour: str, weekday: str
) -> None:
    zone, day = place
    calendar = Calendar({"second": 0, "minute": minute, "hour": hour, "weekday": weekday})
    after = int(seconds(day, zone)) + offset
    expected = brute_force(calendar, after, zone, minutes=2 * 1440)
    found = calendar.next_run(after, zone)
    if expected is None:
        assert found is None or found > after + 2 * 86400 - 60
    else:
        assert found == expected
