"""Crontabs as `flux cron tab` and the broker attribute cron.directory read them (flux-cron(1)).

A line has five fields and a command: minute 0-59, hour 0-23, day of the month 1-31, month 0-11, day of the week 0-6.
What may be in a field is up to the module `cron`. Empty lines, and those that begin with #, mean nothing.
"""

from __future__ import annotations

_FIELDS = ("minute", "hour", "mday", "month", "weekday")


def parse_crontab(text: str) -> list[tuple[int, dict[str, int | str], str]]:
    """(line number, args of an entry of type datetime, command) for each line.

    Raises ValueError, with the number of the line, for one without command.
    """
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split(maxsplit=len(_FIELDS))
        if len(words) <= len(_FIELDS):
            raise ValueError(f"line {number}: minute, hour, day, month, weekday and a command are needed: {line}")
        *fields, command = words
        args: dict[str, int | str] = {"second": 0, **dict(zip(_FIELDS, fields, strict=True))}
        found.append((number, args, command.rstrip()))
    return found
