"""flux R — makes R objects, combines them, and takes them apart (RFC 20; spec 07, 2.6).

It is here and not with the commands that only talk to an instance because it finds resources, and reads their
configuration, as the module `resource` does. R objects are read from standard input, one after the other.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from functools import reduce

from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import Failure, run, show
from flux.hostlist import Hostlist
from flux.idset import IDset
from flux.resource.Rv1Set import Node, Rv1Set, mask
from fluxlet.broker.configuration import ConfigError, load_path
from fluxlet.modules.resource.discovery import discover, read_topology
from fluxlet.modules.resource.settings import Settings, differences, read_text

COMMAND = Command(
    "R",
    "Create and manipulate resource sets",
    subcommands=[
        Command(
            "R encode",
            "Make an R object",
            [
                Option("r", "ranks", "Ranks (default 0).", "IDSET"),
                Option("c", "cores", "Cores of each rank (default 0).", "IDS"),
                Option("g", "gpus", "Gpus of each rank.", "IDS"),
                Option("H", "hosts", "Hosts of the ranks, in order.", "HOSTS"),
                Option("p", "property", "Give ranks, or all of them, a property. Repeatable.", "NAME[:RANKS]"),
                Option("l", "local", "The cores and gpus of this node."),
                Option("f", "xml", "The cores and gpus in a file of hwloc.", "FILE", complete="@file"),
            ],
        ),
        Command("R append", "Combine R objects"),
        Command("R diff", "Take from the first R object what is in the others"),
        Command("R intersect", "Keep of the first R object the ranks that are in all others, too"),
        Command("R remap", "Number ranks from 0 on"),
        Command("R rerank", "Number ranks by the order of their hosts", (), "HOSTLIST", (1, 1)),
        Command(
            "R decode",
            "Print an R object, or a part of it",
            [
                Option("s", "short", "In short, rank[0-1]/core[0-3]."),
                Option("n", "nodelist", "Its hosts."),
                Option("r", "ranks", "Its ranks."),
                Option("c", "count", "How many node, core or gpu it has.", "TYPE", complete="node|core|gpu"),
                Option("i", "include", "Only these ranks.", "RANKS"),
                Option("x", "exclude", "Without these ranks.", "RANKS"),
                Option("p", "properties", "Only ranks with these properties, ^ before one: without it.", "LIST"),
            ],
        ),
        Command("R verify", "Tell whether the second R object has what the first one has"),
        Command(
            "R set-property",
            "Give ranks, or all of them, properties",
            (),
            "PROPERTY:RANKS [PROPERTY:RANKS]...",
            (1, None),
        ),
        Command("R parse-config", "Make an R object of a configuration", (), "PATH", (1, 1), complete=("@file",)),
    ],
    examples=(
        ("flux R encode -r 0-3 -c 0-7 -H 'node[0-3]' > R", "Four nodes of eight cores."),
        ("flux R decode --short < R", "What that is."),
        ("flux resource R -s free | flux R decode --count core", "How many cores of an instance are free."),
    ),
    see_also=("resource",),
)


def _objects() -> list[Rv1Set]:
    """The R objects on standard input. Raises Failure."""
    text = sys.stdin.read()
    decoder = json.JSONDecoder()
    found, at = [], 0
    try:
        while text[at:].strip():
            at += len(text[at:]) - len(text[at:].lstrip())
            value, at = decoder.raw_decode(text, at)
            found.append(Rv1Set(value, keep_scheduling=True))
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise Failure(f"stdin: not an R object: {exc}") from None
    if not found:
        raise Failure("stdin: no R object")
    return found


def _one() -> Rv1Set:
    found = _objects()
    if len(found) > 1:
        raise Failure(f"stdin: {len(found)} R objects, where one is expected")
    return found[0]


def _print(r: Rv1Set) -> int:
    show(json.dumps(r.to_dict()))
    return 0


def _set_property(r: Rv1Set, words: list[str]) -> None:
    for word in words:
        name, colon, ranks = word.partition(":")
        r.set_property(name, ranks if colon else None)


def _encode(parsed: Parsed) -> int:
    cores, gpus = parsed.value("cores"), parsed.value("gpus")
    local, xml = parsed.has("local"), parsed.value("xml")
    if local and (cores is not None or gpus is not None):
        raise Failure("--cores and --gpus do not go with --local")
    host = os.uname().nodename
    if xml is not None:
        host, has_cores, has_gpus = read_topology(read_text(xml), host)
    elif local:
        has_cores, has_gpus = discover(restrict=True)
    else:
        has_cores = mask("0" if cores is None and gpus is None else cores or "")
        has_gpus = mask(gpus or "")
    hosts = list(Hostlist(parsed.value("hosts") or ""))
    if not hosts and (local or xml is not None):
        hosts = [host]
    ranks = list(IDset(parsed.value("ranks") or (f"0-{len(hosts) - 1}" if len(hosts) > 1 else "0")))
    if hosts and len(hosts) != len(ranks):
        raise Failure(f"{len(ranks)} ranks and {len(hosts)} hosts: there must be as many of these")
    r = Rv1Set()
    for number, rank in enumerate(ranks):
        r.nodes[rank] = Node(has_cores, has_gpus, hosts[number] if hosts else None)
    if hosts:
        r.name_ranks()
    _set_property(r, parsed.values("property"))
    return _print(r)


def _append(parsed: Parsed) -> int:
    return _print(reduce(Rv1Set.union, _objects()))


def _diff(parsed: Parsed) -> int:
    return _print(reduce(Rv1Set.diff, _objects()))


def _intersect(parsed: Parsed) -> int:
    return _print(reduce(Rv1Set.intersect, _objects()))


def _remap(parsed: Parsed) -> int:
    r = _one()
    return _print(r.renumbered({rank: order for order, rank in enumerate(sorted(r.nodes))}))


def _rerank(parsed: Parsed) -> int:
    r = _one()
    hosts = list(Hostlist(parsed.words[0]))
    if len(hosts) != len(r.nodes):
        raise Failure(f"R has {len(r.nodes)} ranks, and there are {len(hosts)} hosts")
    places: dict[str, list[int]] = {}
    for place, host in enumerate(hosts):
        places.setdefault(host, []).append(place)
    number = {}
    for rank in sorted(r.nodes):
        own = places.get(r.nodes[rank].host or f"rank{rank}")
        if not own:
            raise Failure(f"host {r.nodes[rank].host or f'rank{rank}'} is not in the list")
        number[rank] = own.pop(0)
    return _print(r.renumbered(number))


def _decode(parsed: Parsed) -> int:
    r = _one()
    include, exclude, properties = (parsed.value(name) for name in ("include", "exclude", "properties"))
    if properties is not None:
        r = r.copy_constraint({"properties": properties.split(",")})
    if include is not None:
        r = r.copy_ranks(include)
    if exclude is not None:
        r.remove_ranks(exclude)
    kind = parsed.value("count")
    if kind is not None:
        show(str(r.nnodes() if kind == "node" else r.count(kind)))
    elif parsed.has("short"):
        show(r.dumps())
    elif parsed.has("nodelist"):
        show(str(r.nodelist()))
    elif parsed.has("ranks"):
        show(str(r.ranks()))
    else:
        return _print(r)
    return 0


def _verify(parsed: Parsed) -> int:
    found = _objects()
    if len(found) != 2:
        raise Failure(f"stdin: {len(found)} R objects, where two are expected")
    wanted, has = found
    rules = dict.fromkeys(("hostname", "core", "gpu"), "allow-extra")
    problems = []
    for rank in sorted(wanted.nodes):
        if rank not in has.nodes:
            problems.append(f"rank {rank} is missing")
        elif (reason := differences(rules, rank, wanted, has)) is not None:
            problems.append(reason)
    for problem in problems:
        print(f"flux-R: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _set_property_command(parsed: Parsed) -> int:
    r = _one()
    _set_property(r, parsed.words)
    return _print(r)


def _parse_config(parsed: Parsed) -> int:
    try:
        configured = Settings(load_path(parsed.words[0])).configured
    except ConfigError as exc:
        raise Failure(str(exc)) from None
    if configured is None:
        raise Failure(f"{parsed.words[0]}: no resources are configured")
    return _print(configured)


_BODIES: dict[str, Callable[[Parsed], int]] = {
    "R encode": _encode,
    "R append": _append,
    "R diff": _diff,
    "R intersect": _intersect,
    "R remap": _remap,
    "R rerank": _rerank,
    "R decode": _decode,
    "R verify": _verify,
    "R set-property": _set_property_command,
    "R parse-config": _parse_config,
}


def _body(parsed: Parsed) -> int:
    try:
        return _BODIES[parsed.command.name](parsed)
    except ValueError as exc:
        raise Failure(str(exc)) from None


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
