"""What the subcommands of ``flux job`` have in common."""

from __future__ import annotations

import math
import os
import signal
from typing import Any

from flux.cli.options import Parsed
from flux.cli.tool import Failure, connect, show, text_of
from flux.core.handle import Flux
from flux.core.job_names import STATES
from flux.job.JobID import JobID

__all__ = ["Failure", "handle", "jobid", "number", "show", "signum", "states", "text_of", "userid"]

_ALL_USERS = 0xFFFFFFFF


def handle() -> Flux:
    """A connection. Raises Failure."""
    from flux.cli.commands.job import COMMAND

    return connect(COMMAND)


def jobid(word: str) -> JobID:
    """The id that a word is. Raises Failure."""
    try:
        return JobID(word)
    except ValueError:
        raise Failure(f'error parsing jobid: "{word}"') from None


def number(parsed: Parsed, name: str, default: int) -> int:
    """The number that an option gives. Raises Failure."""
    text = parsed.value(name)
    if text is None:
        return default
    try:
        return int(text)
    except ValueError:
        program = parsed.command.program.removeprefix("flux-")
        raise Failure(f"Option '{name}' requires an integer argument", f"flux-{program}") from None


def duration(parsed: Parsed, name: str) -> float:
    """The seconds that an option gives, negative without it. Raises Failure."""
    text = parsed.value(name)
    if text is None:
        return -1.0
    from flux.util import parse_fsd

    try:
        seconds = parse_fsd(text)
    except ValueError:
        raise Failure(f"Invalid argument for option '{name}': '{text}'", parsed.command.program) from None
    return -1.0 if math.isinf(seconds) else seconds


def signum(word: str) -> int | None:
    """The number of a signal, by name or number; None if it is none."""
    if word.isdecimal():
        return int(word)
    name = word.upper()
    try:
        return int(signal.Signals[name if name.startswith("SIG") else f"SIG{name}"])
    except KeyError:
        return None


def userid(word: str | None) -> int:
    """The id of a user; this one by default. Raises Failure."""
    if word is None:
        return os.getuid()
    if word == "all":
        return _ALL_USERS
    import pwd

    try:
        return pwd.getpwnam(word).pw_uid
    except KeyError:
        if word.isdecimal():
            return int(word)
        raise Failure(f"unknown user {word}") from None


def states(text: str | None, default: int) -> int:
    """The mask of some states. Raises Failure."""
    if text is None:
        return default
    spelled = {name: mask for mask, names in STATES.items() for long in names for name in (long, long.lower())}
    mask = 0
    for word in text.split(","):
        if word not in spelled:
            raise Failure(f"error parsing --states: {word} is unknown")
        mask |= spelled[word]
    return mask


def compact(value: Any) -> str:
    """JSON without blanks."""
    import json

    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
