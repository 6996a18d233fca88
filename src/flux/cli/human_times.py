"""Times as people read them: durations in two digits; the date once a minute, then seconds since (option --human)."""

from __future__ import annotations

from datetime import datetime

_END = "\033[0m"
_STAMP = "\033[32m"
_NEW_MINUTE = "\033[1;32m"


def short_duration(seconds: float) -> str:
    """Seconds as a duration of two digits, or as many as there are before the point: ``0.47s``, ``1.5h``, ``120d``."""
    if 0 < seconds < 0.1:
        value, unit = seconds * 1000, "ms"
    else:
        value, unit = seconds, "s"
        for size, larger in ((60, "m"), (60, "h"), (24, "d")):
            if value < size:
                break
            value, unit = value / size, larger
    return f"{value:.2g}{unit}" if value < 99.5 else f"{value:.0f}{unit}"


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
