"""flux kvs eventlog: append, get, wait-event (RFC 18; spec 05, section 10)."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from flux.cli.commands.kvs.common import FLUSH, commit, connect, failure, line, number, text
from flux.cli.human_times import HumanTimes
from flux.cli.options import Parsed
from flux.cli.tool import Failure, use_color
from flux.constants import (
    FLUX_KVS_APPEND,
    FLUX_KVS_STREAM,
    FLUX_KVS_WAITCREATE,
    FLUX_KVS_WATCH,
    FLUX_KVS_WATCH_APPEND,
)
from flux.core import kvs_rpc
from flux.core.future_state import RpcState
from flux.core.kvs_txn import Txn
from flux.eventlog import EventLogEvent, EventLogFormatter
from flux.kvs import eventlogs

_FOLLOW = FLUX_KVS_WATCH | FLUX_KVS_WATCH_APPEND


def append_command(parsed: Parsed) -> int:
    """Appends an event."""
    key, name, *words = parsed.words
    stamp = parsed.value("timestamp")
    try:
        timestamp = 0.0 if stamp is None else float(stamp)
    except ValueError:
        raise Failure(f"invalid --timestamp value '{stamp}': it must be seconds since the epoch") from None
    try:
        context = json.loads(" ".join(words)) if words else None
        if words and not isinstance(context, dict):
            raise ValueError("the context of an event is a JSON object")
        entry = eventlogs.encode(name, timestamp, context)
    except ValueError as exc:
        raise Failure("eventlog_entry_create: Invalid argument", None, (str(exc),)) from None
    txn = Txn()
    with connect() as handle:
        try:
            txn.put(key, entry.encode("utf-8", "surrogateescape"), FLUX_KVS_APPEND)
        except OSError as exc:
            raise failure(key, exc) from None
        commit(handle, parsed, txn)
    return 0


class _Events(EventLogFormatter):
    """Turns events into lines as the options ask: the times differ from those of the base class (spec 05, 10)."""

    def __init__(self, parsed: Parsed) -> None:
        self._plain = parsed.has("unformatted")
        color = use_color(parsed)
        if self._plain and (parsed.has("human") or (parsed.has("color") and color)):
            raise Failure("Do not specify --unformatted with --human or --color=always")
        super().__init__(color="always" if color else "never")
        self._times = HumanTimes(color=color)
        self._timestamp = self._by_minutes if parsed.has("human") else self._seconds

    def _seconds(self, timestamp: float) -> str:
        return self._paint("time", f"{timestamp:f}")

    def _by_minutes(self, timestamp: float) -> str:
        return self._times.stamp(datetime.fromtimestamp(timestamp, UTC))

    def show(self, source: str, event: EventLogEvent) -> None:
        """Prints an event, whose line in the log is `source`."""
        line(source if self._plain else self.format(event), FLUSH)


def _parts(lookup: RpcState, wait: Callable[[RpcState], None] = lambda lookup: None) -> Iterator[str]:
    """What a lookup brings, piece by piece; ends with ENODATA. `wait` is called before each. Raises OSError."""
    while True:
        wait(lookup)
        try:
            part = kvs_rpc.value(lookup)
        except OSError as exc:
            if exc.errno == errno.ENODATA and lookup.streaming:
                return
            raise
        yield text(part)
        if not lookup.streaming:
            return
        lookup.reset()


def _each(parts: Iterator[str]) -> Iterator[tuple[str, EventLogEvent]]:
    """(line, event) of each event. Raises Failure for text that is no eventlog."""
    for part in parts:
        try:
            events = eventlogs.decode(part)
        except ValueError as exc:
            raise Failure("cannot decode improperly formatted eventlog", None, (str(exc),)) from None
        # Decoded as a whole first: nothing of a wrong one is shown.
        yield from zip(part.split("\n"), events, strict=False)


def get_command(parsed: Parsed) -> int:
    """Prints an eventlog."""
    (key,) = parsed.words
    printer = _Events(parsed)
    left = number(parsed, "count")
    watch = parsed.has("watch")
    flags = _FOLLOW if watch else 0
    flags |= FLUX_KVS_WAITCREATE if parsed.has("waitcreate") else 0
    flags |= FLUX_KVS_STREAM if parsed.has("stream") else 0
    with connect() as handle:
        try:
            lookup = kvs_rpc.lookup(handle.core, parsed.value("namespace"), flags, key)
            for source, event in _each(_parts(lookup)):
                printer.show(source, event)
                left -= 1
                if watch and left == 0:
                    kvs_rpc.cancel_lookup(lookup)
                    break
        except OSError as exc:
            raise failure(key, exc) from None
    return 0


def wait_event_command(parsed: Parsed) -> int:
    """Waits for an event of a name, and prints it."""
    key, name = parsed.words
    printer = _Events(parsed)
    wait = _limited(parsed)
    flags = _FOLLOW | (FLUX_KVS_WAITCREATE if parsed.has("waitcreate") else 0)
    with connect() as handle:
        try:
            lookup = kvs_rpc.lookup(handle.core, parsed.value("namespace"), flags, key)
            for source, event in _each(_parts(lookup, wait)):
                is_it = event.name == name
                if not parsed.has("quiet") and (is_it or parsed.has("verbose")):
                    printer.show(source, event)
                if is_it:
                    kvs_rpc.cancel_lookup(lookup)
                    return 0
        except TimeoutError:
            raise Failure(f"wait-event timeout on event '{name}'") from None
        except FileNotFoundError:
            raise Failure(f"eventlog path {key} not found") from None
        except OSError as exc:
            raise failure(key, exc) from None
    raise Failure(f"event '{name}' never received")


def _limited(parsed: Parsed) -> Callable[[RpcState], None]:
    """What waits for a lookup as long as --timeout allows. Raises Failure; what it returns, TimeoutError."""
    limit = parsed.value("timeout")
    if limit is None:
        return lambda lookup: None
    from flux.util import parse_fsd

    try:
        seconds = parse_fsd(limit)
    except ValueError:
        raise Failure(f"invalid --timeout value '{limit}': it must be a duration such as 5s or 2m") from None
    deadline = time.monotonic() + seconds
    return lambda lookup: lookup.wait(max(0.0, min(deadline - time.monotonic(), 1e9)))
