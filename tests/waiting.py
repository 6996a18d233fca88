"""Waiting for what others do: conditions, with an end."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 60.0


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """The first true value of `condition`; fails the test if there is none in time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.01)
    raise AssertionError(f"waited in vain for {what}")


def gone(pid: int) -> bool:
    """True if a process has ended; waited for or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True
