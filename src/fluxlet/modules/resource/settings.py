"""The configuration `[resource]` and `[fake-resources]`, and the R that they make (spec 07, 2.5)."""

from __future__ import annotations

import json
import re
from typing import Any

from flux.hostlist import Hostlist
from flux.resource.Rv1Set import Node, Rv1Set, mask
from flux.util.durations import parse_fsd
from fluxlet.config_table import read_table

_TYPES: dict[str, type] = {
    "path": str,
    "config": list,
    "scheduling": str,
    "exclude": str,
    "norestrict": bool,
    "verify": object,
    "noverify": bool,
    "rediscover": bool,
    "journal-max": int,
    "history": str,
    "no-update-watch": bool,
}
_FAKE: dict[str, type] = {
    "nnodes": int,
    "cores-per-node": int,
    "gpus-per-node": int,
    "host-prefix": str,
    "hwloc-xml-path": str,
    "amend-r": str,
}
_ENTRY: dict[str, type] = {"hosts": str, "cores": str, "gpus": str, "properties": list}
#: What may differ between what is configured and what is there.
STRICT, EXTRA, MISSING, IGNORE = "strict", "allow-extra", "allow-missing", "ignore"
_bad_property = re.compile(r"[\^&'\"\\`|()]").search


class Settings:
    """The table `[resource]`.

    Args:
        config: the whole configuration.

    Raises ValueError, with the text for the user.

    Attributes:
        history: for how long, in seconds, drains and undrains before the last start are kept.
        verify: what may differ, by "core", "gpu" and "hostname"; None: nothing is verified.
        configured: R without ranks of brokers, or None.
        fake, pretended: the table `[fake-resources]`, and the R that it makes; or None.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        try:
            table = read_table(config.get("resource", {}), _TYPES, strict=True)
        except ValueError as exc:
            raise ValueError(f"error parsing [resource] configuration: {exc}") from None
        self.exclude: str = table.get("exclude", "")
        self.norestrict: bool = table.get("norestrict", False)
        self.rediscover: bool = table.get("rediscover", False)
        self.journal_max: int = table.get("journal-max", 100000)
        self.watches_parent = not table.get("no-update-watch", False)
        if self.journal_max < 0:
            raise ValueError("resource.journal-max: must not be negative")
        try:
            self.history = parse_fsd(table.get("history", "90d"))
        except ValueError:
            raise ValueError("resource.history: not a duration in Flux Standard Duration form") from None
        self.configured = _configured(table, config)
        self.verify = _verify(table, self.configured is not None)
        self.by_hosts = "bootstrap" in config and self.configured is not None
        self.fake = _fake(config)
        self.pretended = None if self.fake is None else fake_r(self.fake)


def _configured(table: dict[str, Any], config: dict[str, Any]) -> Rv1Set | None:
    if "config" in table:
        made = from_entries(table["config"])
    elif "path" in table:
        made = read_r(table["path"])
    else:
        return None
    if "scheduling" in table:
        try:
            made.scheduling = json.loads(read_text(table["scheduling"]))
        except (OSError, ValueError) as exc:
            raise ValueError(f"resource.scheduling: {table['scheduling']}: {exc}") from None
    return made


def read_text(path: str) -> str:
    """The text of a file. Raises OSError, ValueError."""
    with open(path, encoding="utf-8") as file:
        return file.read()


def read_r(path: str) -> Rv1Set:
    """The R in a file. Raises ValueError saying what is wrong."""
    try:
        made = Rv1Set(read_text(path), keep_scheduling=True)
    except OSError as exc:
        raise ValueError(f"{path}: {exc.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise ValueError(f"{path}: not an R object: {exc}") from None
    if not made.nodes:
        raise ValueError(f"{path}: R has no resources")
    return made


def from_entries(entries: list[Any]) -> Rv1Set:
    """The R of a `resource.config` array: entries that name a host add to what it has. Raises ValueError."""
    made = Rv1Set()
    rank_of: dict[str, int] = {}
    for number, entry in enumerate(entries):
        where = f"resource.config: config[{number}]"
        try:
            values = read_table(entry, _ENTRY, strict=True)
        except ValueError as exc:
            raise ValueError(f"{where}: {exc}") from None
        try:
            hosts = list(Hostlist(values.get("hosts", "")))
        except ValueError:
            raise ValueError(f"{where}: invalid hostlist '{values['hosts']}'") from None
        if not hosts:
            raise ValueError(f"{where}: no hosts configured")
        try:
            cores, gpus = mask(values.get("cores", "")), mask(values.get("gpus", ""))
        except ValueError as exc:
            raise ValueError(f"{where}: {exc}") from None
        for host in hosts:
            rank = rank_of.setdefault(host, len(rank_of))
            node = made.nodes.setdefault(rank, Node(0, 0, host))
            node.cores |= cores
            node.gpus |= gpus
        for name in values.get("properties", []):
            if not isinstance(name, str) or not name or _bad_property(name):
                raise ValueError(f"{where}: invalid property '{name}'")
            made.properties.setdefault(name, set()).update(rank_of[host] for host in hosts)
    bare = [host for host, rank in rank_of.items() if not made.nodes[rank].cores and not made.nodes[rank].gpus]
    if bare:
        raise ValueError(f"resource.config: {Hostlist(bare).encode()} assigned no resources")
    if not made.nodes:
        raise ValueError("resource.config: no hosts configured")
    made.name_ranks()
    return made


def _verify(table: dict[str, Any], configured: bool) -> dict[str, str] | None:
    asked = table.get("verify")
    if table.get("noverify", False) or asked is False or not configured:
        return None
    if asked is None:
        return {"default": EXTRA, "hostname": STRICT, "core": EXTRA, "gpu": IGNORE}
    if asked is True:
        asked = {}
    if not isinstance(asked, dict):
        raise ValueError("error parsing [resource] configuration: verify must be a boolean or a table")
    rules = dict.fromkeys(("default", "hostname", "core", "gpu"), asked.get("default", STRICT))
    for key, value in asked.items():
        if key not in rules:
            raise ValueError(f"resource.verify: unknown resource type '{key}'")
        if value not in (STRICT, EXTRA, MISSING, IGNORE):
            raise ValueError(f"resource.verify: {key}: invalid mode '{value}'")
        rules[key] = value
    return rules


def _fake(config: dict[str, Any]) -> dict[str, Any] | None:
    if "fake-resources" not in config:
        return None
    try:
        table = read_table(config["fake-resources"], _FAKE, strict=True)
    except ValueError as exc:
        raise ValueError(f"error parsing [fake-resources] configuration: {exc}") from None
    for key in ("nnodes", "cores-per-node"):
        if table.get(key, 1) < 1:
            raise ValueError(f"fake-resources.{key}: must be at least 1")
    if "nnodes" not in table:
        raise ValueError("error parsing [fake-resources] configuration: Object item not found: nnodes")
    return table


def fake_r(table: dict[str, Any]) -> Rv1Set:
    """The R of a table `[fake-resources]`: nodes that there are not, for tests of scheduling."""
    cores = (1 << table.get("cores-per-node", 64)) - 1
    gpus = (1 << max(0, table.get("gpus-per-node", 0))) - 1
    prefix = table.get("host-prefix", "fake")
    made = Rv1Set()
    for rank in range(table["nnodes"]):
        made.nodes[rank] = Node(cores, gpus, f"{prefix}{rank}")
    made.name_ranks()
    return _amended(made, table) if "amend-r" in table else made


def _amended(made: Rv1Set, table: dict[str, Any]) -> Rv1Set:
    """What a function, MODULE:NAME or in a file, makes of R and the topology that is pretended, if there is one."""
    from flux.testing.fake_resources import load_amender  # for tests

    try:
        amend = load_amender(table["amend-r"])
        xml = read_text(table["hwloc-xml-path"]) if "hwloc-xml-path" in table else None
        return Rv1Set(amend(made.to_dict(), xml), keep_scheduling=True)
    except (ImportError, AttributeError, OSError, ValueError, TypeError, KeyError) as exc:
        raise ValueError(f"fake-resources.amend-r: {table['amend-r']}: {exc}") from None


def rerank(made: Rv1Set, hosts: list[str]) -> Rv1Set:
    """R with the ranks that its hosts have in `hosts`, the instance's. Raises ValueError for one that is not there."""
    places: dict[str, list[int]] = {}
    for rank, host in enumerate(hosts):
        places.setdefault(host, []).append(rank)
    renumbered = {}
    for rank in sorted(made.nodes):
        host = made.nodes[rank].host or f"rank{rank}"
        if not places.get(host):
            raise ValueError(f"resource configuration: host '{host}' is not in the hostlist of the instance")
        renumbered[rank] = places[host].pop(0)
    return made.renumbered(renumbered)


