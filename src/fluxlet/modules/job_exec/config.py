"""The table `[exec]` and the arguments of the module (spec 07, 4.6)."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterable
from typing import Any

import msgspec

from flux.util.durations import parse_fsd


class Settings(msgspec.Struct):
    """How jobs are run. Durations in seconds; None for none."""

    imp: str | None = None
    service: str = "rexec"
    method: str = "bulk-exec"
    job_shell: str | None = None
    kill_timeout: float = 5.0
    max_kill_count: int = 8
    max_kill_timeout: float | None = None
    term_signal: int = signal.SIGTERM
    kill_signal: int = signal.SIGKILL
    barrier_timeout: float | None = 1800.0
    shell_exit_timeout: float | None = 30.0
    max_start_delay_percent: float = 25.0
    guests_may_test: bool = False

    @classmethod
    def parse(cls, config: dict[str, Any], args: Iterable[str] = ()) -> Settings:
        """What the configuration says, and the arguments ``name=value`` over it. Raises ValueError, for the user."""
        table = config.get("exec", {})
        if not isinstance(table, dict):
            raise ValueError("error reading config table [exec]: expected a table")
        values = dict(table)
        for arg in args:
            name, equals, value = arg.partition("=")
            if not equals or name not in _NAMES:
                raise ValueError(f"unknown argument '{arg}'")
            values[name] = value
        found = cls()
        for name, value in values.items():
            reader = _NAMES.get(name)
            if reader is not None:
                attribute, read = reader
                try:
                    setattr(found, attribute, read(value))
                except (ValueError, TypeError, OverflowError):
                    raise ValueError(f"error reading config value exec.{name}: {value!r}") from None
        testexec = values.get("testexec", {})
        if isinstance(testexec, dict):
            found.guests_may_test = bool(testexec.get("allow-guests", False))
        return found

    @property
    def longest_kill(self) -> float:
        """How long the signals to the shells go on, in seconds."""
        if self.max_kill_timeout is not None:
            return self.max_kill_timeout
        # As the reference counts: what the last of the intervals is, were there no bound to them.
        return self.kill_timeout * 2.0 ** (self.max_kill_count - 1)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(value)
    return value


def _duration(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value)
    else:
        number = float(parse_fsd(_text(value)))
    if number < 0 or math.isnan(number):
        raise ValueError(value)
    return number


def _limit(value: Any) -> float | None:
    """A duration; ``none``, 0 and infinity are no limit."""
    if value == "none":
        return None
    seconds = _duration(value)
    return None if not seconds or math.isinf(seconds) else seconds


def _number(value: Any) -> int:
    number = int(value)
    if number < 1:
        raise ValueError(value)
    return number


def _signal(value: Any) -> int:
    if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
        return int(signal.Signals(int(value)))
    name = _text(value).upper()
    return int(signal.Signals[name if name.startswith("SIG") else f"SIG{name}"].value)


def _signal_or_value_error(value: Any) -> int:
    try:
        return _signal(value)
    except KeyError:
        raise ValueError(value) from None


_NAMES: dict[str, tuple[str, Any]] = {
    "imp": ("imp", _text),
    "service": ("service", _text),
    "method": ("method", _text),
    "job-shell": ("job_shell", _text),
    "kill-timeout": ("kill_timeout", _duration),
    "max-kill-count": ("max_kill_count", _number),
    "max-kill-timeout": ("max_kill_timeout", _limit),
    "term-signal": ("term_signal", _signal_or_value_error),
    "kill-signal": ("kill_signal", _signal_or_value_error),
    "barrier-timeout": ("barrier_timeout", _limit),
    "shell-exit-timeout": ("shell_exit_timeout", _limit),
    "max-start-delay-percent": ("max_start_delay_percent", float),
}
