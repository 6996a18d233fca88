"""Signals in words, for numbers that may be none: those in wait statuses and exit codes are what users make them."""

from __future__ import annotations

import signal


def signal_text(signum: int) -> str | None:
    """ "Killed", for 9; None for a number that no signal has, or none with a name."""
    try:
        return signal.strsignal(signum)
    except ValueError:
        return None
