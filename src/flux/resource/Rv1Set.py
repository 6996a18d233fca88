"""Rv1Set: a set of resources, version 1 of R (RFC 20; spec 07, 1.1).

Rules:
- A rank has cores and gpus, each a bit mask; operations on sets are operations on masks.
- Ranks are kept in a dict in no order; what is encoded is in the order of ranks.
- Text is made the way the reference makes it, byte for byte: ranks that have the same are one group.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Mapping
from typing import Any

from flux.hostlist import Hostlist
from flux.idset import IDset
from flux.resource.ResourceSetImplementation import ResourceSetImplementation


class Node:
    """What of one rank is in a set."""

    __slots__ = ("cores", "gpus", "host")

    def __init__(self, cores: int, gpus: int, host: str | None) -> None:
        self.cores = cores
        self.gpus = gpus
        self.host = host


def mask(ids: str) -> int:
    """The ids of an idset as bits. Raises ValueError."""
    if ids.isdecimal() and ids.isascii() and (ids == "0" or ids[0] != "0") and len(ids) < 6:
        return 1 << int(ids)
    bits = 0
    for number in IDset(ids):
        bits |= 1 << number
    return bits


def unmask(bits: int) -> str:
    """The idset of a mask."""
    parts = []
    number = 0
    while bits:
        skip = (bits & -bits).bit_length() - 1
        bits >>= skip
        number += skip
        run = (~bits & (bits + 1)).bit_length() - 1
        parts.append(str(number) if run == 1 else f"{number}-{number + run - 1}")
        bits >>= run
        number += run
    return ",".join(parts)


def _idset(ranks: Iterable[int]) -> str:
    bits = 0
    for rank in ranks:
        bits |= 1 << rank
    return unmask(bits)


def _rank_list(ranks: Any) -> Iterable[int]:
    """Ranks, given as an idset (text or IDset), a number, or any iterable of numbers. Raises ValueError."""
    if isinstance(ranks, int):
        return (ranks,)
    return IDset(ranks) if isinstance(ranks, str) else ranks


def _short(name: str, ids: str) -> str:
    return f"{name}[{ids}]" if not ids.isdecimal() and ids else name + ids


class Rv1Set(ResourceSetImplementation):
    """A set of resources.

    Args:
        arg: R as JSON text or as a mapping; None: nothing.
        keep_scheduling: keep R's ``scheduling`` part.

    Raises ValueError for text that is no R, TypeError for what is no text or mapping.
    """

    version = 1

    def __init__(self, arg: Any = None, keep_scheduling: bool = False) -> None:
        self.nodes: dict[int, Node] = {}
        self.properties: dict[str, set[int]] = {}
        self.nslots: int | None = None
        self._starttime = 0.0
        self._expiration = 0.0
        self._named = False  # it has, or once had, a nodelist
        self._scheduling: Any = None
        if arg is None:
            return
        r = json.loads(arg) if isinstance(arg, str | bytes) else arg
        if not isinstance(r, Mapping):
            raise TypeError(f"ResourceSet cannot be instantiated from {type(r)}")
        if r["version"] != 1:
            raise ValueError(f"R version {r['version']} not supported")
        self._read(r.get("execution", {}))
        if keep_scheduling:
            self._scheduling = r.get("scheduling")

    def _read(self, execution: Mapping[str, Any]) -> None:
        nodes = self.nodes
        for group in execution.get("R_lite", ()):
            children = group["children"]
            cores, gpus = mask(children.get("core", "")), mask(children.get("gpu", ""))
            for rank in IDset(group["rank"]):
                node = nodes.get(rank)
                if node is None:
                    nodes[rank] = Node(cores, gpus, None)
                else:
                    node.cores |= cores
                    node.gpus |= gpus
        if "nodelist" in execution:
            self._named = True
            hosts = Hostlist(list(execution["nodelist"]))
            # A host for each rank, in ascending order.
            for rank, host in zip(sorted(nodes), hosts, strict=False):
                nodes[rank].host = host
        for name, ranks in execution.get("properties", {}).items():
            self.properties[name] = {rank for rank in IDset(ranks) if rank in nodes}
        self._starttime = float(execution.get("starttime", 0.0))
        self._expiration = float(execution.get("expiration", 0.0))
        self.nslots = execution.get("nslots")

    # Text.

    def _groups(self) -> list[tuple[str, str, str]]:
        """(ranks, cores, gpus) of ranks that have the same, in the order of their lowest ranks."""
        groups: dict[tuple[int, int], int] = {}
        nodes = self.nodes
        for rank in sorted(nodes):
            node = nodes[rank]
            key = (node.cores, node.gpus)
            groups[key] = groups.get(key, 0) | 1 << rank
        return [(unmask(ranks), unmask(cores), unmask(gpus)) for (cores, gpus), ranks in groups.items()]

    def to_dict(self) -> dict[str, Any]:
        """R."""
        lite = []
        for ranks, cores, gpus in self._groups():
            children = {"core": cores}
            if gpus:
                children["gpu"] = gpus
            lite.append({"rank": ranks, "children": children})
        execution: dict[str, Any] = {
            "R_lite": lite,
            "starttime": self._starttime,
            "expiration": self._expiration,
        }
        if self.nslots is not None:
            execution["nslots"] = self.nslots
        if self._named:
            execution["nodelist"] = [self.nodelist().encode()]
        properties = {name: _idset(ranks) for name, ranks in sorted(self.properties.items()) if ranks}
        if properties:
            execution["properties"] = properties
        r: dict[str, Any] = {"version": 1, "execution": execution}
        if self._scheduling is not None:
            r["scheduling"] = self._scheduling
        return r

    def encode(self) -> str:
        """As of ResourceSetImplementation."""
        return json.dumps(self.to_dict())

    def dumps(self) -> str:
        """As of ResourceSetImplementation."""
        parts = []
        for ranks, cores, gpus in self._groups():
            children = _short("core", cores) + ("," + _short("gpu", gpus) if gpus else "")
            parts.append(f"{_short('rank', ranks)}/{children}")
        return " ".join(parts)

    # What is in it.

    def name_ranks(self) -> None:
        """Has the set encoded with a nodelist: its nodes have hosts."""
        self._named = True

    def nodelist(self) -> Hostlist:
        """As of ResourceSetImplementation; a rank without a name is called ``rankN``."""
        nodes = self.nodes
        return Hostlist([nodes[rank].host or f"rank{rank}" for rank in sorted(nodes)])

    def ranks(self) -> IDset:
        """As of ResourceSetImplementation."""
        return IDset(_idset(self.nodes))

    def nnodes(self) -> int:
        """As of ResourceSetImplementation."""
        return len(self.nodes)

    def count(self, name: str) -> int:
        """As of ResourceSetImplementation."""
        if name == "core":
            return sum(node.cores.bit_count() for node in self.nodes.values())
        if name == "gpu":
            return sum(node.gpus.bit_count() for node in self.nodes.values())
        return 0

    def get_properties(self) -> str:
        """As of ResourceSetImplementation."""
        return json.dumps({name: _idset(ranks) for name, ranks in sorted(self.properties.items()) if ranks})

    def get_expiration(self) -> float:
        """As of ResourceSetImplementation."""
        return self._expiration

    def set_expiration(self, expiration: float) -> None:
        """As of ResourceSetImplementation."""
        self._expiration = float(expiration)

    def get_starttime(self) -> float:
        """As of ResourceSetImplementation."""
        return self._starttime

    def set_starttime(self, starttime: float) -> None:
        """As of ResourceSetImplementation."""
        self._starttime = float(starttime)

    @property
    def scheduling(self) -> Any:
        """R's ``scheduling`` part, if it was kept."""
        return self._scheduling

    @scheduling.setter
    def scheduling(self, value: Any) -> None:
        self._scheduling = value

    # Sets.

    def _copy(self, ranks: Iterable[int]) -> Rv1Set:
        """Some ranks, all of which are here; without the number of slots."""
        new = Rv1Set()
        nodes = self.nodes
        for rank in ranks:
            node = nodes[rank]
            new.nodes[rank] = Node(node.cores, node.gpus, node.host)
        kept = new.nodes.keys()
        new.properties = {name: held for name, of in self.properties.items() if (held := of & kept)}
        new._starttime, new._expiration = self._starttime, self._expiration
        new._named, new._scheduling = self._named, self._scheduling
        return new

    def copy(self) -> Rv1Set:
        """As of ResourceSetImplementation; without the number of slots."""
        return self._copy(self.nodes)

    def copy_ranks(self, ranks: Any) -> Rv1Set:
        """As of ResourceSetImplementation: an idset, a number, or numbers; others than are here count for nothing."""
        return self._copy([rank for rank in _rank_list(ranks) if rank in self.nodes])

    def copy_constraint(self, constraint: Any) -> Rv1Set:
        """The ranks that satisfy a constraint (RFC 31), an object or its JSON text. Raises ValueError."""
        from flux.resource.matching import compile_constraint

        matches = compile_constraint(json.loads(constraint) if isinstance(constraint, str | bytes) else constraint)
        return self._copy([rank for rank, node in self.nodes.items() if matches(self, rank, node)])

    def _merge(self, other: Rv1Set) -> None:
        nodes = self.nodes
        for rank, node in other.nodes.items():
            own = nodes.get(rank)
            if own is None:
                nodes[rank] = Node(node.cores, node.gpus, node.host)
            else:
                own.cores |= node.cores
                own.gpus |= node.gpus
                own.host = own.host or node.host
        for name, ranks in other.properties.items():
            self.properties[name] = self.properties.get(name, set()) | ranks
        self._named = self._named or other._named
        self.nslots = None

    def append(self, other: Any) -> None:
        """As of ResourceSetImplementation."""
        self._merge(other)

    def add(self, other: Any) -> None:
        """As of ResourceSetImplementation."""
        self._merge(other)

    def union(self, other: Any) -> Rv1Set:
        """As of ResourceSetImplementation; times are those of this set."""
        new = self.copy()
        new._merge(other)
        return new

    def diff(self, other: Any) -> Rv1Set:
        """As of ResourceSetImplementation: core by core; a rank that keeps nothing goes."""
        new = self.copy()
        new.subtract(other)
        return new

    def subtract(self, other: Rv1Set) -> None:
        """Takes out, in place, what is in another set."""
        nodes = self.nodes
        gone = []
        for rank, node in other.nodes.items():
            own = nodes.get(rank)
            if own is not None:
                own.cores &= ~node.cores
                own.gpus &= ~node.gpus
                if not own.cores and not own.gpus:
                    gone.append(rank)
        self._drop(gone)

    def intersect(self, other: Any) -> Rv1Set:
        """As of ResourceSetImplementation: what this set has on the ranks that both have."""
        return self._copy([rank for rank in self.nodes if rank in other.nodes])

    def remove_ranks(self, ranks: Any) -> None:
        """As of ResourceSetImplementation; ranks as of `copy_ranks`."""
        self._drop([rank for rank in _rank_list(ranks) if rank in self.nodes])

    def _drop(self, ranks: list[int]) -> None:
        for rank in ranks:
            del self.nodes[rank]
        if ranks:
            gone = set(ranks)
            self.properties = {name: held for name, of in self.properties.items() if (held := of - gone)}

    def renumbered(self, number: Mapping[int, int]) -> Rv1Set:
        """A copy with other ranks: `number` has the new one of each."""
        new = self.copy()
        new.nodes = {number[rank]: node for rank, node in new.nodes.items()}
        new.properties = {name: {number[rank] for rank in ranks} for name, ranks in new.properties.items()}
        return new

    def set_property(self, name: str, ranks: Any = None) -> None:
        """Gives a property to some ranks, None for all. Raises ValueError."""
        if not name:
            raise ValueError("property name must not be empty")
        if "^" in name:
            raise ValueError(f"invalid property name '{name}': '^' is reserved for constraint negation")
        try:
            wanted = set(self.nodes) if ranks is None else set(_rank_list(ranks))
        except ValueError as exc:
            raise ValueError(f"invalid rank idset '{ranks}': {exc}") from None
        if unknown := wanted - self.nodes.keys():
            raise ValueError(f"ranks {_idset(unknown)} not in resource set")
        self.properties[name] = self.properties.get(name, set()) | wanted

    def host_ranks(self, hosts: Any, ignore_nomatch: bool = False) -> list[int]:
        """The ranks on hosts, in the order of these. Raises FileNotFoundError for a host that is not here."""
        on_host: dict[str, list[int]] = {}
        for rank in sorted(self.nodes):
            on_host.setdefault(self.nodes[rank].host or f"rank{rank}", []).append(rank)
        found = []
        for host in Hostlist(hosts):
            if host in on_host:
                found += on_host[host]
            elif not ignore_nomatch:
                raise FileNotFoundError(errno.ENOENT, f"host '{host}' not found")
        return found
