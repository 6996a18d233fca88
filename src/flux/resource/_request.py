"""ResourceRequest: what of a jobspec a scheduler has to know (spec 07, 3.4). Pure.

The last vertex of each type counts, vertices of other types are only a factor for what is below them. What is asked
for, whatever the shape, is one of two things: some slots, wherever they are; or nodes, with so many slots on each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flux.resource.ResourceCount import ResourceCount

MAX_RESOURCE_DEPTH = 100
_ONE = ResourceCount(1, 1)


class ResourceRequest:
    """A request for resources.

    Args:
        node_count: of how many nodes; None: wherever there is room.
        slot_count: of how many slots, on all nodes together.
        slot_size: cores of a slot; where a slot is of several nodes, of each of them.
        gpu_per_slot: as `slot_size`, of gpus.
        duration: in seconds; 0: for as long as the instance has its resources.
        constraint: RFC 31, or None.
        exclusive: whole nodes.
        jobspec: what it was made from.
    """

    def __init__(
        self,
        node_count: ResourceCount | None,
        slot_count: ResourceCount,
        slot_size: int,
        gpu_per_slot: int,
        duration: float,
        constraint: Any,
        exclusive: bool,
        jobspec: Any = None,
    ) -> None:
        self.node_count = node_count
        self.slot_count = slot_count
        self.slot_size = slot_size
        self.gpu_per_slot = gpu_per_slot
        self.duration = duration
        self.constraint = constraint
        self.exclusive = exclusive
        self.jobspec = jobspec

    @property
    def nnodes(self) -> int:
        """The least number of nodes; 0 if none is asked for."""
        return 0 if self.node_count is None else self.node_count.min

    @property
    def nnodes_max(self) -> int | None:
        """The number of nodes wanted; None: all."""
        return 0 if self.node_count is None else self.node_count.max

    @property
    def nslots(self) -> int:
        """The least number of slots."""
        return self.slot_count.min

    @property
    def nslots_max(self) -> int | None:
        """The number of slots wanted; None: all."""
        return self.slot_count.max

    @property
    def ncores(self) -> int:
        """The least number of cores."""
        return max(self.nslots, self.nnodes) * self.slot_size

    @property
    def ngpus(self) -> int:
        """The least number of gpus."""
        return max(self.nslots, self.nnodes) * self.gpu_per_slot

    @classmethod
    def from_jobspec(cls, jobspec: Any) -> ResourceRequest:
        """Reads a jobspec: an object, or a Jobspec. Raises ValueError saying what is wrong."""
        spec = getattr(jobspec, "jobspec", jobspec)
        resources = spec.get("resources") if isinstance(spec, Mapping) else None
        if not isinstance(resources, list) or not resources:
            raise ValueError("jobspec has no resources")
        walk = _Walk()
        walk.vertices(resources, _ONE, 1)
        if walk.slots is None:
            raise ValueError("Unable to determine slot count")
        if walk.cores is None:
            raise ValueError("Unable to determine slot size")
        system = _object(_object(spec, "attributes"), "system")
        duration = system.get("duration") or 0
        if isinstance(duration, bool) or not isinstance(duration, int | float) or not 0 <= duration < float("inf"):
            raise ValueError(f"duration is {duration!r}, not a number of seconds")
        return cls(
            walk.nodes,
            walk.slots,
            walk.cores.min,
            0 if walk.gpus is None else walk.gpus.min,
            float(duration),
            system.get("constraints"),
            walk.exclusive,
            jobspec,
        )


def _object(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    item = value.get(key)
    if item is None:
        return {}
    if not isinstance(item, Mapping):
        raise ValueError(f"{key} of the jobspec is no object")
    return item


class _Walk:
    """The vertices found so far."""

    def __init__(self) -> None:
        self.nodes: ResourceCount | None = None
        self.slots: ResourceCount | None = None
        self.cores: ResourceCount | None = None
        self.gpus: ResourceCount | None = None
        self.exclusive = False

    def vertices(self, resources: Any, above: ResourceCount, depth: int) -> None:
        """Walks through vertices; `above` is the product of the counts above them, up to a slot or a node in it."""
        if depth > MAX_RESOURCE_DEPTH:
            raise ValueError(f"resources are nested more than {MAX_RESOURCE_DEPTH} levels deep")
        if not isinstance(resources, list):
            raise ValueError("resources must be a list")
        for vertex in resources:
            if not isinstance(vertex, Mapping) or not isinstance(vertex.get("type"), str):
                raise ValueError("a resource must be an object with a type")
            count = ResourceCount.from_count_spec(vertex.get("count"))
            below = _product(above, count)
            match vertex["type"]:
                case "node":
                    self.nodes = below
                    self.exclusive |= bool(vertex.get("exclusive"))
                    if self.slots is not None:
                        below = _ONE  # a node of a slot: what is in it is what each node must have
                case "slot":
                    self.slots = below
                    self.exclusive |= bool(vertex.get("exclusive"))
                    # The nodes of slots are as many as all slots have together; what else is in a slot is each one's.
                    if not _has_node(vertex.get("with"), depth):
                        below = _ONE
                case "core":
                    self.cores = below
                case "gpu":
                    self.gpus = below
            if "with" in vertex:
                self.vertices(vertex["with"], below, depth + 1)


def _has_node(vertices: Any, depth: int) -> bool:
    if depth > MAX_RESOURCE_DEPTH or not isinstance(vertices, list):
        return False
    return any(
        isinstance(vertex, Mapping) and (vertex.get("type") == "node" or _has_node(vertex.get("with"), depth + 1))
        for vertex in vertices
    )


def _product(above: ResourceCount, count: ResourceCount) -> ResourceCount:
    """As many as there are `above`, times `count`."""
    if above.min == above.max:
        return count.scaled(above.min) if above.min != 1 else count
    if count.min == count.max:
        return above.scaled(count.min)
    if above.values is not None or count.values is not None:
        raise ValueError("a set of counts cannot be below or above a range")
    most = None if above.max is None or count.max is None else above.max * count.max
    return ResourceCount(above.min * count.min, most)
