"""``--since=WHEN`` of listings (spec 08, 9.1)."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable

_AGO = re.compile(r"-[0-9]")


def joined(argv: Iterable[str]) -> list[str]:
    """A command line in which ``--since -1h`` is one word: argparse takes -1h for an option."""
    words: list[str] = []
    for word in argv:
        if words and words[-1] == "--since" and _AGO.match(word):
            words[-1] = f"--since={word}"
        else:
            words.append(word)
    return words


def since(text: str) -> float:
    """Seconds since the epoch. Raises ValueError for what is no time, or has not come yet."""
    from flux.util import parse_datetime

    try:
        when = parse_datetime(text).timestamp()
    except ValueError:
        when = float(text)
    if when > time.time():
        raise FutureError(f"--since={text} appears to be in the future")
    return when


class FutureError(ValueError):
    """A time that has not come yet."""
