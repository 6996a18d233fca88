"""What makes an entry run: time that passes, events, dates (spec 03, 13.8). Pure: times are given, nothing waits.

`parse_schedule` makes one of the `type` and `args` of cron.create. `typedata` is what entries show of it.
"""

from __future__ import annotations

import errno
from datetime import tzinfo
from typing import Any, TypeAlias

import msgspec

from fluxlet.modules.cron.calendar import Calendar


class IntervalArgs(msgspec.Struct):
    """`args` of the type interval, in seconds. `after`: until the first run; None: `interval`."""

    interval: float
    after: float | None = None


class EventArgs(msgspec.Struct):
    """`args` of the type event. `nth`: one run in so many events; `after`: the first run is for this event, counted
    from 1; `min_interval`: seconds between two runs, at least."""

    topic: str
    nth: int = 0
    after: int = 0
    min_interval: float = 0.0


class IntervalSchedule:
    """Runs after a while, then again and again."""

    kind = "interval"

    def __init__(self, args: IntervalArgs) -> None:
        self.interval = args.interval
        self.after = args.interval if args.after is None else args.after
        if self.interval <= 0 or self.after < 0:
            raise OSError(errno.EINVAL, "interval must be greater than zero, and after not be negative")

    def typedata(self, next_wakeup: float) -> dict[str, Any]:
        """For `Entry`; `next_wakeup`: seconds since the epoch."""
        return {"interval": self.interval, "after": self.after, "next_wakeup": next_wakeup}


class DateSchedule:
    """Runs at certain dates.

    Args:
        args: as of `Calendar`.
        zone: None: the machine's.
    """

    kind = "datetime"

    def __init__(self, args: dict[str, int | str], zone: tzinfo | None = None) -> None:
        try:
            self.calendar = Calendar(args)
        except ValueError as exc:
            raise OSError(errno.EINVAL, str(exc)) from None
        self.zone = zone

    def next_run(self, now: float) -> int | None:
        """The first date after `now`, both in seconds since the epoch; None if there is none any more."""
        return self.calendar.next_run(now, self.zone)

    def typedata(self, next_wakeup: float) -> dict[str, Any]:
        """For `Entry`; `next_wakeup`: seconds since the epoch."""
        return {"next_wakeup": next_wakeup, **self.calendar.texts()}


class EventSchedule:
    """Runs for events. Counts them from the start of the entry."""

    kind = "event"

    def __init__(self, args: EventArgs) -> None:
        if not args.topic:
            raise OSError(errno.EINVAL, "topic is empty")
        if args.nth < 0 or args.after < 0 or args.min_interval < 0:
            raise OSError(errno.EINVAL, "nth, after and min_interval must not be negative")
        self.args = args
        self.counter = 0
        self._last: float | None = None  # when it was last due

    def restart(self) -> None:
        """Counts from the beginning."""
        self.counter = 0
        self._last = None

    def event(self, now: float) -> float | None:
        """An event has come: seconds until the entry is to run for it, 0 for at once; None: not for this one.

        One run that is still to come is for all events until then.
        """
        self.counter += 1
        nth, after = self.args.nth or 1, self.args.after
        # Without `after`, the nth itself is the first.
        if self.counter < (after or nth) or (self.counter - after) % nth:
            return None
        wait = 0.0
        if self._last is not None:
            if now < self._last:
                return None
            wait = max(0.0, self._last + self.args.min_interval - now)
        self._last = now + wait
        return wait

    def typedata(self, next_wakeup: float) -> dict[str, Any]:
        """For `Entry`."""
        args = self.args
        return {
            "topic": args.topic,
            "nth": args.nth,
            "after": args.after,
            "counter": self.counter,
            "min_interval": args.min_interval,
        }


Schedule: TypeAlias = IntervalSchedule | EventSchedule | DateSchedule


def parse_schedule(kind: str, args: dict[str, Any], zone: tzinfo | None = None) -> Schedule:
    """The schedule that a request describes.

    Raises OSError ENOSYS for an unknown type, EPROTO for arguments that are missing or of a wrong type, EINVAL for
    values that will not do.
    """
    try:
        if kind == "interval":
            return IntervalSchedule(msgspec.convert(args, IntervalArgs))
        if kind == "event":
            return EventSchedule(msgspec.convert(args, EventArgs))
        if kind == "datetime":
            return DateSchedule(msgspec.convert(args, dict[str, int | str]), zone)
    except msgspec.ValidationError as exc:
        raise OSError(errno.EPROTO, f"args of type {kind}: {exc}") from None
    raise OSError(errno.ENOSYS, f"unknown type of cron entry '{kind}': there are interval, event and datetime")
