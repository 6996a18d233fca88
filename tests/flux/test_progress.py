"""flux.progress: what the status line writes to the terminal (spec 02, section 16)."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest

import flux
from flux.eventlog import EventLogEvent
from flux.job.info import JobInfo
from flux.job.watcher import JobProgressBar
from flux.progress import Bottombar, ElapsedTime, ProgressBar


@pytest.fixture(autouse=True)
def size(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the terminal's size; 40 columns and 24 lines until called."""

    def set_size(columns: int, lines: int) -> None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", str(lines))

    set_size(40, 24)
    return set_size


def setup(lines: int) -> str:
    return f"\0337\033[r\0338\033D\033M\0337\033[1;{lines - 1}r\0338"


def drawn(text: str, lines: int = 24) -> str:
    return f"\0337\033[{lines};1H\033[2K\033[?7l\033[0m{text}\033[?7h\0338"


def stopped(text: str, lines: int = 24) -> str:
    return f"\0337\033[{lines};1H\033[K\033[r\0338{text}\n"


def test_start_update_stop_write_these_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bottombar(lambda bar, width: f"{bar.jobs} of {width}", jobs=1)
    assert bar.start() is bar
    assert capsys.readouterr().out == setup(24) + drawn("1 of 40")
    bar.update(jobs=2)
    assert capsys.readouterr().out == drawn("2 of 40")
    bar.redraw()
    assert capsys.readouterr().out == drawn("2 of 40")
    bar.stop()
    assert capsys.readouterr().out == stopped("2 of 40")


def test_nothing_is_written_unless_started(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bottombar(n=1)
    bar.update(n=2)
    bar.redraw()
    bar.stop()
    assert capsys.readouterr().out == ""
    assert bar.n == 2


def test_second_start_and_second_stop_write_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bottombar(n=1).start()
    capsys.readouterr()
    bar.start()
    assert capsys.readouterr().out == ""
    bar.stop()
    capsys.readouterr()
    bar.stop()
    assert capsys.readouterr().out == ""


def test_bar_follows_a_terminal_that_is_resized(size: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bottombar(lambda bar, width: str(width)).start()
    size(60, 30)
    capsys.readouterr()
    bar.redraw()
    assert capsys.readouterr().out == setup(30) + drawn("60", 30)
    bar.stop()
    assert capsys.readouterr().out == stopped("60", 30)


def test_default_text_is_key_value() -> None:
    assert str(Bottombar(a=1, b="x")) == "a=1 b=x"


def test_missing_value_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="nope"):
        _ = Bottombar(a=1).nope


def test_python_may_probe_for_its_own_names() -> None:
    assert not hasattr(Bottombar(), "__deepcopy__")


def test_elapsed_is_zero_before_start_and_frozen_by_stop() -> None:
    bar = Bottombar()
    assert bar.elapsed == 0.0
    bar.start()
    assert isinstance(bar.elapsed, ElapsedTime)
    bar.stop()
    assert bar.elapsed == bar.elapsed > 0.0


def test_elapsed_time_is_a_float_with_a_timedelta() -> None:
    elapsed = ElapsedTime(90.5)
    assert f"{elapsed:.1f} {elapsed.dt}" == "90.5 0:01:30.500000"
    assert elapsed.dt == timedelta(seconds=90.5)


def test_terminal_is_restored_at_exit_if_not_stopped() -> None:
    script = "from flux.progress import Bottombar; Bottombar(a=1).start()"
    environ = os.environ | {"COLUMNS": "40", "LINES": "24"}
    done = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)
    assert done.stdout == setup(24) + drawn("a=1") + stopped("a=1")


@pytest.mark.parametrize(
    ("style", "count", "text"),
    [
        ("vertbars", 0, "          "),
        ("vertbars", 100, "██████████"),
        ("vertbars", 5, "▌         "),
        ("vertbars", 54, "█████▍    "),
        ("vertbars", 49.9, "████▉     "),
        ("line", 0, "──────────"),
        ("line", 50, "━━━━━─────"),
        ("bar", 30, "███───────"),
        ("dots", 55, "⣿⣿⣿⣿⣿⣦⣀⣀⣀⣀"),
        ("steps", 75, "███████▄  "),
        ("vertbars", 200, "██████████"),
        ("vertbars", -5, "          "),
    ],
)
def test_bar_is_filled_by_cells_of_its_style(size: Any, style: str, count: float, text: str) -> None:
    size(12, 24)
    bar = ProgressBar(style=style, after="")
    bar.update(count)
    assert str(bar) == f"│{text}│"


def test_before_and_after_are_formatted_with_all_values() -> None:
    bar = ProgressBar(total=4, before="{name} {count}/{total}", after="{percent:6.1f}% {elapsed.dt}", name="jobs")
    bar.update(3, name="JOBS")
    # 40 columns, less the texts and the two bars, leave 15 cells: 11.25 of them full
    assert str(bar) == "JOBS 3/4│" + "█" * 11 + "▎" + " " * 3 + "│  75.0% 0:00:00"


def test_total_of_zero_is_done() -> None:
    assert ProgressBar(total=0).percent == 100.0


def test_row_too_narrow_for_a_bar_has_an_empty_one(size: Any) -> None:
    size(5, 24)
    assert str(ProgressBar(before="before")) == "before││   0.0%"


def test_unknown_style_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="curly"):
        ProgressBar(style="curly")


@pytest.mark.parametrize("advances", [[1, 1], [2], [1, 5]])
def test_autostop_when_total_is_reached_or_passed(advances: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar(total=2, autostop=True).start()
    for advance in advances:
        assert not capsys.readouterr().out.endswith("\n")
        bar.update(advance)
    assert capsys.readouterr().out.endswith("%\n")


def test_without_autostop_a_full_bar_stays(capsys: pytest.CaptureFixture[str]) -> None:
    bar = ProgressBar(total=1).start()
    bar.update()
    assert not capsys.readouterr().out.endswith("\n")
    bar.stop()


def test_jobs_by_the_hundred_are_not_drawn_event_by_event(size: Any, capsys: pytest.CaptureFixture[str]) -> None:
    bar = JobProgressBar(flux.Flux("loop://"), update_interval=1000.0).start()
    for jobid in range(100):
        bar.add_job(JobInfo({"id": jobid, "state": 1}))
    for jobid in range(100):
        for name, context in (("alloc", {}), ("finish", {"status": 256 if jobid < 7 else 0}), ("clean", {})):
            bar.process_event(jobid, EventLogEvent({"name": name, "timestamp": 0.0, "context": context}))
    seen = capsys.readouterr().out
    bar.stop()
    assert seen.count("PD:") == 1  # when it was started
    assert "PD:  0 R:  0 CD: 93 F:  7" in capsys.readouterr().out
    assert (bar.count, bar.percent) == (100, 100.0)
