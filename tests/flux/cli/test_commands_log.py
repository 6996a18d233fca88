"""flux dmesg and flux logger (spec 03, 14.4; formats: 11.4)."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest
from command_instance import Instance, recording

import flux
from flux.cli.commands.dmesg import Printer

STAMP = "2026-11-22T01:50:{:09.6f}Z"


def message(seconds: float = 21.746025, severity: int = 5, text: str = "hello world", rest: str = "- -") -> str:
    return f"<{severity << 3}>1 {STAMP.format(seconds)} 0 logger 99 {rest} {text}"


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "line"),
    [
        ("UTC", "2026-11-22T01:50:21.746025Z logger.notice[0]: hello world"),
        ("EST5", "2026-11-21T20:50:21.746025-05:00 logger.notice[0]: hello world"),
    ],
    indirect=["zone"],
)
def test_time_is_local_and_says_so(zone: None, line: str) -> None:
    assert Printer().line(message()) == line


@pytest.mark.parametrize("zone", ["UTC"], indirect=True)
@pytest.mark.parametrize(
    ("delta", "third"), [(False, "[  +2.000000] logger.notice[0]: c"), (True, "[  +1.500000] logger.notice[0]: c")]
)
def test_human_times_count_from_the_minutes_first_message(zone: None, delta: bool, third: str) -> None:
    printer = Printer(human=True, delta=delta)
    lines = [printer.line(message(seconds, text=text)) for seconds, text in ((1.0, "a"), (1.5, "b"), (3.0, "c"))]
    assert lines == ["[Nov22 01:50] logger.notice[0]: a", "[  +0.500000] logger.notice[0]: b", third]
    next_minute = message(5.0, text="d").replace("01:50", "01:51")
    assert printer.line(next_minute) == "[Nov22 01:51] logger.notice[0]: d"


@pytest.mark.parametrize(
    ("rest", "text"),
    [
        ("- -", "m"),
        ("- -", ""),
        ("- -", "with [brackets] and blanks"),
        ('- [a b="c d"][e f="g"]', "m"),
    ],
)
def test_structured_data_ends_at_the_first_blank_outside_of_brackets(rest: str, text: str) -> None:
    assert Printer().line(message(rest=rest, text=text)).endswith(f" logger.notice[0]: {text}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no log message",
        "<x>1 2026-11-22T01:50:21.746025Z 0 a 1 - - m",
        "<999>1 2026-11-22T01:50:21Z 0 a 1 - - m",
        "<40>1 yesterday 0 a 1 - - m",
        "<40>1 2026-11-22T01:50:21 0 a 1 - - m",
    ],
)
def test_text_that_is_no_log_message_is_shown_as_it_is(text: str) -> None:
    assert Printer(color=True).line(text) == text


def test_colors_tell_the_severity() -> None:
    printer = Printer(color=True)
    colors = [re.search(r"\033\[0m: (.*)", printer.line(message(severity=n, text="m"))) for n in range(8)]
    assert [match and match[1] for match in colors] == [
        "\033[7;31mm\033[0m",
        "\033[7;31mm\033[0m",
        "\033[1;31mm\033[0m",
        "\033[31mm\033[0m",
        "\033[1mm\033[0m",
        "m",
        "m",
        "\033[34mm\033[0m",
    ]
    human = Printer(human=True, color=True)
    assert [human.line(message()).split("m")[0] for _ in range(2)] == ["\033[1;32", "\033[32"]


# The commands.


def unstamped(lines: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(line["topic"], line["nodeid"], line["flags"]) for line in lines]


def test_requests_are_those_of_the_reference(instance: Instance) -> None:
    instance.run("dmesg", "-C")
    assert instance.take() == recording("broker-log", 0)
    instance.run("logger", "-n", "myapp", "-s", "info", "hello", "world")
    assert unstamped(instance.take()) == unstamped(recording("broker-log", 1))
    instance.run("logger", input="line1\nline2\n")
    assert unstamped(instance.take()) == unstamped(recording("broker-log", 2))
    instance.run("dmesg")
    assert instance.take() == recording("broker-log", 3)
    instance.run("dmesg", "-c")
    assert instance.take() == recording("broker-log", 6)


def shown(instance: Instance, *words: str) -> list[str]:
    done = instance.run("dmesg", *words)
    assert (done.stderr, done.returncode) == ("", 0)
    return [re.sub(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z ", "", line) for line in done.stdout.splitlines()]


def test_what_is_logged_is_shown_until_it_is_cleared(instance: Instance) -> None:
    instance.run("dmesg", "--clear")
    instance.run("logger", "hello", "-s", "info", "world", "--appname=myapp")
    instance.run("logger", input="line1\n\nline2\r\n")
    expected = ["myapp.info[0]: hello world", "logger.notice[0]: line1", "logger.notice[0]: line2"]
    assert shown(instance) == expected
    assert shown(instance, "--read-clear") == expected
    assert shown(instance) == []


@pytest.mark.parametrize("name", ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"])
def test_severities_by_name(instance: Instance, name: str) -> None:
    instance.run("dmesg", "-C")
    instance.run("logger", "-s", name, "m")
    assert shown(instance) == [f"logger.{name}[0]: m"]


def test_follow_shows_new_messages_as_they_come(instance: Instance) -> None:
    instance.run("logger", "old")
    process = instance.start("dmesg", "--follow", "--new")
    with instance.news:
        assert instance.news.wait_for(lambda: any(sent["topic"] == "log.dmesg" for sent in instance.sent), 60)
    assert [sent for sent in instance.take() if sent["topic"] == "log.dmesg"] == recording("broker-log", 4)
    with flux.Flux(instance.uri) as handle:
        handle.log(3, "new")
    assert process.stdout is not None
    assert re.search(r"\.err\[0\]: new$", process.stdout.readline())
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("dmesg", "-d"), "flux-dmesg: --delta can only be used with --human"),
        (("dmesg", "-L=always"), "flux-dmesg: invalid argument for --color: '=always': use always, never or auto"),
        (
            ("logger", "-s", "x", "m"),
            "flux-logger: invalid severity: Use emerg|alert|crit|err|warning|notice|info|debug",
        ),
    ],
)
def test_errors(instance: Instance, words: tuple[str, ...], error: str) -> None:
    done = instance.run(*words)
    assert (done.stderr, done.returncode) == (error + "\n", 1)


def test_a_guest_may_not_read_the_log(instance: Instance) -> None:
    done = instance.run("dmesg", FLUX_HANDLE_USERID="1234", FLUX_HANDLE_ROLEMASK="0x2")
    assert (done.stderr, done.returncode) == ("flux-dmesg: log.dmesg: Request requires owner credentials\n", 1)


@pytest.mark.parametrize(
    ("option", "colored"), [("-Lalways", True), ("-L", True), ("--color=never", False), ("-n", False)]
)
def test_color(instance: Instance, option: str, colored: bool) -> None:
    instance.run("logger", "m")
    assert ("\033[" in instance.run("dmesg", *([] if option == "-n" else [option])).stdout) is colored


def test_logger_help_exits_1(instance: Instance) -> None:
    assert instance.run("logger", "--help").returncode == 1
