"""flux resource status, and the listing of flux resource drain."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

from flux.cli.commands.resource.common import Queues, ResourceConfig, include_errors, states_of
from flux.core.handle import Flux
from flux.idset import IDset
from flux.resource import ResourceStatus, resource_status
from flux.util import AltField, Deduplicator, OutputFormat, UtilConfig

_DEFAULT = "avail,exclude,draining,drained,torpid,housekeeping"
_ALL = ("avail", "exclude", "allocated", "torpid", "housekeeping", "draining", "drained")
_STATES = (*_ALL, "all", "online", "offline", "drain")

HEADINGS = {
    "state": "STATE",
    "statex": "STATE",
    "status": "STATUS",
    "up": "UP",
    "up.ascii": "UP",
    "nnodes": "NNODES",
    "ranks": "RANKS",
    "nodelist": "NODELIST",
    "reason": "REASON",
    "timestamp": "TIME",
    "color_up": "",
    "color_off": "",
}


class Line:
    """A line of the listing.

    Args:
        status: of the instance.
        state: of the nodes.
        ranks: the nodes.
        online: whether they are.
        reason, timestamp: of a drain.
    """

    def __init__(
        self, status: ResourceStatus, state: str, ranks: IDset, online: bool, reason: str = "", timestamp: Any = ""
    ) -> None:
        self._status = status
        self._ranks = ranks
        self.statex = state
        self.state = state if online or state == "offline" else f"{state}*"
        self.status = "online" if online else "offline"
        self.up = AltField("✔", "y") if online else AltField("✗", "n")
        self.reason = reason
        self.timestamp = timestamp
        self.color_up = "\033[01;32m" if online else "\033[01;31m"
        self.color_off = "\033[0;0m"

    @property
    def nnodes(self) -> int:
        """How many nodes."""
        return self._ranks.count()

    @property
    def ranks(self) -> str:
        """Their ranks."""
        return str(self._ranks)

    @property
    def nodelist(self) -> str:
        """Their hosts."""
        return str(self._status.rset.copy_ranks(self._ranks).nodelist) if self.nnodes else ""

    def take(self, other: Line) -> None:
        """Takes in another line, which looks the same."""
        self._ranks = self._ranks.union(other._ranks)


def _read(args: Any) -> ResourceStatus:
    """How the nodes do that are asked about. Raises ValueError for a bad selection."""
    handle = None
    if getattr(args, "from_stdin", False):
        status = ResourceStatus(json.load(sys.stdin))
    else:
        handle = Flux()
        status = resource_status(handle).get()
    if args.queue is not None:
        queues = Queues.ask(args, handle) if hasattr(args, "config_file") else Queues(_config(handle))
        names = queues.named(args.queue)
        assert names is not None
        status.filter(status.rset.copy_constraint(queues.constraint(names)).ranks)
    if args.include is not None:
        try:
            status.filter(args.include)
        except ValueError as exc:
            raise include_errors(exc) from None
    return status


def _config(handle: Flux | None) -> dict[str, Any]:
    assert handle is not None
    config: dict[str, Any] = handle.rpc("config.get").get()
    return config


def _expanded(states: Iterable[str]) -> list[str]:
    expanded: list[str] = []
    for state in states:
        expanded += {"all": _ALL, "drain": ("draining", "drained")}.get(state, (state,))
    return list(dict.fromkeys(expanded))


def _lines(status: ResourceStatus, state: str) -> list[Line]:
    """The lines of a state: of those online and offline, and of drained nodes for each drain."""
    found: list[tuple[IDset, str, Any]] = []
    if state in ("draining", "drained"):
        for info in status.drain_info:
            ranks = info.ranks.intersect(status[state])
            if ranks.count():
                found.append((ranks, info.reason, info.timestamp))
    elif status[state].count():
        found.append((status[state], "", ""))
    lines = []
    for ranks, reason, timestamp in found:
        online, offline = ranks.difference(status.offline), ranks.intersect(status.offline)
        lines += [
            Line(status, state, part, up, reason, timestamp)
            for part, up in ((online, True), (offline, False))
            if part.count()
        ]
    return lines or [Line(status, state, IDset(), True)]


def _print(args: Any, formatter: OutputFormat, status: ResourceStatus, states: Iterable[str], empty: bool) -> None:
    lines = Deduplicator(formatter, except_fields=["ranks", "nodelist", "nnodes"], combine=Line.take)
    for state in _expanded(states):
        for line in _lines(status, state):
            if line.nnodes or empty:
                lines.append(line)
    formatter.print_items(lines, no_header=args.no_header)


def _format(config: UtilConfig, args: Any) -> OutputFormat:
    formatter = OutputFormat(config.get_format_string(args.format), headings=HEADINGS)
    if args.color.enabled:
        return formatter
    # The blank before the colour stays: what follows is another column.
    fmt = formatter.get_format(orig=True)
    for field in ("{color_up}", "{color_off}"):
        fmt = fmt.replace(field, "")
    return OutputFormat(fmt, headings=HEADINGS)


def status_command(args: Any) -> None:
    """Shows how nodes do."""
    formatter = _format(ResourceConfig("status").load(), args)
    states = states_of(args.states, _DEFAULT, _STATES)
    _print(args, formatter, _read(args), states, empty=args.states is not None and not args.skip_empty)


def list_drained(args: Any) -> None:
    """Lists what is drained."""
    formatter = _format(ResourceConfig("drain").load(), args)
    _print(args, formatter, _read(args), ["drain"], empty=False)
