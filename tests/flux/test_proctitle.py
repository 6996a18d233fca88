"""flux.proctitle: the thread's name in ps (spec 02, section 16)."""

from __future__ import annotations

import platform
import threading
from pathlib import Path
from unittest import mock

import pytest

from flux.proctitle import set_proctitle


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("name", "shown"), [("mymod", "mymod"), ("a-name-of-twenty-byt", "a-name-of-twent"), ("ƒ1", "ƒ1")]
)
def test_name_shows_in_proc(name: str, shown: str) -> None:
    # In a thread of its own: the name is the thread's, and pytest keeps its own.
    seen: list[str] = []

    def run() -> None:
        set_proctitle(name)
        seen.append(Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text().rstrip("\n"))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [shown]


def test_calls_prctl_once() -> None:
    with (
        mock.patch("flux.proctitle.platform.system", return_value="Linux"),
        mock.patch("flux.proctitle.ctypes.CDLL") as cdll,
    ):
        set_proctitle("mymod")
    cdll.return_value.prctl.assert_called_once_with(15, b"mymod", 0, 0, 0)


def test_does_nothing_elsewhere() -> None:
    with (
        mock.patch("flux.proctitle.platform.system", return_value="Darwin"),
        mock.patch("flux.proctitle.ctypes.CDLL") as cdll,
    ):
        set_proctitle("mymod")
    cdll.assert_not_called()


@pytest.mark.parametrize("failure", [OSError("no library"), AttributeError("prctl")])
def test_never_raises(failure: Exception) -> None:
    with (
        mock.patch("flux.proctitle.platform.system", return_value="Linux"),
        mock.patch("flux.proctitle.ctypes.CDLL", side_effect=failure) as cdll,
    ):
        set_proctitle("mymod")
    cdll.assert_called_once()
