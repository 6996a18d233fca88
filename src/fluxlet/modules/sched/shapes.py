"""Shapes: from jobspecs to what they ask for; each distinct request is worked out once."""

from __future__ import annotations

from typing import Any

import msgspec

from flux.resource._pool import Need, Pool
from flux.resource._request import ResourceRequest
from flux.resource.matching import compile_constraint
from flux.resource.Rv1Set import Rv1Set
from fluxlet.modules.sched.line import Shape
from fluxlet.modules.sched.requests import JobspecPart
from fluxlet.payload import UNREADABLE

#: How many requests are remembered. Users that never ask for the same twice must not fill the memory.
_MOST = 4096

_part = msgspec.json.Decoder(JobspecPart).decode
_any = msgspec.json.Decoder().decode


def _decoded(jobspec: bytes) -> Any:
    try:
        return _any(jobspec)
    except UNREADABLE as exc:
        raise Refused(f"not JSON: {exc}") from None


class Refused(ValueError):
    """A request that can never be served. `infeasible`: it is not bad, only too much."""

    def __init__(self, text: str, infeasible: bool = False) -> None:
        super().__init__(text)
        self.infeasible = infeasible


class Shapes:
    """The shapes of one inventory.

    Args:
        resources: all there are.
        pool: the same.
    """

    def __init__(self, resources: Rv1Set, pool: Pool) -> None:
        self._resources = resources
        self._pool = pool
        self._known: dict[tuple[bytes, bytes], Shape] = {}

    def of(self, jobspec: bytes) -> tuple[Shape, float]:
        """What a jobspec, JSON, asks for, and for how many seconds (0: it does not say). Raises Refused."""
        try:
            part = _part(jobspec)
        except UNREADABLE:
            return self.of_object(_decoded(jobspec))  # which says in a sentence what is wrong
        system = part.attributes.system
        duration = system.duration
        if not (type(duration) is float or type(duration) is int) or not 0 <= duration < float("inf"):
            return self.of_object(_decoded(jobspec))
        key = (bytes(part.resources), bytes(system.constraints))
        shape = self._known.get(key)
        if shape is None:
            shape, duration = self.of_object(_decoded(jobspec))
            if len(self._known) >= _MOST:
                self._known.clear()
            self._known[key] = shape
        return shape, float(duration)

    def of_object(self, jobspec: Any) -> tuple[Shape, float]:
        """As `of`, of a decoded jobspec."""
        try:
            request = ResourceRequest.from_jobspec(jobspec)
            need = Need.of(request)
            shape = Shape(need, self._ranks(request.constraint))
        except ValueError as exc:
            raise Refused(str(exc)) from None
        except RecursionError:
            raise Refused("the jobspec is nested too deeply") from None
        text = self._pool.infeasible(*shape)
        if text is not None:
            raise Refused(text, infeasible=True)
        return shape, request.duration

    def _ranks(self, constraint: Any) -> int:
        resources = self._resources
        if constraint is None or constraint == {}:
            return self._pool.ranks
        matches = compile_constraint(constraint)
        return sum(1 << rank for rank, node in resources.nodes.items() if matches(resources, rank, node))
