"""parse_datetime beyond the golden cases: ISO 8601, summer time, errors."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flux.util import parse_datetime

NOW = datetime(2024, 3, 6, 10, 20, 30, 999)


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # Central European time by rule, so that no time zone data is needed.
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2030-01-01T12:34:56", "2030-01-01T12:34:56+01:00"),
        ("2030-01-01t12:34", "2030-01-01T12:34:00+01:00"),
        ("20300701T123456", "2030-07-01T12:34:56+02:00"),
        ("2030-01-01T12:34:56.789Z", "2030-01-01T13:34:56+01:00"),
        ("2030-01-01 12:34:56+03:00", "2030-01-01T10:34:56+01:00"),
        ("2030-01-01", "2030-01-01T10:20:30+01:00"),
        ("2030-01-01 3pm", "2030-01-01T15:00:00+01:00"),
        ("3pm", "2024-03-06T15:00:00+01:00"),
        ("next friday", "2024-03-15T00:00:00+01:00"),
        ("friday", "2024-03-08T10:20:30+01:00"),
        ("eod", "2024-03-06T17:00:00+01:00"),
        ("1/2/2025", "2025-01-02T10:20:30+01:00"),
        ("+1.5s", "2024-03-06T10:20:31.500999+01:00"),
        ("+30d", "2024-04-05T11:20:30.000999+02:00"),  # 30 times 24 hours, into summer time
    ],
)
def test_text_means(text: str, iso: str) -> None:
    assert parse_datetime(text, NOW).isoformat() == iso


def test_relative_to_an_aware_time_of_another_zone() -> None:
    now = datetime(2024, 3, 6, 23, 30, tzinfo=timezone(timedelta(hours=-5)))
    assert parse_datetime("+1h", now) == now + timedelta(hours=1)
    assert parse_datetime("midnight", now).isoformat() == "2024-03-07T00:00:00+01:00"


def test_now_is_by_default_the_clock() -> None:
    before = datetime.now().astimezone()
    now = parse_datetime("now")
    assert before <= now <= datetime.now().astimezone()
    assert now.utcoffset() is not None


@pytest.mark.parametrize(
    "text", ["2024-13-01", "2024-01-01T25:00", "2024-01-01T", "+1e300", "-inf", "in 99999999999 years", "x"]
)
def test_no_time_is_named_in_the_error(text: str) -> None:
    with pytest.raises(ValueError, match=r'^Invalid datetime: "') as caught:
        parse_datetime(text, NOW)
    assert str(caught.value) == f'Invalid datetime: "{text}"'


def test_library_has_the_name_of_the_bundled_copy() -> None:
    import parsedatetime

    from flux.utils import parsedatetime as bundled

    copy: Any = bundled
    assert copy is parsedatetime
    assert sys.modules["flux.utils.parsedatetime"] is parsedatetime


def test_without_the_library_words_say_what_to_install_and_iso_works() -> None:
    code = """
import sys
sys.modules["parsedatetime"] = None
from flux.util import parse_datetime
print(parse_datetime("2024-01-01T00:00").year, parse_datetime("+1h") is not None)
try:
    parse_datetime("tomorrow")
except ImportError as exc:
    print(exc)
try:
    import flux.utils.parsedatetime
except ImportError as exc:
    print(exc)
"""
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    error = "dates and times in words need the parsedatetime library: pip install parsedatetime"
    assert output.splitlines() == ["2024 True", error, error]
