"""R as the shell reads it: which node has which cores and gpus (spec 07, 1.1)."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import msgspec

from flux.hostlist import Hostlist
from flux.idset import IDset


class Children(msgspec.Struct):
    """What a rank has of each kind of resource."""

    core: str = ""
    gpu: str = ""


class RankGroup(msgspec.Struct):
    """Ranks with the same children."""

    rank: str
    children: Children


class Execution(msgspec.Struct):
    """The execution part of R."""

    R_lite: list[RankGroup]
    nodelist: list[str] = []
    starttime: float = 0.0
    expiration: float = 0.0
    nslots: int = 0


class R(msgspec.Struct):
    """A resource set, as far as the execution of a job has to know it."""

    execution: Execution


class Node(NamedTuple):
    """One node of an allocation."""

    rank: int
    """of its broker"""
    host: str
    cores: tuple[int, ...]
    gpus: tuple[int, ...]


@lru_cache(maxsize=1024)
def ids(text: str) -> tuple[int, ...]:
    """The numbers of an idset. Raises ValueError if it is none."""
    return tuple(IDset(text))


@lru_cache(maxsize=1024)
def hosts(text: str) -> tuple[str, ...]:
    """The names of a hostlist. Raises ValueError if it is none."""
    return tuple(Hostlist(text))


def nodes(execution: Execution) -> list[Node]:
    """The nodes of an allocation, in the order of their ranks: node i is shell rank i. Raises ValueError."""
    groups = execution.R_lite
    names = hosts(",".join(execution.nodelist)) if execution.nodelist else ()
    if len(groups) == 1:
        group = groups[0]
        cores, gpus = ids(group.children.core), ids(group.children.gpu)
        ranks = ids(group.rank)
        return [
            Node(rank, names[place] if place < len(names) else f"rank{rank}", cores, gpus)
            for place, rank in enumerate(ranks)
        ]
    found = sorted(
        (rank, ids(group.children.core), ids(group.children.gpu)) for group in groups for rank in ids(group.rank)
    )
    return [
        Node(rank, names[place] if place < len(names) else f"rank{rank}", cores, gpus)
        for place, (rank, cores, gpus) in enumerate(found)
    ]
