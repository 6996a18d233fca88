"""Events of an eventlog (RFC 18), and their form for people (spec 02, section 15).

An eventlog is lines of JSON objects ``{"timestamp": T, "name": S, "context": {...}}``. This file knows single
entries only: reading logs is the business of `flux.kvs` and `flux.job`.

Rules that hold here: an entry handed in is never modified, and a formatter depends on the entries it was
given (offsets and minute marks refer to earlier ones), never on the clock.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from typing import Any


def _compact(value: Any, *, sort_keys: bool = False) -> str:
    """JSON without blanks, non-ASCII characters as they are."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=sort_keys)


class EventLogEvent(dict[str, Any]):
    """One eventlog entry: a dict with names for its members.

    Args:
        event: the entry as a mapping (copied), or its JSON text. A missing ``context`` becomes ``{}``.

    Raises:
        json.JSONDecodeError: text that is not JSON.
        TypeError: JSON that is not an object.
    """

    def __init__(self, event: Mapping[str, Any] | str | bytes) -> None:
        if isinstance(event, (str, bytes)):
            event = json.loads(event)
        if event.__class__ is not dict and not isinstance(event, Mapping):  # the first is the sooner said
            raise TypeError(f"an eventlog entry must be an object, not {type(event).__name__}")
        super().__init__(event)
        if "context" not in self:
            self["context"] = {}

    def __str__(self) -> str:
        return f"{self.timestamp:<0.5f}: {self.name} {self.context}"

    @property
    def name(self) -> str:
        """The event's name. KeyError if the entry has none."""
        name: str = self["name"]
        return name

    @property
    def timestamp(self) -> float:
        """Seconds since the epoch. KeyError if the entry has none."""
        timestamp: float = self["timestamp"]
        return timestamp

    @property
    def context(self) -> dict[str, Any]:
        """The event's details, ``{}`` if there are none."""
        context: dict[str, Any] = self["context"]
        return context

    @property
    def context_string(self) -> str:
        """The context as compact JSON with sorted keys, ``""`` if it is empty."""
        return _compact(self.context, sort_keys=True) if self.context else ""


class EventLogFormatter:
    """Turns eventlog entries into lines, as `flux job eventlog` shows them.

    Args:
        format: ``text`` or ``json``.
        timestamp_format: for text: ``raw`` seconds since the epoch, ``iso`` local time, ``offset`` seconds
            since the first entry formatted, ``human`` (or ``reltime``): the local minute at first and
            whenever more than a minute has passed since the last such mark, seconds since that mark
            otherwise.
        color: ``always``, ``never``, or ``auto``: if stdout is a terminal now. Affects text only.

    Raises:
        ValueError: an argument has another value.
    """

    BOLD = "\033[1m"
    YELLOW = "\033[33m"
    GREEN = "\033[32m"
    BLUE = "\033[34m"
    MAGENTA = "\033[35m"
    GRAY = "\033[37m"
    RED = "\033[31m"
    RESET = "\033[0m"

    eventlog_colors = {
        "name": YELLOW,
        "exception": BOLD + RED,
        "time": GREEN,
        "mark": BOLD + GREEN,
        "key": BLUE,
        "number": GRAY,
        "value": MAGENTA,
    }

    # Seconds after a mark of `human` within which entries are shown relative to it.
    _MARK_SPAN = 60.0

    def __init__(self, format: str = "text", timestamp_format: str = "raw", color: str = "auto") -> None:
        if format not in ("text", "json"):
            raise ValueError(f"Invalid entry_fmt: {format}")
        timestamps = {
            "raw": self._raw,
            "iso": self._iso,
            "offset": self._offset,
            "human": self._human,
            "reltime": self._human,
        }
        if timestamp_format not in timestamps:
            raise ValueError(f"Invalid timestamp_fmt: {timestamp_format}")
        if color not in ("auto", "always", "never"):
            raise ValueError(f"Invalid color: {color}")
        self._timestamp = timestamps[timestamp_format]
        self._json = format == "json"
        self._color = color == "always" or (color == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR"))
        self._first: float | None = None
        self._mark: float | None = None

    def format(self, entry: Mapping[str, Any]) -> str:
        """The line for one entry, an EventLogEvent or a plain dict, without newline.

        Raises:
            KeyError: the entry has no name or no timestamp (text only).
        """
        event = EventLogEvent(entry)
        if self._json:
            if not event.context:
                del event["context"]
            return _compact(event)
        words = [
            self._timestamp(event.timestamp),
            self._paint("exception" if event.name == "exception" else "name", event.name),
        ]
        words += [f"{self._paint('key', key)}={self._value(value)}" for key, value in event.context.items()]
        return " ".join(words)

    def _paint(self, role: str, text: str) -> str:
        return f"{self.eventlog_colors[role]}{text}{self.RESET}" if self._color else text

    def _value(self, value: Any) -> str:
        # A bool is an int to Python, and not a number to JSON.
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return self._paint("number" if number else "value", _compact(value))

    def _raw(self, timestamp: float) -> str:
        return self._paint("time", f"{timestamp:11.6f}")

    def _offset(self, timestamp: float) -> str:
        if self._first is None:
            self._first = timestamp
        return self._paint("time", f"{timestamp - self._first:15.6f}")

    def _iso(self, timestamp: float) -> str:
        seconds = int(timestamp // 1)
        microseconds = int((timestamp - seconds) * 1e6)
        local = time.localtime(seconds)
        zone = time.strftime("%z", local)
        if zone == "+0000":
            zone = "Z"
        return self._paint("time", f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{microseconds:06d}{zone}")

    def _human(self, timestamp: float) -> str:
        if self._mark is None or timestamp - self._mark > self._MARK_SPAN:
            self._mark = timestamp
            return self._paint("mark", time.strftime("[%b%d %H:%M]", time.localtime(timestamp)))
        return self._paint("time", f"[{timestamp - self._mark:+11.6f}]")
