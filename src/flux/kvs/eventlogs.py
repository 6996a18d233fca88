"""Eventlogs as KVS values: text of entries, and entries of text (RFC 18; spec 05, section 10).

A log is lines, each a JSON object with `timestamp`, `name` and perhaps `context`. It is written by appending only:
a commit of `encode(...)` with FLUX_KVS_APPEND.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from flux.eventlog import EventLogEvent


def encode(name: str, timestamp: float = 0.0, context: Mapping[str, Any] | None = None) -> str:
    """The line of an entry.

    Args:
        timestamp: seconds since the epoch; 0: now.
        context: its details; {} is written, too.

    Raises ValueError for an empty name, a time that is negative or none, and what JSON does not have.
    """
    if not name:
        raise ValueError("an event has a name")
    if not 0 <= timestamp < float("inf"):
        raise ValueError("the time of an event is seconds since the epoch")
    entry: dict[str, Any] = {"timestamp": float(timestamp or time.time()), "name": name}
    if context is not None:
        entry["context"] = dict(context)
    return json.dumps(entry, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"


def decode(text: str) -> list[EventLogEvent]:
    """The entries of a log, or of a part of one. Raises ValueError for text that is none: any line of it."""
    if not text:
        return []
    if not text.endswith("\n"):
        raise ValueError("an eventlog ends with a newline")
    return [decode_entry(line) for line in text[:-1].split("\n")]


def decode_entry(line: str) -> EventLogEvent:
    """The entry of a line without its newline. Raises ValueError."""
    entry = json.loads(line)
    if not isinstance(entry, dict):
        raise ValueError("an entry is a JSON object")
    timestamp = entry.get("timestamp")
    if not isinstance(timestamp, (int, float)) or isinstance(timestamp, bool):
        raise ValueError("an entry has a timestamp, a number")
    if not isinstance(entry.get("name"), str):
        raise ValueError("an entry has a name, a text")
    if not isinstance(entry.get("context", {}), dict):
        raise ValueError("the context of an entry is a JSON object")
    return EventLogEvent(entry)
