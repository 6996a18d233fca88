"""What a job's main eventlog says: whose job it is, how far it is, what was changed of it (spec 08, 1.1 to 1.4).

Pure. Eventlogs are bytes, as the KVS holds them; a line that is no event is ValueError.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from flux.util import set_treedict
from fluxlet.payload import UNREADABLE


class Event(msgspec.Struct):
    """As much of an event as is needed here."""

    name: str
    context: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(Event).decode


def parse(line: bytes) -> Event:
    """The event of a line. Raises ValueError."""
    try:
        return _decode(line)
    except UNREADABLE as exc:
        raise ValueError(str(exc)) from None


def owner_of(line: bytes) -> int:
    """The userid in the first line of a main eventlog. Raises ValueError."""
    event = parse(line)
    userid = (event.context or {}).get("userid")
    if event.name != "submit" or type(userid) is not int:
        raise ValueError("an eventlog that does not begin with submit")
    return userid


class Progress:
    """How far a job is.

    Attributes:
        started: its tasks may have started: the guest namespace is there.
        released: all its resources are free again: what the guest namespace held is in the job's directory.
        ended: nothing more will happen.
    """

    def __init__(self, lines: Iterable[bytes] = ()) -> None:
        self.started = self.released = self.ended = False
        for line in lines:
            self.add(line)

    def add(self, line: bytes) -> None:
        """Takes in a line. Most are told apart without being parsed."""
        if b'"start"' not in line and b'"release"' not in line and b'"clean"' not in line:
            return
        event = parse(line)
        if event.name == "start":
            self.started = True
        elif event.name == "release":
            self.released = self.released or (event.context or {}).get("final") is True
        elif event.name == "clean":
            self.ended = True


#: By key: the event that changes what is there.
UPDATES = {"jobspec": "jobspec-update", "R": "resource-update"}


def apply_update(key: str, value: Any, line: bytes) -> bool:
    """Changes an object, a jobspec or an R, as a line of the eventlog says; True if it is such a line.

    Raises ValueError, TypeError for what cannot be applied.
    """
    name = UPDATES[key]
    if name.encode() not in line:
        return False
    event = parse(line)
    if event.name != name:
        return False
    context = event.context or {}
    if key == "R":
        if "expiration" in context:
            set_treedict(value, "execution.expiration", context["expiration"])
    else:
        for path, new in context.items():
            set_treedict(value, path, new)
    return True
