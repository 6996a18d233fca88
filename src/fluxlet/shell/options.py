"""Shell options (spec 07, 5.13): attributes.system.shell.options, read with their types and defaults.

Unknown options are ignored. A bad value of a known one is a ShellError, which ends the job.
"""

from __future__ import annotations

from typing import Any

from flux.util.durations import parse_fsd


class ShellError(Exception):
    """What ends the shell's work for a job: the text is that of the FATAL message and of the job's exception.

    Args:
        text: for the user.
        component: of the shell, for its log.
        code: exit code of the shell.
    """

    def __init__(self, text: str, component: str | None = None, code: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.component = component
        self.code = code


def get(options: dict[str, Any], name: str, default: Any = None) -> Any:
    """The option with a dotted name."""
    value: Any = options
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return default
        value = value[part]
    return value


def flag(options: dict[str, Any], name: str, default: bool = False) -> bool:
    """Whether an option is set, to something else than 0 or false."""
    value = get(options, name)
    return default if value is None else bool(value)


def integer(options: dict[str, Any], name: str, default: int, least: int = 0) -> int:
    """A number. Raises ShellError."""
    value = get(options, name)
    if value is None:
        return default
    if type(value) is not int or value < least:
        raise ShellError(f"invalid value for option {name}: {value}")
    return value


def text(options: dict[str, Any], name: str, default: str | None = None) -> str | None:
    """A string. Raises ShellError."""
    value = get(options, name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ShellError(f"invalid value for option {name}: {value}")
    return str(value)


def seconds(options: dict[str, Any], name: str, default: float | None) -> float | None:
    """A duration: a number of seconds, text in FSD, or ``none``. Raises ShellError."""
    value = get(options, name)
    if value is None:
        return default
    if value == "none":
        return None
    try:
        return float(value) if type(value) in (int, float) else float(parse_fsd(str(value)))
    except ValueError:
        raise ShellError(f"invalid value for option {name}: {value}") from None
