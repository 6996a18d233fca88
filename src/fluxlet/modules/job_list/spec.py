"""What a listing tells of a job's jobspec and of its resources (spec 08, 2.2).

Both are parsed once: jobs that are submitted in numbers have equal jobspecs, and few kinds of resources. Equal ones
share one object, which keeps a hundred thousand inactive jobs small.

A jobspec may be anything that ingest has let pass: what of it cannot be read is not known, and no error.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from flux.hostlist import Hostlist
from flux.idset import IDset
from fluxlet.payload import UNREADABLE

_load = msgspec.json.Decoder().decode


class Spec(NamedTuple):
    """Of a jobspec; None: it does not say so, or cannot before the job has resources."""

    name: str | None = None
    cwd: str | None = None
    queue: str | None = None
    project: str | None = None
    bank: str | None = None
    duration: float | None = None
    ntasks: int | None = None
    nnodes: int | None = None
    ncores: int | None = None
    #: Tasks for each node, or core, of the resources; None: `ntasks` is known, or will never be.
    per_node: int | None = None
    per_core: int | None = None


class Where(NamedTuple):
    """Of the resources of a job."""

    ranks: str = ""
    nodelist: str = ""
    nnodes: int = 0
    ncores: int = 0
    rank_ids: tuple[int, ...] = ()
    hosts: tuple[str, ...] = ()


def _dig(value: Any, *keys: str) -> Any:
    """A member of members; None if there is none."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _walk(vertices: Any, count: int) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(type, how many in all, vertex) of each vertex. Raises ValueError where that cannot be told."""
    if not isinstance(vertices, list):
        raise ValueError("resources must be a list")
    for vertex in vertices:
        number = vertex.get("count") if isinstance(vertex, dict) else None
        if type(number) is not int:
            raise ValueError("the number of a resource is not an integer")
        yield str(vertex.get("type")), count * number, vertex
        if "with" in vertex:
            yield from _walk(vertex["with"], count * number)


class _Shape(NamedTuple):
    nnodes: int | None
    nslots: int
    ncores: int
    exclusive: bool


def _shape(resources: Any) -> _Shape | None:
    """How many nodes, slots and cores are asked for; None if that cannot be told."""
    totals = {"node": 0, "slot": 0, "core": 0}
    exclusive = False
    try:
        for kind, count, vertex in _walk(resources, 1):
            if kind in totals:
                totals[kind] += count
            exclusive = exclusive or (kind == "node" and vertex.get("exclusive") is True)
    except (ValueError, RecursionError):
        return None
    return _Shape(totals["node"] or None, totals["slot"], totals["core"], exclusive)


def _name(jobspec: Any, system: Any) -> str | None:
    name = _text(_dig(system, "job", "name"))
    if name is not None:
        return name
    tasks = _dig(jobspec, "tasks")
    command = _dig(tasks[0], "command") if isinstance(tasks, list) and tasks else None
    if not isinstance(command, list) or not command or not isinstance(command[0], str):
        return None
    return command[0].rpartition("/")[2] or command[0]


@lru_cache(maxsize=1024)
def parse_jobspec(text: bytes) -> Spec:
    """What the JSON text of a jobspec says."""
    jobspec = _load(text)
    system = _dig(jobspec, "attributes", "system")
    duration = _dig(system, "duration")
    shape = _shape(_dig(jobspec, "resources"))
    ntasks = per_node = per_core = None
    per_resource = _dig(system, "shell", "options", "per-resource")
    tasks = _dig(jobspec, "tasks")
    total = _dig(tasks[0], "count", "total") if isinstance(tasks, list) and tasks else None
    if isinstance(per_resource, dict):
        count = per_resource.get("count", 1)
        if per_resource.get("type") == "node":
            per_node = count
            if shape is not None and shape.nnodes is not None:
                ntasks = shape.nnodes * count
        elif per_resource.get("type") == "core":
            if shape is not None and shape.nnodes is None:
                ntasks = shape.ncores * count
            else:
                per_core = count
    elif type(total) is int:
        ntasks = total
    elif shape is not None:
        ntasks = shape.nslots
    return Spec(
        name=_name(jobspec, system),
        cwd=_text(_dig(system, "cwd")),
        queue=_text(_dig(system, "queue")),
        project=_text(_dig(system, "project")),
        bank=_text(_dig(system, "bank")),
        duration=float(duration) if type(duration) in (int, float) else None,
        ntasks=ntasks,
        nnodes=None if shape is None else shape.nnodes,
        ncores=None if shape is None or shape.exclusive else shape.ncores,
        per_node=per_node,
        per_core=per_core,
    )


class _Children(msgspec.Struct):
    core: str = ""


class _Lite(msgspec.Struct):
    rank: str
    children: _Children


class _Execution(msgspec.Struct):
    R_lite: list[_Lite]
    nodelist: list[str] = []
    expiration: float = 0.0


class _Resources(msgspec.Struct):
    execution: _Execution


_resources = msgspec.json.Decoder(_Resources, strict=False).decode


@lru_cache(maxsize=1024)
def _where(lite: tuple[tuple[str, str], ...], hosts: tuple[str, ...]) -> Where:
    ranks, ncores = IDset(), 0
    for rank_text, core_text in lite:
        some = IDset(rank_text)
        ncores += len(some) * (len(IDset(core_text)) if core_text else 0)
        ranks = ranks.union(some)
    text = str(ranks)
    nodes = Hostlist(list(hosts))
    return Where(
        ranks=f"[{text}]" if len(ranks) > 1 else text,
        nodelist=nodes.encode(),
        nnodes=len(ranks),
        ncores=ncores,
        rank_ids=tuple(ranks),
        hosts=tuple(dict.fromkeys(nodes)),
    )


def parse_resources(text: bytes) -> tuple[Where, float]:
    """What the JSON text of an R says, and when the resources expire. Raises ValueError for what is no R."""
    try:
        execution = _resources(text).execution
    except UNREADABLE as exc:
        raise ValueError(str(exc)) from None
    lite = tuple([(entry.rank, entry.children.core) for entry in execution.R_lite])
    return _where(lite, tuple(execution.nodelist)), execution.expiration
