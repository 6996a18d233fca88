"""Queues: their state, limits, defaults and resources (spec 08, 11.2; spec 06, section 10).

    for queue in flux.queue.QueueList(h):
        print(queue.name, queue.enabled, queue.started, queue.limits.timelimit)

An instance without named queues has one, whose name is "".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from flux.core.handle import Flux
from flux.util import parse_fsd

if TYPE_CHECKING:
    from flux.resource.list import SchedResourceList

__all__ = [
    "QueueDefaults",
    "QueueInfo",
    "QueueLimits",
    "QueueList",
    "QueueResourceCounts",
    "QueueResources",
]

_COUNTS = ("nnodes", "ncores", "ngpus")


def _dig(table: Any, *keys: str) -> Any:
    """A member of members of a table; None if there is none."""
    for key in keys:
        table = table.get(key) if isinstance(table, Mapping) else None
    return table


class QueueResourceCounts:
    """Numbers of nodes, cores and GPUs."""

    def __init__(self, nnodes: float, ncores: float, ngpus: float) -> None:
        self.nnodes = nnodes
        self.ncores = ncores
        self.ngpus = ngpus

    def __repr__(self) -> str:
        return f"QueueResourceCounts(nnodes={self.nnodes}, ncores={self.ncores}, ngpus={self.ngpus})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QueueResourceCounts) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # its numbers may be set


class QueueLimits:
    """What a job of a queue may ask for.

    Args:
        min, max: QueueResourceCounts.
        duration: how long it may run, a Flux duration; ``inf`` for as long as it likes.
    """

    def __init__(self, min: QueueResourceCounts, max: QueueResourceCounts, duration: str) -> None:
        self.min = min
        self.max = max
        self.duration = duration

    @property
    def timelimit(self) -> float:
        """`duration` in seconds."""
        return _seconds(self.duration)

    def __repr__(self) -> str:
        return f"QueueLimits(min={self.min!r}, max={self.max!r}, duration={self.duration!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QueueLimits) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # as above


class QueueDefaults:
    """What a job of a queue gets that does not ask: `duration`, as of QueueLimits."""

    def __init__(self, duration: str) -> None:
        self.duration = duration

    @property
    def timelimit(self) -> float:
        """`duration` in seconds."""
        return _seconds(self.duration)

    def __repr__(self) -> str:
        return f"QueueDefaults(duration={self.duration!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QueueDefaults) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # as above


def _seconds(duration: str) -> float:
    return parse_fsd(duration) or math.inf


class QueueResources:
    """The resources of a queue: those that have the properties it requires.

    Args:
        name: of the queue.
        resources: of the instance, a SchedResourceList.
        config: the instance's configuration.
        parent: the queue that this one is a virtual part of.

    Attributes are those of SchedResourceList: `all`, `up`, `free`, ...
    """

    def __init__(self, name: str, resources: SchedResourceList, config: Mapping[str, Any], parent: str = "") -> None:
        requires = _dig(config, "queues", parent or name, "requires")
        self.name = name
        self._resources = resources.copy_constraint({"properties": requires}) if requires else resources

    def __getattr__(self, attr: str) -> Any:
        if attr.startswith("_"):
            raise AttributeError(attr)
        return getattr(self._resources, attr)


class QueueInfo:
    """A queue.

    Args:
        name: its name, "" for the one that has none.
        config: the instance's configuration.
        resources: of the instance, a SchedResourceList.
        enabled, started: whether jobs may be submitted to it, whether its jobs are scheduled.
        default: whether jobs are in it that do not ask for a queue.
        parent: the queue that it is a virtual part of.
        blocked: why it is not started though nobody has stopped it: ``scheduler``, ``parent``.

    Attributes besides: `is_default`, `defaults`, `limits`.
    """

    def __init__(
        self,
        name: str,
        config: Mapping[str, Any],
        resources: SchedResourceList,
        enabled: bool,
        started: bool,
        default: bool,
        parent: str = "",
        blocked: str | None = None,
    ) -> None:
        self.name = name
        self.config = config
        self.resources = QueueResources(name, resources, config, parent)
        self.enabled = enabled
        self.started = started
        self.is_default = default
        self.parent = parent
        self.blocked = blocked
        self.defaults = QueueDefaults(self._policy("jobspec", "defaults", "system", "duration") or "inf")
        duration = self._limit("duration") or "inf"
        self.limits = QueueLimits(self._counts("min", 0), self._counts("max", math.inf), duration)

    def _policy(self, *keys: str) -> Any:
        """What the policy of the queue says, or that of its parent, or that of the instance."""
        for queue in (self.name, self.parent):
            found = _dig(self.config, "queues", queue, "policy", *keys) if queue else None
            if found is not None:
                return found
        return _dig(self.config, "policy", *keys)

    def _limit(self, *keys: str) -> Any:
        return self._policy("limits", *keys)

    def _counts(self, which: str, unlimited: float) -> QueueResourceCounts:
        counts = []
        for name in _COUNTS:
            limit = self._limit("job-size", which, name)
            counts.append(unlimited if limit is None or limit < 0 else limit)
        return QueueResourceCounts(*counts)


class QueueList:
    """The queues of an instance, in the order of its configuration.

    Args:
        handle: whom to ask.
        queues: names of those that are wanted; None: all.

    Raises ValueError for a queue that there is not. ``queues["batch"]`` and ``queues.batch`` are the queue of that
    name; `default_queue` is the name of the default one, if there is one.
    """

    def __init__(self, handle: Flux, queues: Iterable[str] | None = None) -> None:
        from flux.resource.list import resource_list

        asked = resource_list(handle)
        config = handle.rpc("config.get").get() or {}
        names = list(config.get("queues") or [""])
        wanted = names if queues is None else list(queues)
        for name in wanted:
            if name not in names:
                raise ValueError(f"No such queue: {name}")
        self.default_queue: str = _dig(config, "policy", "jobspec", "defaults", "system", "queue") or ""
        rpcs = {
            name: handle.rpc("job-manager.queue-status", {"name": name} if name else {})
            for name in names
            if name in wanted
        }
        resources = asked.get()
        self._queues: dict[str, QueueInfo] = {}
        for name, rpc in rpcs.items():
            status = rpc.get()
            self._queues[name] = QueueInfo(
                name,
                config,
                resources,
                status["enable"],
                status["start"],
                bool(name) and name == self.default_queue,
                status.get("parent", ""),
                status.get("blocked"),
            )

    def __getattr__(self, attr: str) -> QueueInfo:
        queues = self.__dict__.get("_queues", {})
        if attr in queues:
            found: QueueInfo = queues[attr]
            return found
        raise AttributeError(f"no queue '{attr}'")

    def __getitem__(self, item: str) -> QueueInfo:
        return self._queues[item]

    def __iter__(self) -> Iterator[QueueInfo]:
        return iter(self._queues.values())
