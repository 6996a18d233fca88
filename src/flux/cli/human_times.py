"""Times as people read them: the date once a minute, then seconds since (option --human of several commands)."""

from __future__ import annotations

from datetime import datetime

_END = "\033[0m"
_STAMP = "\033[32m"
_NEW_MINUTE = "\033[1;32m"


def paint(escape: str, text: str, color: bool = True) -> str:
    """`text` between an escape sequence and its end."""
    return f"{escape}{text}{_END}" if color and escape else text


class HumanTimes:
    """Stamps for the lines of one output, in order.

    Args:
        delta: seconds are counted from the line before, not from the first of the minute.
        color: with escape sequences.
    """

    def __init__(self, delta: bool = False, color: bool = False) -> None:
        self.delta = delta
        self.color = color
        self._since: datetime | None = None  # what the next time is counted from
        self._minute: tuple[int, ...] = ()

    def stamp(self, time: datetime) -> str:
        """The stamp for an aware time."""
        local = time.astimezone()
        minute = local.timetuple()[:5]
        if self._since is None or minute != self._minute:
            self._minute, self._since = minute, time
            return paint(_NEW_MINUTE, local.strftime("[%b%d %H:%M]"), self.color)
        seconds = (time - self._since).total_seconds()
        if self.delta:
            self._since = time
        return self.plain(f"[{seconds:+11.6f}]")

    def plain(self, text: str) -> str:
        """A time in any other form, in the color of times."""
        return paint(_STAMP, text, self.color)
