"""Rv1Pool: the pool of resources of version 1 of R, for schedulers (spec 07, 3.4 and 8.4).

What is free, and choosing among it, is the business of `flux.resource._pool`; the built-in schedulers use that
themselves. A subclass may put the ranks in another order (`_sort_candidates`), choose in another way
(`_select_resources`), or say what can never be (`_check_feasibility`).
"""

from __future__ import annotations

import time
from typing import Any, ClassVar, NamedTuple

from flux.core.fluid import f58
from flux.resource._pool import Grant, Need, Pool, bits
from flux.resource._request import MAX_RESOURCE_DEPTH, ResourceRequest
from flux.resource.matching import compile_constraint
from flux.resource.ResourcePoolImplementation import (
    InfeasibleRequest,
    InsufficientResources,
    ResourcePoolImplementation,
)
from flux.resource.Rv1Set import Node, Rv1Set, mask

__all__ = ["MAX_RESOURCE_DEPTH", "ResourceRequest", "Rv1Pool"]


class Candidate(NamedTuple):
    """A rank, what it has, and what of that is free: the numbers of cores and gpus."""

    rank: int
    info: Node
    free_cores: set[int]
    free_gpus: set[int]


class Rv1Pool(Rv1Set, ResourcePoolImplementation):
    """A pool of resources; at first all of it is up and free.

    Args:
        R: as JSON text or a mapping.
        log: called with a level and a text.
        kwargs: options, of those in `known_options`: `placement`, "worst", "best" or "first".

    Raises TypeError for other options; and as Rv1Set.
    """

    version = 1
    known_options: ClassVar[set[str]] = {"placement"}

    def __init__(self, R: Any, log: Any = None, **kwargs: Any) -> None:
        if unknown := kwargs.keys() - self.known_options:
            raise TypeError(f"unknown option of a {type(self).__name__}: {', '.join(sorted(unknown))}")
        super().__init__(R, keep_scheduling=True)
        self._log = log
        self._options = kwargs
        nodes = {rank: (node.cores, node.gpus) for rank, node in self.nodes.items()}
        self._pool = Pool(nodes, **{name: kwargs[name] for name in kwargs if name == "placement"})
        self._pool.up = self._pool.ranks

    def _ranks_of(self, ids: str) -> int:
        return self._pool.ranks if ids == "all" else mask(ids)

    def mark_up(self, ids: str) -> None:
        """As of ResourcePoolImplementation."""
        self.generation += 1
        self._pool.up |= self._ranks_of(ids) & self._pool.ranks

    def mark_down(self, ids: str) -> None:
        """As of ResourcePoolImplementation."""
        self.generation += 1
        self._pool.up &= ~self._ranks_of(ids)

    def remove_ranks(self, ranks: Any) -> None:
        """As of ResourceSetImplementation; jobs have nothing there any more."""
        before = set(self.nodes)
        super().remove_ranks(ranks)
        self._pool.remove_ranks(sum(1 << rank for rank in before - self.nodes.keys()))
        self.generation += 1

    # Jobs.

    def _grants(self, R: Any) -> dict[int, Grant]:
        """What is in R: a set or pool of any kind, a mapping, or text."""
        source = getattr(R, "impl", R)
        held = source if isinstance(source, Rv1Set) else Rv1Set(source)
        return {rank: Grant(rank, node.cores, node.gpus) for rank, node in held.nodes.items()}

    def register_alloc(self, jobid: int, R: Any) -> None:
        """As of ResourcePoolImplementation."""
        grants = self._grants(R)
        missing = sorted(rank for rank in grants if rank not in self.nodes)
        if missing:
            raise ValueError(f"allocation contains ranks not in resource pool: {missing}")
        source = getattr(R, "impl", R)
        held = source if isinstance(source, Rv1Set) else Rv1Set(source)
        self._pool.allocate(jobid, grants.values(), held.get_expiration())
        self.generation += 1

    def free(self, jobid: int, R: Any = None, final: bool = False) -> None:
        """As of ResourcePoolImplementation; a job that holds nothing has nothing to give back."""
        job = self._pool.jobs.get(jobid)
        if job is None:
            return
        ranks = -1
        if R is not None:
            grants = self._grants(R)
            strange = {rank for rank in grants if rank in self.nodes} - job.grants.keys()
            if strange:
                raise ValueError(f"free: {f58(jobid)}: R contains ranks not in job allocation: {strange}")
            if final and grants.keys() & self.nodes.keys() != job.grants.keys():
                got, expected = (self._made(list(what.values())).dumps() for what in (grants, job.grants))
                raise ValueError(f"free: {f58(jobid)}: final R mismatch: got {got}, expected {expected}")
            if not final:
                ranks = sum(1 << rank for rank in grants)
        self._pool.free(jobid, ranks)
        self.generation += 1

    def update_expiration(self, jobid: int, expiration: float) -> None:
        """As of ResourcePoolImplementation."""
        if jobid in self._pool.jobs:
            self._pool.set_expiration(jobid, float(expiration))
            self.generation += 1

    def job_end_times(self) -> list[tuple[int, float]]:
        """As of ResourcePoolImplementation; the first to end comes first."""
        ends = [(jobid, job.expiration) for jobid, job in self._pool.jobs.items() if job.expiration]
        return sorted(ends, key=lambda end: end[1])

    # Requests.

    def parse_resource_request(self, jobspec: Any) -> ResourceRequest:
        """As of ResourcePoolImplementation."""
        request = ResourceRequest.from_jobspec(jobspec)
        Need.of(request)
        return request

    def _eligible(self, request: ResourceRequest) -> int:
        if not request.constraint:
            return self._pool.ranks
        matches = compile_constraint(request.constraint)
        return sum(1 << rank for rank, node in self.nodes.items() if matches(self, rank, node))

    def check_feasibility(self, request: ResourceRequest) -> None:
        """As of ResourcePoolImplementation."""
        self._check_feasibility(request)

    def _check_feasibility(self, request: ResourceRequest) -> None:
        """Raises InfeasibleRequest. For subclasses to add to."""
        text = self._pool.infeasible(Need.of(request), self._eligible(request))
        if text is not None:
            raise InfeasibleRequest(text)

    def _sort_candidates(self, candidates: list[int], request: ResourceRequest) -> list[int] | None:
        """The order in which ranks are tried; None: that of the placement. For subclasses to change."""
        return None

    @property
    def _ranks(self) -> list[int]:
        """All ranks, for subclasses."""
        return list(self.nodes)

    def _candidates(self, ranks: list[int]) -> list[Candidate]:
        """As subclasses that select for themselves get them: those with most free cores first."""
        free_cores, free_gpus = self._pool.free_cores, self._pool.free_gpus
        ranks = sorted(ranks, key=lambda rank: -free_cores[rank].bit_count())
        return [
            Candidate(rank, self.nodes[rank], set(bits(free_cores[rank])), set(bits(free_gpus[rank]))) for rank in ranks
        ]

    def _select_resources(self, candidates: list[Candidate], request: ResourceRequest) -> tuple[list[Grant], int]:
        """What to take, and the slots that makes. Raises InsufficientResources. For subclasses to change.

        Args:
            candidates: ranks that are up and that the request's constraint lets in. A subclass may pass on some.
            request: what is wanted.
        """
        return self._select([candidate[0] for candidate in candidates], request)

    def _select(self, ranks: list[int], request: ResourceRequest) -> tuple[list[Grant], int]:
        order = self._sort_candidates(ranks, request)
        selected = self._pool.select(Need.of(request), sum(1 << rank for rank in ranks), order)
        if selected is None:
            raise InsufficientResources("insufficient resources")
        return selected

    def alloc(self, jobid: int, request: ResourceRequest) -> Rv1Pool:
        """As of ResourcePoolImplementation."""
        ranks = list(bits(self._eligible(request) & self._pool.up))
        try:
            if type(self)._select_resources is Rv1Pool._select_resources:  # nobody looks at the candidates
                grants, slots = self._select(ranks, request)
            else:
                grants, slots = self._select_resources(self._candidates(ranks), request)
        except InsufficientResources:
            self._check_feasibility(request)
            raise
        now = time.time()
        end = now + request.duration if request.duration else self.get_expiration()
        self._pool.allocate(jobid, grants, end)
        self.generation += 1
        made = self._made(grants)
        made.nslots = slots
        made.set_starttime(now)
        made.set_expiration(end)
        return made

    def _made(self, grants: list[Grant]) -> Rv1Pool:
        """A pool of some resources; properties that are local to the instance are not in it."""
        new: Rv1Pool = type(self)(None, log=self._log, **self._options)
        for rank, cores, gpus in grants:
            known = self.nodes.get(rank)
            new.nodes[rank] = Node(cores, gpus, None if known is None else known.host)
        new.name_ranks()
        new.properties = {
            name: ranks & new.nodes.keys() for name, ranks in self.properties.items() if not name.startswith("+")
        }
        new.scheduling = self.scheduling
        return new

    # Sets.

    def copy(self) -> Rv1Pool:
        """As of ResourcePoolImplementation."""
        new: Rv1Pool = type(self)(self.to_dict(), log=self._log, **self._options)
        new._pool = self._pool.copy()
        new.generation = self.generation
        return new

    def _set(self, nodes: dict[int, tuple[int, int]]) -> Rv1Set:
        new = Rv1Set()
        new.nodes = {rank: Node(cores, gpus, self.nodes[rank].host) for rank, (cores, gpus) in nodes.items()}
        new.properties = {name: ranks & new.nodes.keys() for name, ranks in self.properties.items()}
        return new

    def copy_allocated(self) -> Rv1Set:
        """As of ResourcePoolImplementation."""
        held: dict[int, tuple[int, int]] = {}
        for job in self._pool.jobs.values():
            for rank, cores, gpus in job.grants.values():
                more = held.get(rank, (0, 0))
                held[rank] = (more[0] | cores, more[1] | gpus)
        return self._set(held)

    def copy_down(self) -> Rv1Set:
        """As of ResourcePoolImplementation."""
        up = self._pool.up
        return self._set({rank: total for rank, total in self._pool.total.items() if not up >> rank & 1})

    def to_set(self) -> Rv1Set:
        """As of ResourcePoolImplementation."""
        return Rv1Set(self.to_dict())


#: What `pool-class=flux.resource.Rv1Pool` means.
pool_class = Rv1Pool
