"""flux resource list, info and R."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from flux.cli.commands.resource.common import Queues, ResourceConfig, include_errors, states_of
from flux.core.handle import Flux
from flux.idset import IDset
from flux.resource import ResourceSet, SchedResourceList, resource_list
from flux.util import Deduplicator, OutputFormat

_STATES = ("up", "down", "allocated", "free", "all")

HEADINGS = {
    "state": "STATE",
    "queue": "QUEUE",
    "properties": "PROPERTIES",
    "propertiesx": "PROPERTIES",
    "nnodes": "NNODES",
    "ncores": "NCORES",
    "ngpus": "NGPUS",
    "ranks": "RANKS",
    "nodelist": "NODELIST",
    "rlist": "LIST",
}


class Line:
    """A line of the listing.

    Args:
        state: of the resources.
        rset: the resources.
        queues: that they are in.
        hidden: names of queues, which are not shown as properties in `propertiesx`.
    """

    def __init__(self, state: str, rset: ResourceSet, queues: list[str], hidden: set[str]) -> None:
        self.state = state
        self.rset = rset
        self.queue = ",".join(queues)
        self._hidden = hidden

    @property
    def properties(self) -> str:
        """The names of their properties."""
        return self.rset.properties

    @property
    def propertiesx(self) -> str:
        """The names of their properties that are no queues."""
        return ",".join([name for name in self.rset.properties.split(",") if name not in self._hidden])

    @property
    def nnodes(self) -> int:
        """How many nodes."""
        return len(self.rset.nodelist) if self.rset.nnodes else 0

    @property
    def ncores(self) -> int:
        """How many cores."""
        return self.rset.ncores

    @property
    def ngpus(self) -> int:
        """How many gpus."""
        return self.rset.ngpus

    @property
    def ranks(self) -> str:
        """Their ranks."""
        return str(self.rset.ranks)

    @property
    def nodelist(self) -> str:
        """Their hosts."""
        return str(self.rset.nodelist) if self.rset.nnodes else ""

    @property
    def rlist(self) -> str:
        """All there is of them."""
        return self.rset.rlist

    def take(self, other: Line) -> None:
        """Takes in another line, which looks the same."""
        self.rset = self.rset | other.rset


def _read(args: Any) -> tuple[SchedResourceList, Queues]:
    """The resources that are asked about, and the queues. Raises ValueError for a bad selection."""
    handle = None
    if args.from_stdin:
        listed = SchedResourceList(json.load(sys.stdin))
    else:
        handle = Flux()
        asked = resource_list(handle)
        listed = asked.get()
    queues = Queues.ask(args, handle)
    names = queues.named(args.queue)
    if names is not None:
        listed = listed.copy_constraint(queues.constraint(names))
    if args.include is not None:
        try:
            listed.filter(args.include)
        except ValueError as exc:
            raise include_errors(exc) from None
    return listed, queues


def _groups(rset: ResourceSet) -> Iterator[tuple[set[str], ResourceSet]]:
    """The parts of a set whose nodes have the same properties, in the order of their first ranks."""
    of_rank: dict[int, list[str]] = {rank: [] for rank in rset.ranks}
    for name, ranks in rset.to_dict()["execution"].get("properties", {}).items():
        for rank in IDset(ranks):
            of_rank[rank].append(name)
    parts: dict[tuple[str, ...], list[int]] = {}
    for rank, names in of_rank.items():
        parts.setdefault(tuple(names), []).append(rank)
    for held, members in parts.items():
        yield set(held), rset.copy_ranks(members)


def list_command(args: Any) -> None:
    """Lists resources by state."""
    config = ResourceConfig("list").load()
    fmt = config.get_format_string(args.format)
    states = states_of(args.states, "free,allocated,down", _STATES)
    formatter = OutputFormat(fmt, headings=HEADINGS)
    listed, queues = _read(args)
    asked = queues.named(args.queue)
    shown = [
        name
        for name in queues.table
        if (name in asked if asked is not None else not queues.is_virtual(name) and name not in config.hidden_queues)
    ]
    skip_empty = args.skip_empty or (args.include is not None and not args.no_skip_empty)
    fields = set(formatter.fields)
    split = not fields.isdisjoint(("queue", "properties", "propertiesx"))
    merged = ("nnodes", "ncores", "ngpus", "ranks", "nodelist", "rlist")
    lines = Deduplicator(formatter, except_fields=merged, combine=Line.take)
    for state in states:
        for line in _lines(state, listed[state], shown, queues, split):
            if line.nnodes or not skip_empty:
                lines.append(line)
    formatter.print_items(lines, no_header=args.no_header)


def _lines(state: str, rset: ResourceSet, shown: list[str], queues: Queues, split: bool) -> list[Line]:
    hidden = set(queues.table)
    if not split:
        return [Line(state, rset, [], hidden)]
    if not rset.nnodes:
        return [Line(state, rset, [name], hidden) for name in shown] or [Line(state, rset, [], hidden)]
    return [
        Line(state, part, [name for name in shown if queues.requires(name) <= properties], hidden)
        for properties, part in _groups(rset)
    ]


def _selected(args: Any) -> ResourceSet:
    states = states_of(args.states, "all", _STATES)
    listed, _ = _read(args)
    rset: ResourceSet = listed[states[0]]
    for state in states[1:]:
        rset = rset | listed[state]
    return rset


def info_command(args: Any) -> None:
    """Counts resources."""
    rset = _selected(args)
    print(f"{rset.nnodes} Nodes, {rset.ncores} Cores, {rset.ngpus} GPUs")


def R_command(args: Any) -> None:
    """Prints resources as R."""
    print(_selected(args).encode())
