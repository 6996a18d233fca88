"""What flux submit sends is what the reference's sent, and it prints what that printed (spec 08, 6.3)."""

from __future__ import annotations

import os
import subprocess

import pytest
from goldens import BIN
from recorded_broker import RecordedBroker

#: The limits of the process that was recorded.
LIMITS = (
    *("-*", "cpu=unlimited", "fsize=unlimited", "data=unlimited", "stack=8388608", "core=0", "nofile=20000"),
    *("as=unlimited", "rss=unlimited", "nproc=96365"),
)
RLIMITS = [f"--rlimit={limit}" for limit in LIMITS]


@pytest.mark.parametrize(
    ("recording", "words", "output"),
    [
        ("jobinfo-cli-submit", ["submit", "--env=-*", "--rlimit=-*", "true"], "ƒC4we2K\n"),
        (
            "jobinfo-cli-submit-cc-watch",
            ["submit", "--cc=0-1", "--watch", "--env=-*", *RLIMITS, "echo", "{cc}"],
            "ƒJMebM9\nƒJMebMA\n0\n1\n",
        ),
    ],
)
def test_it_says_and_prints_the_same(recording: str, words: list[str], output: str) -> None:
    with RecordedBroker(recording) as broker:
        done = subprocess.run(
            [str(BIN / "flux"), *words],
            cwd="/tmp",
            env={**os.environ, "FLUX_URI": broker.uri, "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, output, "")
