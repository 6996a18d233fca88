"""flux.eventlog: entries and their formats (spec 02, section 15)."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterator
from typing import Any

import pycore
import pytest

from flux.eventlog import EventLogEvent, EventLogFormatter

SUBMIT = {"timestamp": 1738774194.078433, "name": "submit", "context": {"userid": 1001, "urgency": 16}}


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Sets the time zone; UTC until called with another."""

    def set_zone(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    set_zone("UTC")
    yield set_zone
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    "case",
    [c for c in pycore.load("util")["cases"] if c["id"].startswith("eventlog.")],
    ids=lambda c: c["id"],
)
def test_golden_case(case: dict[str, Any]) -> None:
    pycore.check(case, {})


def test_entry_passed_is_not_modified() -> None:
    entry = {"timestamp": 1.0, "name": "n"}
    EventLogEvent(entry)
    EventLogFormatter(format="json").format(entry)
    assert entry == {"timestamp": 1.0, "name": "n"}


@pytest.mark.parametrize("text", ["[]", "5", "null", '"name"'])
def test_json_that_is_no_object_is_a_type_error(text: str) -> None:
    with pytest.raises(TypeError, match="must be an object"):
        EventLogEvent(text)


def test_event_survives_pickling() -> None:
    event = EventLogEvent(SUBMIT)
    copy = pickle.loads(pickle.dumps(event))
    assert isinstance(copy, EventLogEvent)
    assert copy == event


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "xml"}, "Invalid entry_fmt: xml"),
        ({"timestamp_format": "rfc"}, "Invalid timestamp_fmt: rfc"),
        ({"color": "maybe"}, "Invalid color: maybe"),
    ],
)
def test_unknown_option_is_a_value_error(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        EventLogFormatter(**options)


@pytest.mark.parametrize(
    ("context", "line"),
    [
        ({"userid": 1001, "urgency": 16}, "1738774194.078433 submit userid=1001 urgency=16"),
        ({}, "1738774194.078433 submit"),
        (
            {"z": "a b", "a": {"y": [1, 2], "x": None}, "t": True, "f": 1.5, "s": "ƒ☺"},
            '1738774194.078433 submit z="a b" a={"y":[1,2],"x":null} t=true f=1.5 s="ƒ☺"',
        ),
    ],
)
def test_text_shows_context_in_stored_order_as_compact_json(context: dict[str, Any], line: str) -> None:
    assert EventLogFormatter().format(SUBMIT | {"context": context}) == line


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        (SUBMIT, '{"timestamp":1738774194.078433,"name":"submit","context":{"userid":1001,"urgency":16}}'),
        ({"timestamp": 1.5, "name": "ƒ", "context": {}}, '{"timestamp":1.5,"name":"ƒ"}'),
        ({"timestamp": 1.5, "name": "n"}, '{"timestamp":1.5,"name":"n"}'),
    ],
)
@pytest.mark.parametrize("color", ["always", "never"])
def test_json_is_compact_without_empty_context_and_without_color(entry: dict[str, Any], line: str, color: str) -> None:
    assert EventLogFormatter(format="json", color=color).format(entry) == line


def stamps(timestamp_format: str, *times: float) -> list[str]:
    formatter = EventLogFormatter(timestamp_format=timestamp_format)
    return [formatter.format({"timestamp": t, "name": "n"}).removesuffix(" n") for t in times]


def test_raw_is_padded_to_eleven_columns() -> None:
    assert stamps("raw", 1.5, 1738774194.078433) == ["   1.500000", "1738774194.078433"]


def test_offset_counts_from_the_first_entry() -> None:
    assert stamps("offset", 100.0, 101.25, 3700.5) == [
        "       0.000000",
        "       1.250000",
        "    3600.500000",
    ]


@pytest.mark.parametrize(
    ("tz", "timestamp", "stamp"),
    [
        ("UTC", 1552593348.073045, "2019-03-14T19:55:48.073045Z"),
        ("UTC", 1.9999999, "1970-01-01T00:00:01.999999Z"),  # cut, not rounded
        ("EST5", 1552593348.5, "2019-03-14T14:55:48.500000-0500"),
        ("Asia-5:30", 1552593348.5, "2019-03-15T01:25:48.500000+0530"),
    ],
)
def test_iso_is_local_time_with_its_zone(zone: Any, tz: str, timestamp: float, stamp: str) -> None:
    zone(tz)
    assert stamps("iso", timestamp) == [stamp]


@pytest.mark.parametrize("name", ["human", "reltime"])
def test_human_marks_the_minute_at_first_and_after_more_than_a_minute(name: str) -> None:
    start = 1738774194.078433
    assert stamps(name, start, start + 0.0163052, start + 60.0, start + 60.5, start + 61.0) == [
        "[Feb05 16:49]",
        "[  +0.016305]",
        "[ +60.000000]",
        "[Feb05 16:50]",
        "[  +0.500000]",
    ]


def test_colors_by_role() -> None:
    formatter = EventLogFormatter(color="always")
    entry = {"timestamp": 1.5, "name": "submit", "context": {"n": 1, "s": "x", "b": True}}
    assert formatter.format(entry) == (
        "\033[32m   1.500000\033[0m \033[33msubmit\033[0m"
        " \033[34mn\033[0m=\033[37m1\033[0m"
        ' \033[34ms\033[0m=\033[35m"x"\033[0m'
        " \033[34mb\033[0m=\033[35mtrue\033[0m"
    )


def test_exception_is_bold_red_and_mark_bold_green() -> None:
    formatter = EventLogFormatter(timestamp_format="human", color="always")
    assert formatter.format({"timestamp": 60.0, "name": "exception"}) == (
        "\033[1m\033[32m[Jan01 00:01]\033[0m \033[1m\033[31mexception\033[0m"
    )
    assert formatter.format({"timestamp": 61.0, "name": "x"}) == ("\033[32m[  +1.000000]\033[0m \033[33mx\033[0m")


@pytest.mark.parametrize("tty", [True, False])
def test_color_auto_asks_whether_stdout_is_a_terminal(monkeypatch: pytest.MonkeyPatch, tty: bool) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: tty)
    assert ("\033[" in EventLogFormatter(color="auto").format(SUBMIT)) is tty


def test_formatter_takes_event_objects() -> None:
    assert EventLogFormatter().format(EventLogEvent(json.dumps(SUBMIT))).startswith("1738774194.078433 submit ")
