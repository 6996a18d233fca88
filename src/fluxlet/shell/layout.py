"""How many tasks each node gets, and which (spec 07, 5.2)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fluxlet.shell import taskmap
from fluxlet.shell.allocation import Execution, Node
from fluxlet.shell.jobspec import Jobspec, vertices


@dataclass(slots=True)
class Layout:
    """The tasks of a job on its nodes."""

    nodes: list[Node]
    """with the cores and gpus that the job uses of them"""
    ntasks: int
    map: taskmap.Map
    tasks: list[list[int]]
    """ids, for each node"""
    adjusted: list[tuple[int, str, str]]
    """(node, cores before, cores after), for nodes of which the job uses less than it has been given"""


def slots(jobspec: Jobspec, execution: Execution, nnodes: int) -> int:
    """The number of slots: what R says, or else what the jobspec asks for."""
    if execution.nslots:
        return execution.nslots
    found = {vertex.get("type"): vertex for vertex in vertices(jobspec.resources)}
    slot = found.get("slot", {}).get("count", 1)
    least = slot.get("min") if isinstance(slot, dict) else slot
    count = least if isinstance(least, int) else 1
    return max(1, count * nnodes if "node" in found else count)


def task_count(jobspec: Jobspec, nslots: int) -> int:
    """The number of tasks. Raises ValueError for more than one a slot."""
    count = jobspec.tasks[0].count
    if count.total:
        return count.total
    if count.per_slot > 1:
        raise ValueError(f"per_slot count: expected 1 got {count.per_slot}")
    return nslots


def distribute(cores: Sequence[int], per_slot: int, ntasks: int) -> list[int]:
    """How many of `ntasks` tasks each node gets, by the number of its cores: in turn, the largest first."""
    counts = [0] * len(cores)
    if len(cores) == 1:
        return [ntasks]
    per_slot = max(1, min(per_slot, *cores))
    order = sorted(range(len(cores)), key=lambda node: -cores[node])
    queue: deque[int] = deque()
    left: list[int] = []
    for _ in range(ntasks):
        while True:
            if not queue:
                queue.extend(order)
                left = [max(number, per_slot) for number in cores]  # whoever has none takes part all the same
            node = queue.popleft()
            if left[node] >= per_slot:
                break
        counts[node] += 1
        left[node] -= per_slot
        queue.append(node)
    return counts


def per_resource(value: Any, nodes: Sequence[Node]) -> list[int]:
    """The counts that the option `per-resource` asks for. Raises ValueError if it is not understood."""
    if not isinstance(value, dict) or not isinstance(value.get("type"), str):
        raise ValueError("invalid per-resource spec: an object with a type is expected")
    count = value.get("count", 1)
    if type(count) is not int or count < 1:
        raise ValueError(f"invalid per-resource count={count}")
    if value["type"] == "node":
        return [count] * len(nodes)
    if value["type"] == "core":
        return [count * len(node.cores) for node in nodes]
    raise ValueError(f"invalid per-resource type={value['type']} specified")


def _scheme(option: Any) -> tuple[str, str | None]:
    if option is None:
        return "block", None
    if not isinstance(option, dict) or not isinstance(option.get("scheme"), str):
        raise ValueError("invalid taskmap option: an object with a scheme is expected")
    value = option.get("value")
    return option["scheme"], None if value is None or value == "" else str(value)


def _mapped(option: Any, counts: list[int], nodes: Sequence[Node]) -> taskmap.Map:
    scheme, value = _scheme(option)
    if scheme == "block":
        if value is not None:
            raise ValueError(f"block taskmap does not accept a value (got {value})")
        return taskmap.from_runs(list(enumerate(counts)))
    if scheme == "cyclic":
        return taskmap.cyclic(counts, value)
    if scheme == "manual":
        return taskmap.manual(counts, value)
    if scheme == "hostfile":
        try:
            with open(value or "") as file:
                from flux.hostlist import Hostlist

                listed = [host for line in file if line.strip() for host in Hostlist(line.strip())]
        except OSError as exc:
            raise ValueError(f"failed to open hostfile: {value}: {exc.strerror}") from None
        try:
            return taskmap.by_hosts(sum(counts), listed, [node.host for node in nodes])
        except ValueError as exc:
            raise ValueError(f"failed to map tasks with hostfile:{value}: {exc}") from None
    raise ValueError(f"failed to map tasks with scheme={scheme}")


def _idset(ids: Sequence[int]) -> str:
    from flux.idset import IDset

    return str(IDset(list(ids)))


def _trimmed(
    nodes: list[Node], counts: list[int], nslots: int, cores_per_slot: int
) -> tuple[list[Node], list[tuple[int, str, str]]]:
    """Of each node, no more than its tasks need."""
    gpus_per_slot = sum(len(node.gpus) for node in nodes) // nslots
    adjusted = []
    kept = []
    for place, node in enumerate(nodes):
        cores = node.cores[: counts[place] * cores_per_slot]
        if cores != node.cores and cores:
            adjusted.append((place, _idset(node.cores), _idset(cores)))
            node = node._replace(cores=cores, gpus=node.gpus[: counts[place] * gpus_per_slot])
        kept.append(node)
    return kept, adjusted


def _exclusive(jobspec: Jobspec) -> bool:
    return any(vertex.get("exclusive") for vertex in vertices(jobspec.resources))


def make(jobspec: Jobspec, execution: Execution, nodes: list[Node]) -> Layout:
    """The layout of a job. Raises ValueError with the text for the user."""
    options = jobspec.attributes.system.shell.options
    nslots = slots(jobspec, execution, len(nodes))
    cores_per_slot = max(1, sum(len(node.cores) for node in nodes) // nslots)
    each = options.get("per-resource")
    adjusted: list[tuple[int, str, str]] = []
    if each is not None:
        counts = per_resource(each, nodes)
        ntasks = sum(counts)
    else:
        ntasks = task_count(jobspec, nslots)
        counts = distribute([len(node.cores) for node in nodes], cores_per_slot, ntasks)
        if len(nodes) > 1 and nslots > ntasks and not _exclusive(jobspec):
            nodes, adjusted = _trimmed(nodes, counts, nslots, cores_per_slot)
    blocks = _mapped(options.get("taskmap"), counts, nodes)
    if len(nodes) == 1:
        tasks = [list(range(ntasks))]
    else:
        tasks = taskmap.tasks_of_nodes(blocks, len(nodes))
    return Layout(nodes, ntasks, blocks, tasks, adjusted)
