"""flux resource eventlog."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

from flux.cli.commands.resource.common import include_errors
from flux.core.handle import Flux
from flux.eventlog import EventLogFormatter
from flux.idset import IDset
from flux.resource import ResourceJournalConsumer, ResourceSet
from flux.resource.list import included
from flux.util import parse_fsd


def _included(args: Any, handle: Flux) -> set[int] | None:
    """The ranks whose events are shown; None: all events. Raises ValueError."""
    if args.include is None:
        return None
    rset = ResourceSet(handle.rpc("resource.status", nodeid=0).get()["R"])
    try:
        return set(included(rset, args.include))
    except ValueError as exc:
        raise include_errors(exc) from None


def _concerns(event: Any, ranks: set[int] | None) -> bool:
    if ranks is None:
        return True
    text = event.context.get("idset", event.context.get("ranks"))
    return text is not None and not ranks.isdisjoint(IDset(text))


def _matches(event: Any, args: Any) -> bool:
    """Whether an event is the one that is waited for. Raises ValueError for a bad --match-context."""
    if event.name != args.wait:
        return False
    if args.match_context is None:
        return True
    key, equals, text = args.match_context.partition("=")
    if not equals:
        raise ValueError(f"--match-context: '{args.match_context}' is not KEY=VAL")
    value: Any = text
    with suppress(ValueError):  # what is no JSON is text
        value = json.loads(text)
    return bool(event.context.get(key) in (value, text))


def eventlog_command(args: Any) -> None:
    """Shows what has happened to resources. Raises TimeoutError if what is waited for does not come in time."""
    handle = Flux()
    ranks = _included(args, handle)
    formatter = EventLogFormatter(args.format, args.time_format, str(args.color))
    deadline = None if args.timeout is None else time.monotonic() + parse_fsd(args.timeout)
    consumer = ResourceJournalConsumer(handle, include_sentinel=True).start()
    stays = args.follow or args.wait is not None
    while True:
        try:
            event = consumer.poll(-1.0 if deadline is None else max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            if args.wait is None:
                return
            raise TimeoutError(f"timed out waiting for event '{args.wait}'") from None
        if event is None or (event.is_empty() and not stays):
            return
        if event.is_empty() or not _concerns(event, ranks):
            continue
        print(formatter.format(event), flush=True)
        if args.wait is not None and _matches(event, args):
            return
