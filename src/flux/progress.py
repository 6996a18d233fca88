"""A status line, or a progress bar, on the last row of the terminal (spec 02, section 16).

The row is taken out of the scrolling region while the bar is started; ordinary output scrolls above it.
The escape sequences are those of the VT100 family: save and restore the cursor (ESC 7, ESC 8), set the
scrolling region (``ESC [ top ; bottom r``), line wrap off and on (``ESC [ ? 7 l``, ``ESC [ ? 7 h``).

Rule: whatever happens, the terminal gets its full scrolling region back: by stop(), or at exit.
"""

from __future__ import annotations

import atexit
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any


def _terminal_size() -> Any:
    from shutil import get_terminal_size  # many who import this have no bar

    return get_terminal_size()


class ElapsedTime(float):
    """Seconds, formatted as a float, with the same span as a timedelta in `dt`, and for people in `hms`."""

    @property
    def dt(self) -> timedelta:
        """The span as a timedelta: ``{elapsed.dt}`` in a format shows ``0:01:30``."""
        return timedelta(seconds=float(self))

    @property
    def hms(self) -> str:
        """The span in whole seconds: ``0:01:30``."""
        return str(timedelta(seconds=int(self)))


class Bottombar:
    """A status line on the last row of the terminal.

    Args:
        formatter: called as ``formatter(bar, width)``, returns the text for a row of `width` columns.
            Default: ``key=value`` of all keyword arguments.
        kwargs: values for the formatter, readable as attributes of the bar (KeyError if there is no such
            value).
    """

    def __init__(self, formatter: Callable[[Any, int], str] | None = None, **kwargs: Any) -> None:
        self._formatter = formatter
        self._values = kwargs
        self._started_at: float | None = None
        self._stopped_after: float | None = None
        self._lines = 0  # height of the terminal the scrolling region is set for; 0: not set
        self._drawn_at = 0.0

    def __getattr__(self, attr: str) -> Any:
        # Reached only for names that are no real attribute. Python itself probes for names with underscores
        # (copy, pickle, inspect) and must get AttributeError.
        if attr.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {attr!r}")
        return self._values[attr]

    @property
    def elapsed(self) -> ElapsedTime:
        """Seconds since start(), frozen by stop(); 0 before."""
        if self._started_at is None:
            return ElapsedTime(0.0)
        if self._stopped_after is not None:
            return ElapsedTime(self._stopped_after)
        return ElapsedTime(time.monotonic() - self._started_at)

    def __str__(self) -> str:
        """The text for the terminal's present width."""
        if self._formatter is None:
            return " ".join(f"{key}={value}" for key, value in self._values.items())
        return self._formatter(self, _terminal_size().columns)

    def start(self) -> Bottombar:
        """Takes the last row and draws; returns self. Again while started: nothing."""
        if not self._lines:
            self._started_at = time.monotonic()
            self._stopped_after = None
            atexit.register(self.stop)
            self._setup(_terminal_size().lines)
            self.redraw()
        return self

    def update(self, **kwargs: Any) -> None:
        """Sets values, and draws if started."""
        self._values.update(kwargs)
        self.redraw()

    def redraw(self) -> None:
        """Draws the row if started; follows a terminal that has changed its size."""
        if not self._lines:
            return
        self._drawn_at = time.monotonic()
        lines = _terminal_size().lines
        if lines != self._lines:
            self._setup(lines)
        self._write(f"\0337\033[{lines};1H\033[2K\033[?7l\033[0m{self}\033[?7h\0338")

    def is_stale(self, seconds: float) -> bool:
        """True if what is on the screen is that old: for those who hear of more than anybody could see."""
        return time.monotonic() - self._drawn_at >= seconds

    def stop(self) -> None:
        """Gives the row back and leaves the final text in the scrolled output; nothing if not started."""
        if not self._lines:
            return
        self._stopped_after = self.elapsed
        lines, self._lines = _terminal_size().lines, 0
        atexit.unregister(self.stop)
        self._write(f"\0337\033[{lines};1H\033[K\033[r\0338{self}\n")

    def _setup(self, lines: int) -> None:
        # Full region first, then down and up by one line: if the cursor is on the last row this scrolls the
        # screen, so that the row taken is free.
        self._lines = lines
        self._write(f"\0337\033[r\0338\033D\033M\0337\033[1;{lines - 1}r\0338")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


class ProgressBar(Bottombar):
    """A bar that fills the row between two texts.

    Args:
        total: the count at which the work is done.
        style: a key of `bar_style`: ``line``, ``bar``, ``dots``, ``steps``, ``vertbars``.
        before, after: formats with ``total``, ``count``, ``percent``, ``elapsed`` and all `kwargs`.
        autostop: stop() when the total is reached.

    Raises:
        KeyError: unknown style.
    """

    # From empty to full; the middle ones draw a cell that is partly filled.
    bar_style = {
        "line": "─━",
        "bar": "─█",
        "dots": "⣀⣄⣤⣦⣶⣷⣿",
        "steps": " ▁▂▃▄▅▆▇█",
        "vertbars": " ▏▎▍▌▋▊▉█",
    }

    def __init__(
        self,
        total: float = 100,
        style: str = "vertbars",
        before: str = "",
        after: str = " {percent:5.1f}%",
        autostop: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(ProgressBar._row, **kwargs)
        self.total = total
        self.count: float = 0
        self._cells = self.bar_style[style]
        self._before = before
        self._after = after
        self._autostop = autostop

    @property
    def percent(self) -> float:
        """Part of the total that is done; a total of 0 is done from the beginning."""
        return 100.0 * self._done()

    def update(self, advance: float = 1, **kwargs: Any) -> None:
        """Adds `advance` to the count, sets values, and draws."""
        self.count += advance
        super().update(**kwargs)
        if self._autostop and self.count >= self.total:
            self.stop()

    def _done(self) -> float:
        return self.count / self.total if self.total else 1.0

    def _row(self, width: int) -> str:
        fields = self._values | {
            "total": self.total,
            "count": self.count,
            "percent": self.percent,
            "elapsed": self.elapsed,
        }
        before, after = self._before.format(**fields), self._after.format(**fields)
        columns = max(width - len(before) - len(after) - 2, 0)
        return f"{before}│{self._bar(columns)}│{after}"

    def _bar(self, columns: int) -> str:
        filled = min(max(self._done(), 0.0), 1.0) * columns
        whole = int(filled)
        bar = self._cells[-1] * whole
        if whole < columns:
            bar += self._cells[int((filled - whole) * (len(self._cells) - 1))]
        return bar.ljust(columns, self._cells[0])
