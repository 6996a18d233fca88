"""flux startlog — when the instance was started, and how it ended (spec 03, 7.2 and 14.9; flux-startlog(1)).

It is told from `admin.eventlog` of the KVS: each start appends a `start`, each orderly end a `finish`.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from flux.cli.human_times import short_duration
from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import Failure, connect, run, show, text_of
from flux.constants import FLUX_KVS_APPEND, FLUX_KVS_SYNC
from flux.core import kvs_rpc
from flux.core.handle import Flux
from flux.core.kvs_txn import Txn
from flux.eventlog import EventLogEvent
from flux.kvs.eventlogs import decode, encode
from flux.version import CORE_VERSION

KEY = "admin.eventlog"
#: Of what is in the events.
_VERSION = 1

COMMAND = Command(
    "startlog",
    "List Flux instance start and stop times",
    [
        Option("", "check", "Exit with 1 if the run before this one did not end properly."),
        Option("", "quiet", "Print nothing."),
        Option("v", "show-version", "Show which version of Flux it was."),
        Option("", "post-start-event", "Append a start.", hidden=True),
        Option("", "post-finish-event", "Append an end.", hidden=True),
        Option("", "test-startlog-key", "Another key of the KVS.", "PATH", hidden=True),
        Option("", "test-startlog-version", "Another version in events.", "VERSION", hidden=True),
    ],
    words=(0, None),
    builtin=True,
    description="Prints a line for each run of the instance: its start, its end, and how long it took. A run that did "
    "not end properly has crashed, or could not write any more. An instance that keeps nothing, as one without the "
    "attribute statedir, has one run: this one.",
    examples=(
        ("flux startlog -v", "All runs, and the version of each."),
        ("flux startlog --check --quiet", "In a script: was the last end a proper one?"),
    ),
    see_also=("uptime", "start", "shutdown"),
)


class Run(NamedTuple):
    """One run of an instance.

    Args:
        start: when it began, in seconds since the epoch.
        finish: when it ended; None if nothing tells.
        version: of Flux.
    """

    start: float
    finish: float | None
    version: str


def runs(events: Iterable[EventLogEvent]) -> list[Run]:
    """The runs that a log tells of, the oldest first. Raises ValueError for events of another version."""
    found: list[Run] = []
    for event in events:
        if event.name not in ("start", "finish"):
            continue
        version = event.context.get("version")
        if version != _VERSION:
            raise ValueError(f"startlog event version {version!r} is not known: this is for version {_VERSION}")
        if event.name == "start":
            found.append(Run(event.timestamp, None, str(event.context.get("core_version", "unknown"))))
        elif found and found[-1].finish is None:
            found[-1] = found[-1]._replace(finish=event.timestamp)
    return found


def line(shown: Run, running: bool, now: float, version: bool = False) -> str:
    """A run as people read it.

    Args:
        running: it is the one that goes on.
        now: seconds since the epoch.
        version: with that of Flux in front.
    """
    prefix = f"{shown.version:>25}  " if version else ""
    begin = _minute(shown.start)
    if shown.finish is not None:
        took = short_duration(shown.finish - shown.start)
        return f"{prefix}{begin} - {_minute(shown.finish)} ({took})"
    state = f"running ({short_duration(now - shown.start)})" if running else "crashed"
    return f"{prefix}{begin} - {state}"


def _minute(stamp: float) -> str:
    return datetime.fromtimestamp(stamp).strftime("%Y-%m-%d %H:%M")


def _events(handle: Flux, key: str) -> list[EventLogEvent]:
    try:
        value = kvs_rpc.value(kvs_rpc.lookup(handle.core, "primary", 0, key))
    except OSError as exc:
        if exc.errno == errno.ENOENT:
            return []
        raise Failure(f"Error fetching {key}: {text_of(exc)}") from None
    return decode((value or b"").decode("utf-8", "replace"))


def _post(handle: Flux, parsed: Parsed, key: str, name: str) -> None:
    """Appends an event; a start is on disk when this returns."""
    version = parsed.value("test-startlog-version") or str(_VERSION)
    context: dict[str, object] = {"version": int(version) if version.isdigit() else version}
    if name == "start":
        context["core_version"] = CORE_VERSION
    txn = Txn()
    txn.put(key, encode(name, 0.0, context).encode(), FLUX_KVS_APPEND)
    try:
        kvs_rpc.wait(kvs_rpc.commit(handle.core, "primary", FLUX_KVS_SYNC if name == "start" else 0, txn))
    except OSError as exc:
        raise Failure(f"error updating {key}: {text_of(exc)}") from None


def _body(parsed: Parsed) -> int:
    key = parsed.value("test-startlog-key") or KEY
    with connect(COMMAND) as handle:
        for name in ("finish", "start"):
            if parsed.has(f"post-{name}-event"):
                _post(handle, parsed, key, name)
                return 0
        try:
            found = runs(_events(handle, key))
        except ValueError as exc:
            raise Failure(str(exc)) from None
    last = len(found) - 1
    if not parsed.has("quiet"):
        now = time.time()
        for number, shown in enumerate(found):
            show(line(shown, number == last, now, parsed.has("show-version")))
    return 1 if parsed.has("check") and last > 0 and found[last - 1].finish is None else 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
