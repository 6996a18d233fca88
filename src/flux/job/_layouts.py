"""What a job asks for, by counts: the `resources` and the task count of a jobspec (spec 06, 15.8; RFC 25)."""

from __future__ import annotations

from typing import Any, NamedTuple


class Layout(NamedTuple):
    """The parts of a jobspec that the counts decide."""

    resources: list[dict[str, Any]]
    task_count: dict[str, int]


def _below(cores: int, gpus: int | None) -> list[dict[str, Any]]:
    below: list[dict[str, Any]] = [{"type": "core", "count": cores}]
    if gpus:
        below.append({"type": "gpu", "count": gpus})
    return below


def _slot(count: int, cores: int, gpus: int | None) -> dict[str, Any]:
    return {"type": "slot", "count": count, "with": _below(cores, gpus), "label": "task"}


def _node(count: int, exclusive: bool, slot: dict[str, Any]) -> dict[str, Any]:
    shared: dict[str, Any] = {"type": "node", "count": count}
    if exclusive:
        shared["exclusive"] = True
    return {**shared, "with": [slot]}


def _require(value: Any, least: int, text: str) -> None:
    if not isinstance(value, int) or value < least:
        raise ValueError(text)


def by_tasks(num_tasks: int, cores: int, gpus: int | None, nodes: int | None, exclusive: bool) -> Layout:
    """So many tasks, of so many cores and gpus each, over so many nodes. Raises ValueError."""
    _require(num_tasks, 1, "task count must be a integer >= 1")
    _require(cores, 1, "cores per task must be an integer >= 1")
    if gpus is not None:
        _require(gpus, 0, "gpus per task must be an integer >= 0")
    if nodes is None:
        if exclusive:
            raise ValueError("exclusive can only be set with a node count")
        return Layout([_slot(num_tasks, cores, gpus)], {"per_slot": 1})
    _require(nodes, 1, "node count must be an integer >= 1 (if set)")
    if nodes > num_tasks:
        raise ValueError("node count must not be greater than task count")
    slots = -(-num_tasks // nodes)
    count = {"total": num_tasks} if num_tasks % nodes else {"per_slot": 1}
    return Layout([_node(nodes, exclusive, _slot(slots, cores, gpus))], count)


def by_resources(ncores: int | None, nnodes: int | None, gpus_per_node: int | None, exclusive: bool) -> Layout:
    """So many cores or nodes, whatever runs on them. Raises ValueError."""
    if ncores is not None:
        _require(ncores, 1, "ncores must be an integer >= 1")
    if nnodes is not None:
        _require(nnodes, 1, "nnodes must be an integer >= 1")
    if gpus_per_node is not None:
        _require(gpus_per_node, 0, "gpus_per_node must be an integer >= 0")
        if nnodes is None:
            raise ValueError("gpus_per_node must be specified with nnodes")
    if exclusive and nnodes is None:
        raise ValueError("exclusive can only be set with a node count")
    if nnodes is None:
        if ncores is None:
            raise ValueError("must specify node or core count with per_resource")
        return Layout([_slot(ncores, 1, None)], {"per_slot": 1})
    if ncores is None:
        if not exclusive:
            raise ValueError("Specifying nnodes also requires ncores or exclusive")
        cores = 1
    elif ncores < nnodes:
        raise ValueError("number of cores cannot be less than nnodes")
    elif ncores % nnodes:
        raise ValueError("number of cores must be evenly divisible by node count")
    else:
        cores = ncores // nnodes
    return Layout([_node(nnodes, exclusive, _slot(1, cores, gpus_per_node))], {"per_slot": 1})


def per_resource_option(kind: Any, count: Any) -> dict[str, Any] | None:
    """The shell option ``per-resource``; None if nothing is asked for. Raises ValueError."""
    if kind is None:
        if count is not None:
            raise ValueError("must specify a per_resource_type with per_resource_count")
        return None
    if not isinstance(kind, str):
        raise ValueError("per_resource_type must be a string")
    if kind not in ("node", "core"):
        raise ValueError(f"Invalid per_resource_type='{kind}' specified")
    if count is None:
        raise ValueError("must specify a per_resource_count with per_resource_type")
    if not isinstance(count, int):
        raise ValueError("per_resource_count must be an integer")
    if count < 1:
        raise ValueError("per_resource_count must be >= 1")
    return {"type": kind, "count": count}
