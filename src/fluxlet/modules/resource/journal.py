"""Journal: the events of an instance's resources, and how they are told to who asks (spec 07, 2.3). Pure."""

from __future__ import annotations

from collections import deque
from typing import Any

#: Events of one response.
_BATCH = 100

Event = dict[str, Any]


class Journal:
    """The events since the start, and those before that are in the eventlog.

    Args:
        most: how many are kept.
    """

    def __init__(self, most: int) -> None:
        self.events: deque[tuple[Event, dict[str, Any] | None]] = deque()
        self._most = most
        self._dropped = 0.0

    @property
    def most(self) -> int:
        """How many events are kept."""
        return self._most

    @most.setter
    def most(self, most: int) -> None:
        self._most = most
        self._shorten()

    def _shorten(self) -> None:
        while len(self.events) > self._most:
            event, _ = self.events.popleft()
            self._dropped = event["timestamp"]

    def append(self, event: Event, r: dict[str, Any] | None = None) -> Event:
        """Takes in an event; `r` is R for a resource-define. Returns what is told of it."""
        self.events.append((event, r))
        self._shorten()
        return _told([event], r)

    def history(self) -> list[Event]:
        """The payloads of the responses with all events so far, and the empty one that ends them."""
        payloads: list[Event] = []
        batch: list[Event] = []
        if self._dropped:
            batch.append({"timestamp": self._dropped, "name": "truncate"})
        for event, r in self.events:
            if r is None and len(batch) < _BATCH:
                batch.append(event)
                continue
            if batch:
                payloads.append(_told(batch, None))
            batch = []
            if r is None:
                batch.append(event)
            else:
                payloads.append(_told([event], r))
        if batch:
            payloads.append(_told(batch, None))
        payloads.append({"events": []})
        return payloads


def _told(events: list[Event], r: dict[str, Any] | None) -> Event:
    return {"events": events} if r is None else {"events": events, "R": r}
