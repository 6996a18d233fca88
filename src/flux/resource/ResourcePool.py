"""ResourcePool: a pool of resources as schedulers see it (spec 07, 8.4)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flux.resource.ResourcePoolImplementation import (
    InfeasibleRequest,
    InsufficientResources,
    ResourcePoolImplementation,
)
from flux.resource.ResourceSet import ResourceSet
from flux.resource.Rv1Pool import Rv1Pool

_VERSIONS: dict[int, Any] = {1: Rv1Pool}


class ResourcePool:
    """A pool of resources.

    Args:
        arg: R as JSON text or a mapping; an implementation; None: nothing.
        version: the version of R, where `arg` does not say.
        log: called with a level and a text.
        kwargs: options of the implementation.

    Raises as ResourceSet.
    """

    InsufficientResources = InsufficientResources
    InfeasibleRequest = InfeasibleRequest

    def __init__(self, arg: Any = None, version: int = 1, log: Any = None, **kwargs: Any) -> None:
        self.impl: Any
        if isinstance(arg, ResourcePoolImplementation):
            self.impl = arg
            return
        if isinstance(arg, str):
            arg = json.loads(arg)
        if arg is not None:
            if not isinstance(arg, Mapping):
                raise TypeError(f"ResourcePool cannot be instantiated from {type(arg)}")
            version = arg["version"]
        if version not in _VERSIONS:
            raise ValueError(f"R version {version} not supported")
        self.impl = _VERSIONS[version](arg, log=log, **kwargs)

    @property
    def generation(self) -> int:
        """Counts changes."""
        return int(self.impl.generation)

    def mark_up(self, ids: str) -> None:
        """Ranks, an idset or "all", may be used."""
        self.impl.mark_up(ids)

    def mark_down(self, ids: str) -> None:
        """Ranks, an idset or "all", may not be used."""
        self.impl.mark_down(ids)

    def remove_ranks(self, ranks: Any) -> None:
        """Ranks are gone for good."""
        self.impl.remove_ranks(ranks)

    @property
    def expiration(self) -> float:
        """When the instance loses its resources, seconds since the epoch; 0: never."""
        return float(self.impl.expiration)

    @expiration.setter
    def expiration(self, value: float) -> None:
        self.impl.expiration = value

    def register_alloc(self, jobid: int, R: Any) -> None:
        """A job has resources already. Raises ValueError if it cannot have them."""
        self.impl.register_alloc(jobid, R)

    def free(self, jobid: int, R: Any = None, final: bool = False) -> None:
        """A job gives back R, or all it has. Raises ValueError if that is not what it has."""
        self.impl.free(jobid, R, final)

    def update_expiration(self, jobid: int, expiration: float) -> None:
        """A job will end at another time, seconds since the epoch; 0: it has no end."""
        self.impl.update_expiration(jobid, expiration)

    def job_end_times(self) -> list[tuple[int, float]]:
        """The jobs that have an end, and when that is."""
        ends: list[tuple[int, float]] = self.impl.job_end_times()
        return ends

    def parse_resource_request(self, jobspec: Any) -> Any:
        """What a jobspec asks for. Raises ValueError for what makes no sense."""
        return self.impl.parse_resource_request(jobspec)

    def alloc(self, jobid: int, request: Any) -> ResourcePool:
        """Gives resources to a job, and returns them. Raises InsufficientResources or InfeasibleRequest."""
        return ResourcePool(self.impl.alloc(jobid, request))

    def check_feasibility(self, request: Any) -> None:
        """Raises InfeasibleRequest if a request could never be served."""
        self.impl.check_feasibility(request)

    def copy(self) -> ResourcePool:
        """A copy, to try things out with."""
        return ResourcePool(self.impl.copy())

    def to_resource_set(self) -> ResourceSet:
        """The set of all resources."""
        return ResourceSet(self.impl.to_set())

    def copy_allocated(self) -> ResourceSet:
        """The set of what jobs hold."""
        return ResourceSet(self.impl.copy_allocated())

    def copy_down(self) -> ResourceSet:
        """The set of what may not be used."""
        return ResourceSet(self.impl.copy_down())

    def dumps(self) -> str:
        """The short text form: ``rank[0-1]/core[0-3],gpu0``."""
        return str(self.impl.dumps())

    def to_dict(self) -> dict[str, Any]:
        """R."""
        r: dict[str, Any] = self.impl.to_dict()
        return r

    def set_starttime(self, starttime: float) -> None:
        """Since when it is held, seconds since the epoch."""
        self.impl.set_starttime(starttime)

    def set_expiration(self, expiration: float) -> None:
        """Until when it is held, seconds since the epoch; 0: no end."""
        self.impl.set_expiration(expiration)