def differences(rules: dict[str, str], rank: int, configured: Rv1Set, found: Rv1Set) -> str | None:
    """Why a rank must not be used, as the reason of its drain; None if it has what the configuration says.

    Args:
        rules: as of Settings.
        rank: which.
        configured, found: what it should have, and has; under that rank.
    """
    if rank not in configured.nodes:
        return None
    wanted, has = configured.nodes[rank], found.nodes[rank]
    if rules["hostname"] != IGNORE and wanted.host and has.host != wanted.host:
        return f"rank {rank} got hostname '{has.host}', expected '{wanted.host}'"
    missing, extra = Node(0, 0, None), Node(0, 0, None)
    if rules["core"] not in (IGNORE, MISSING):
        missing.cores = wanted.cores & ~has.cores
    if rules["core"] not in (IGNORE, EXTRA):
        extra.cores = has.cores & ~wanted.cores
    if rules["gpu"] not in (IGNORE, MISSING):
        missing.gpus = wanted.gpus & ~has.gpus
    if rules["gpu"] not in (IGNORE, EXTRA):
        extra.gpus = has.gpus & ~wanted.gpus
    for node, text in ((missing, "missing"), (extra, "has extra")):
        if node.cores or node.gpus:
            return f"rank {rank} ({has.host}) {text} resources: {_children(node)}"
    return None


def _children(node: Node) -> str:
    one = Rv1Set()
    one.nodes[0] = node
    text = one.dumps().partition("/")[2]
    return text if node.cores else text.removeprefix("core,")
