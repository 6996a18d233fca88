"""The log: which messages go where, and what they look like there (spec 03, section 11)."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fluxlet.broker.attributes import Attributes
from fluxlet.broker.log import Log, long_text, short_text

STAMP = "2026-11-22T02:16:18.213975Z"


class Surroundings:
    """What a Log needs of its broker."""

    def __init__(self, rank: int = 0, parent: object = None, **settings: str) -> None:
        self.rank = rank
        self.owner = os.getuid()
        self.attributes = Attributes({name.replace("_", "-"): value for name, value in settings.items()})
        self.router = self
        self.parent = parent


def make(**settings: Any) -> Log:
    return Log(Surroundings(**settings))  # type: ignore[arg-type]


def message(severity: int, text: str, rank: object = 0) -> bytes:
    return f"<{severity << 3}>1 {STAMP} {rank} myapp 77 - - {text}".encode()


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_texts(utc: None) -> None:
    assert short_text(message(6, "hello world")) == "myapp.info[0]: hello world"
    assert long_text(message(3, "hello")) == "Nov 22 02:16:18.213975 UTC 2026 myapp.err[0]: hello"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"<48>1 " + STAMP.encode() + b' 3 app 1 - [a b="c d"][e] msg', "app.info[3]: msg"),
        (b"<48>1 " + STAMP.encode() + b" - app 1 - - two  words ", "app.info[0]: two  words "),
        (b"<48>1 " + STAMP.encode() + b" 0 app 1 - -", "app.info[0]: "),
        (b"<200>1 " + STAMP.encode() + b" 0 app 1 - - x", "app.25[0]: x"),
        (b"anything", "anything"),
        (b"<48>1 " + STAMP.encode() + b" 0 app 1 - [open msg", f"<48>1 {STAMP} 0 app 1 - [open msg"),
        (b"\xff", "\ufffd"),
        (b"", ""),
    ],
)
def test_parsing(raw: bytes, text: str) -> None:
    assert short_text(raw) == text


def test_a_message_without_time_is_shown_as_it_is() -> None:
    raw = b"<48>1 yesterday 0 app 1 - - x"
    assert long_text(raw) == raw.decode()


def test_own_messages_are_kept_and_those_of_others_counted() -> None:
    log = make(rank=2)
    log.append(message(6, "mine", 2))
    log.append(message(6, "theirs", 0))
    log.append(b"rubbish")
    log.append(b"")
    assert list(log.ring) == [message(6, "mine", 2)]
    assert (log.count, log.local, log.remote) == (1, 1, 3)


def test_a_host_that_is_no_number_counts_as_rank_0() -> None:
    log = make()
    log.append(message(6, "x", "-"))
    assert log.local == 1


def test_messages_end_at_the_first_nul_and_keep_their_line_breaks() -> None:
    log = make()
    log.append(message(6, "a\nb") + b"\0c")
    assert list(log.ring) == [message(6, "a\nb")]


def test_the_ring_forgets_the_oldest() -> None:
    log = make(log_ring_size="2")
    for text in "abc":
        log.append(message(6, text))
    assert list(log.ring) == [message(6, "b"), message(6, "c")]
    assert log.count == 3
    log.clear()
    assert not log.ring
    assert log.count == 3


@pytest.mark.parametrize(("size", "level", "kept"), [("0", "7", 0), ("9", "5", 0), ("9", "6", 1)])
def test_what_is_not_kept(size: str, level: str, kept: int) -> None:
    log = make(log_ring_size=size, log_level=level)
    heard: list[int] = []
    log.listeners.append(lambda severity, raw: heard.append(severity))
    log.append(message(6, "x"))
    assert len(log.ring) == log.count == len(heard) == kept
    assert log.local == 1


def test_lines_written_by_the_broker_are_messages_of_their_own() -> None:
    log = make(rank=3)
    log.write(4, "one\r\n\ntwo\n")
    log.write(7, "three", "kvs")
    shape = re.compile(rf"<(\d+)>1 {re.sub('[0-9]', '[0-9]', STAMP)} 3 (\w+) {os.getpid()} - - (\w+)")
    found = [shape.fullmatch(raw.decode()) for raw in log.ring]
    assert [match and match.groups() for match in found] == [
        ("32", "broker", "one"),
        ("32", "broker", "two"),
        ("56", "kvs", "three"),
    ]


@pytest.mark.parametrize(
    ("settings", "severity", "shown"),
    [
        ({}, 3, "long"),
        ({}, 4, None),
        ({"log_stderr_level": "6"}, 6, "long"),
        ({"log_stderr_level": "-1"}, 3, None),
        ({"log_stderr_level": "-1"}, 2, "long"),  # critical: always
        ({"log_stderr_level": "-1", "log_critical_level": "-1"}, 0, None),
        ({"log_stderr_mode": "local"}, 3, "short"),
        ({"log_stderr_mode": "local"}, 4, None),
        ({"log_stderr_mode": "local", "log_stderr_level": "-1"}, 2, "short"),
        # Another rank sends it on instead.
        ({"rank": 1, "parent": object()}, 3, None),
        ({"rank": 1, "parent": object()}, 2, "long"),
        ({"rank": 1, "parent": object(), "log_stderr_mode": "local"}, 3, "short"),
        ({"rank": 1, "parent": None}, 3, "long"),  # nobody there to send it to
    ],
)
def test_stderr(
    settings: dict[str, Any], severity: int, shown: str | None, capsys: pytest.CaptureFixture[str], utc: None
) -> None:
    log = make(**settings)
    if settings.get("rank"):
        log.forward = lambda raw: None
    raw = message(severity, "x", settings.get("rank", 0))
    log.append(raw)
    texts = {"long": long_text(raw) + "\n", "short": f"<{severity}>{short_text(raw)}\n", None: ""}
    assert capsys.readouterr().err == texts[shown]


def test_a_level_set_at_run_time_takes_effect_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    log = make()
    log.broker.attributes.set("log-stderr-level", "6")
    log.append(message(6, "x"))
    assert "myapp.info[0]: x" in capsys.readouterr().err
    log.broker.attributes.remove("log-stderr-level")
    log.append(message(4, "y"))
    assert capsys.readouterr().err == ""


def test_other_ranks_send_on_what_is_bad_enough() -> None:
    sent: list[bytes] = []
    log = make(rank=1, parent=object(), log_forward_level="4")
    log.forward = sent.append
    for severity in (3, 4, 5):
        log.append(message(severity, "mine", 1))
        log.append(message(severity, "of a child", 3))
    assert sent == [message(s, text, rank) for s in (3, 4) for text, rank in (("mine", 1), ("of a child", 3))]


def test_log_file(tmp_path: Path, utc: None) -> None:
    path = tmp_path / "log"
    log = make(log_filename=str(path), log_level="3")
    log.append(message(7, "debug"))
    log.append(message(6, "of another", 9))
    assert path.read_text() == long_text(message(7, "debug")) + "\n" + long_text(message(6, "of another", 9)) + "\n"
    assert path.stat().st_mode & 0o777 == 0o600
    log.close()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_log_file_that_cannot_be_written_is_given_up(capsys: pytest.CaptureFixture[str]) -> None:
    log = make(log_filename="/dev/full")
    log.append(message(7, "x"))
    log.append(message(7, "y"))
    assert capsys.readouterr().err.count("log file /dev/full: No space left on device; no longer written") == 1
    assert len(log.ring) == 3


def test_a_closed_stderr_costs_nothing_but_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    log = make()
    with open(os.devnull, "w") as closed:
        pass
    monkeypatch.setattr("sys.stderr", closed)
    log.append(message(0, "x"))
    assert log.count == 1


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("log-level", "x", "log-level: Invalid argument"),
        ("log-level", "8", "log-level: Invalid argument"),
        ("log-ring-size", "-1", "log-ring-size: Invalid argument"),
        ("log-ring-size", "9" * 30, "log-ring-size: Invalid argument"),
        ("log-stderr-mode", "both", "log-stderr-mode: Invalid argument"),
        ("log-syslog-enable", "yes", "log-syslog-enable: value must be 0 or 1"),
        ("log-filename", "/nosuch/dir/x", "log-filename: /nosuch/dir/x: No such file or directory"),
    ],
)
def test_settings_that_will_not_do(name: str, value: str, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text) + "$"):
        make(**{name.replace("-", "_"): value})
