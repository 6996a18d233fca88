"""flux overlay — how the tree of brokers does (spec 03, 14.10; spec 04, 2.10)."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import Failure, call, connect, run, show, text_of, use_color
from flux.constants import FLUX_RPC_STREAMING
from flux.core.handle import Flux
from flux.hostlist import Hostlist
from flux.idset import IDset
from flux.util.durations import parse_fsd

_TIMEOUT = Option("t", "timeout", "Wait so long for an answer of a broker: a duration, 0 for ever (0.5s).", "FSD")
_COLOR = Option("L", "color", "Colors: always, never or auto (default). Without WHEN: always.", "WHEN", True)

COMMAND = Command(
    "overlay",
    "Show how the brokers of an instance do",
    subcommands=[
        Command(
            "overlay status",
            "Show the status of brokers, as a tree",
            [
                Option("r", "rank", "Begin at this rank (0).", "NODEID"),
                Option("v", "verbose", "With the times since when it is so; 2: how long answers took.", "LEVEL", True),
                _TIMEOUT,
                Option("", "summary", "Show only the status of the rank at the top."),
                Option("", "down", "Leave out what is full."),
                Option("", "no-pretty", "Do not draw a tree."),
                Option("", "no-ghost", "Leave out the ranks below those that are lost or offline."),
                _COLOR,
                Option("H", "highlight", "Mark these ranks or hosts, and the ranks above them.", "TARGET"),
                Option("w", "wait", "Wait until the rank at the top is in this status.", "STATE"),
            ],
            builtin=True,
        ),
        Command("overlay errors", "Show what is wrong with brokers", [_TIMEOUT], builtin=True),
        Command(
            "overlay lookup", "Translate ranks to hosts, or hosts to ranks", (), "TARGET", words=(1, 1), builtin=True
        ),
        Command("overlay parentof", "Show the parent of a rank", (), "RANK", words=(1, 1), builtin=True),
        Command(
            "overlay disconnect",
            "Have a broker give up one of its children",
            [Option("r", "parent", "Ask this rank (the parent of TARGET).", "NODEID")],
            "TARGET",
            words=(1, 1),
            builtin=True,
        ),
        Command(
            "overlay trace",
            "Show the messages between brokers as they come and go",
            [
                Option("r", "rank", "Only messages from and to this peer.", "NODEID"),
                Option("f", "full", "Show payloads, too."),
                Option("t", "type", "Only these types of messages: request, response, event, control.", "TYPE,..."),
                _COLOR,
                Option("H", "human", "Make times easy to read: once a minute the date, then seconds since."),
                Option("d", "delta", "With --human: seconds since the message before."),
            ],
            "[topic-glob]",
            words=(0, 1),
            builtin=True,
        ),
    ],
    builtin=True,
)


class Hosts:
    """The hosts of the ranks, asked for when they are first needed. Args: handle: on the instance."""

    def __init__(self, handle: Flux) -> None:
        self._handle = handle
        self._names: list[str] | None = None

    @property
    def names(self) -> list[str]:
        """In the order of ranks."""
        if self._names is None:
            text = call(self._handle, "attr.get", {"name": "hostlist"}, context="Error fetching hostlist")["value"]
            self._names = list(Hostlist(text))
        return self._names

    def host(self, rank: int) -> str:
        """The host of a rank. Raises Failure."""
        if not 0 <= rank < len(self.names):
            raise Failure(f"rank {rank} is not in host map")
        return self.names[rank]

    def ranks(self, hosts: Hostlist) -> IDset:
        """The ranks of hosts. Raises Failure."""
        found = IDset()
        for host in hosts:
            ranks = [rank for rank, name in enumerate(self.names) if name == host]
            if not ranks:
                raise Failure(f"host {host} not found in host map")
            for rank in ranks:
                found.set(rank)
        return found


def _idset(text: str) -> IDset | None:
    """Text as a set of ranks; None if it is something else."""
    try:
        return IDset(text)
    except ValueError:
        return None


def _hostlist(text: str) -> Hostlist | None:
    try:
        return Hostlist(text)
    except (ValueError, OSError):
        return None


def _rank(parsed: Parsed, option: str, default: int) -> int:
    text = parsed.value(option)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit()):
        raise Failure(f"--{option}: '{text}' is not a rank")
    return int(text)


def _timeout(parsed: Parsed) -> float:
    text = parsed.value("timeout") or "0.5s"
    try:
        seconds = parse_fsd(text)
    except ValueError:
        raise Failure(f"--timeout: '{text}' is not a duration such as 5s or 1m") from None
    return 0.0 if seconds == float("inf") else seconds


def _size(handle: Flux) -> int:
    return int(call(handle, "attr.get", {"name": "size"}, context="Error fetching size attribute")["value"])


# Status, errors.


def _verbosity(parsed: Parsed) -> int:
    level = 0
    for value in parsed.values("verbose"):
        if value.isascii() and value.isdigit():
            level = int(value)
        elif not value.strip("v"):  # of -vv, the second is the argument of the first
            level += 1 + len(value)
        else:
            raise Failure(f"--verbose: '{value}' is not a number")
    return level


def _marked(target: str | None, hosts: Hosts, size: int, below: Mapping[int, tuple[int, ...]]) -> frozenset[int]:
    """The ranks that TARGET stands for, and those above them. Raises Failure."""
    if target is None:
        return frozenset()
    wanted = _idset(target)
    if wanted is None:
        named = _hostlist(target)
        if named is None:
            raise Failure(f"--highlight: '{target}' is neither ranks nor hosts")
        try:
            wanted = hosts.ranks(named)
        except Failure as exc:
            raise Failure(f"--highlight: {exc.text}") from None
    for rank in wanted:
        if rank >= size:
            raise Failure(f"--highlight: rank {rank} not in set {IDset(f'0-{size - 1}') if size > 1 else 0}")
    parents = {child: rank for rank, children in below.items() for child in children}
    marked = set()
    for rank in wanted:
        while rank in below and rank not in marked:
            marked.add(rank)
            rank = parents.get(rank, -1)
    return frozenset(marked)


def _status(parsed: Parsed, handle: Flux) -> None:
    from flux.cli.overlay_status import STATES, Drawing, Survey

    wait = parsed.value("wait")
    if wait is not None and wait not in STATES:
        raise Failure("invalid --wait state")
    color, verbose = use_color(parsed), _verbosity(parsed)
    rank, survey = _rank(parsed, "rank", 0), Survey(handle, _timeout(parsed), not parsed.has("no-ghost"))
    size = _size(handle)
    answer, elapsed = survey.health(rank, wait)
    if parsed.has("summary"):
        show(answer["status"])
        return
    below = survey.learn(rank)
    hosts = Hosts(handle)
    marked = _marked(parsed.value("highlight"), hosts, size, below)
    drawing = Drawing(hosts.host, verbose, not parsed.has("no-pretty"), parsed.has("down"), marked, color)
    for line in drawing.lines(survey.tree(rank, answer, elapsed)):
        show(line, flush=False)


def _errors(parsed: Parsed, handle: Flux) -> None:
    from flux.cli.overlay_status import Survey, errors

    survey = Survey(handle, _timeout(parsed))
    _size(handle)
    answer, elapsed = survey.health(0)
    if answer["status"] != "full":
        survey.learn(0)
    found: dict[str, list[int]] = {}
    for rank, text in errors(survey.tree(0, answer, elapsed)):
        found.setdefault(text, []).append(rank)
    hosts = Hosts(handle)
    for text, ranks in found.items():
        show(f"{Hostlist([hosts.host(rank) for rank in sorted(ranks)])}: {text}", flush=False)


# Lookup, parentof.


def _lookup(parsed: Parsed, handle: Flux) -> None:
    target, hosts = parsed.words[0], Hosts(handle)
    ranks = _idset(target)
    if ranks is not None:
        show(str(Hostlist([hosts.host(rank) for rank in ranks])))
        return
    named = _hostlist(target)
    if named is None:
        raise Failure("TARGET must be a valid idset or hostlist")
    show(str(hosts.ranks(named)))


def _parent(handle: Flux, text: str) -> int:
    """The parent of a rank. Raises Failure."""
    tree = call(handle, "overlay.topology", {"rank": 0}, context="overlay.topology", nodeid=0)
    trees, parents = [tree], {tree["rank"]: -1}
    while trees:
        tree = trees.pop()
        parents.update({child["rank"]: tree["rank"] for child in tree["children"]})
        trees += tree["children"]
    rank = int(text) if text.isascii() and text.isdigit() else -1
    if rank not in parents:
        raise Failure(f"{text} is not a valid rank in this instance")
    if parents[rank] < 0:
        raise Failure(f"{rank} has no parent")
    return parents[rank]


def _parentof(parsed: Parsed, handle: Flux) -> None:
    show(str(_parent(handle, parsed.words[0])))


# Disconnect, trace.


def _disconnect(parsed: Parsed, handle: Flux) -> None:
    target, hosts = parsed.words[0], Hosts(handle)
    rank = int(target) if target.isascii() and target.isdigit() else None
    if rank is None:
        if target not in hosts.names:
            raise Failure("TARGET must be a valid rank or hostname")
        rank = hosts.names.index(target)
    parent = _rank(parsed, "parent", -1) if parsed.has("parent") else _parent(handle, str(rank))
    whom, whose = f"{hosts.host(parent)} (rank {parent})", f"{hosts.host(rank)} (rank {rank})"
    print(f"flux-overlay: asking {whom} to disconnect child {whose}", file=sys.stderr)
    topic = "overlay.disconnect-subtree"
    call(handle, topic, {"rank": rank}, context=topic, nodeid=parent)


def _trace(parsed: Parsed, handle: Flux) -> None:
    from flux.cli.module_trace import Printer, typemask

    if parsed.has("delta") and not parsed.has("human"):
        raise Failure("--delta can only be used with --human")
    printer = Printer(parsed.has("human"), parsed.has("delta"), use_color(parsed), parsed.has("full"))
    wanted: dict[str, Any] = {
        "typemask": typemask(parsed.value("type")),
        "topic_glob": parsed.words[0] if parsed.words else "*",
        "nodeid": _rank(parsed, "rank", -1),
        "full": parsed.has("full"),
    }
    request = handle.rpc("overlay.trace", wanted, flags=FLUX_RPC_STREAMING)
    try:
        while True:
            entry = request.get()
            # The peer, or all of them: where traces of modules name the module.
            peer = "*" if entry["rank"] < 0 else str(entry["rank"])
            show(printer.text(entry, (entry["prefix"], peer)))
            request.reset()
    except OSError as exc:
        raise Failure(f"overlay.trace: {text_of(exc)}") from None


_ACTIONS = {
    "status": _status,
    "errors": _errors,
    "lookup": _lookup,
    "parentof": _parentof,
    "disconnect": _disconnect,
    "trace": _trace,
}


def _body(parsed: Parsed) -> int:
    action = _ACTIONS[parsed.command.name.removeprefix("overlay ")]
    with connect(COMMAND) as handle:
        action(parsed, handle)
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
