"""Pool: which resources are free, and choosing among them: the core of all schedulers. Pure.

    pool = Pool({0: (0b1111, 0), 1: (0b1111, 0)})       # cores and gpus of each rank, as bits
    pool.up |= 0b11
    grants, nslots = pool.select(need, pool.ranks)      # None: not now
    pool.allocate(jobid, grants)
    pool.free(jobid)

Rules:
- Sets of ranks, cores and gpus are integers, a bit for each.
- Ranks with as many free cores and gpus are in one bucket. To choose is to walk through buckets; a request for which
  there is no room costs a few operations for each bucket, however many ranks there are.
- What a job holds is written down, and is what `free` gives back: neither more nor less, and never twice.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from flux.resource._request import ResourceRequest

#: Orders in which ranks are tried: most room first, least room first, lowest rank first.
WORST, BEST, FIRST = "worst", "best", "first"


class Grant(NamedTuple):
    """What a job gets of one rank."""

    rank: int
    cores: int
    gpus: int


class Need(NamedTuple):
    """A request, with all that can be worked out before it is tried.

    Args:
        nodes: the least number of nodes; 0: slots wherever there is room.
        most_nodes: how many are wanted; None: all.
        slots: the least number of slots; of those of a node, if nodes are asked for.
        most_slots: how many are wanted; None: all.
        cores, gpus: of a slot.
        exclusive: whole nodes.
        total_slots: a job's slots, if these are not those of its nodes (a slot of several nodes); 0: they are.
    """

    nodes: int
    most_nodes: int | None
    slots: int
    most_slots: int | None
    cores: int
    gpus: int
    exclusive: bool
    total_slots: int = 0

    @classmethod
    def of(cls, request: ResourceRequest) -> Need:
        """What a request comes to. Raises ValueError for what this pool does not do."""
        if request.node_count is not None:
            _check_simple("node", request.node_count.values)
        _check_simple("slot", request.slot_count.values)
        slots, most_slots = request.nslots, request.nslots_max
        cores, gpus = request.slot_size, request.gpu_per_slot
        if request.node_count is None:
            if request.exclusive:
                return cls(slots, most_slots, 1, 1, cores, gpus, True)
            return cls(0, 0, slots, most_slots, cores, gpus, False)
        nodes, most_nodes = request.nnodes, request.nnodes_max
        if slots < nodes:
            return cls(nodes, most_nodes, 1, 1, cores, gpus, request.exclusive, slots)
        each = slots // nodes
        most = None if most_slots is None else max(each, most_slots // (most_nodes or nodes))
        if most_nodes is None and most_slots is None:
            most = each  # as many nodes as there are, not as many slots
        return cls(nodes, most_nodes, each, most, cores, gpus, request.exclusive)


def _check_simple(what: str, values: object) -> None:
    if values is not None:
        raise ValueError(
            f"{what} count specifies discrete valid values that this scheduler does not support; "
            "use a simple min-max range instead"
        )


def bits(mask: int) -> Iterator[int]:
    """The numbers of the bits that are set, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def lowest(mask: int, count: int) -> int:
    """The `count` lowest bits of those that are set in `mask`, which has as many."""
    shift = (mask & -mask).bit_length() - 1
    run = ((1 << count) - 1) << shift
    if mask & run == run:
        return run
    found = 0
    for _ in range(count):
        low = mask & -mask
        found |= low
        mask ^= low
    return found


class Job:
    """What a job holds: grants by rank, and until when (0: no end). Not changed once it is made."""

    __slots__ = ("expiration", "grants")

    def __init__(self, grants: dict[int, Grant], expiration: float) -> None:
        self.grants = grants
        self.expiration = expiration


class Pool:
    """The resources of an instance, and who holds them.

    Args:
        nodes: by rank its cores and gpus, as bits.
        placement: WORST, BEST or FIRST.

    Attributes:
        ranks: all of them.
        up: those that may be used: the caller's to set.
    """

    def __init__(self, nodes: Mapping[int, tuple[int, int]], placement: str = WORST) -> None:
        self.placement = placement
        self.total = dict(nodes)
        self.free_cores = {rank: cores for rank, (cores, gpus) in nodes.items()}
        self.free_gpus = {rank: gpus for rank, (cores, gpus) in nodes.items()}
        self.ranks = 0
        self.up = 0
        self.jobs: dict[int, Job] = {}
        self._ends: list[tuple[float, int]] = []  # of jobs, ascending; what is not so any more is skipped
        self._buckets: dict[tuple[int, int], int] = {}  # (free cores, free gpus) -> ranks
        self._capacity: dict[tuple[int, int], int] = {}  # (cores, gpus) -> ranks
        self._orders: dict[bool, list[tuple[int, int]]] = {}
        self.idle = 0  # ranks of which nothing is in use
        for rank, (cores, gpus) in nodes.items():
            bit, key = 1 << rank, (cores.bit_count(), gpus.bit_count())
            self.ranks |= bit
            self._capacity[key] = self._capacity.get(key, 0) | bit
        self.idle = self.ranks
        self._buckets = dict(self._capacity)

    def copy(self) -> Pool:
        """A copy to try things out with."""
        new = Pool.__new__(Pool)
        new.placement = self.placement
        new.total = self.total
        new.free_cores, new.free_gpus = dict(self.free_cores), dict(self.free_gpus)
        new.ranks, new.up, new.idle = self.ranks, self.up, self.idle
        # Each job's grants are replaced, or its entry is: never changed where a copy would see it.
        new.jobs = dict(self.jobs)
        new._ends = self._ends.copy()
        new._buckets, new._capacity, new._orders = dict(self._buckets), self._capacity, {}
        return new

    # Taking and giving back, a rank at a time.

    def _set_free(self, rank: int, cores: int, gpus: int) -> None:
        old = (self.free_cores[rank].bit_count(), self.free_gpus[rank].bit_count())
        new = (cores.bit_count(), gpus.bit_count())
        self.free_cores[rank] = cores
        self.free_gpus[rank] = gpus
        bit = 1 << rank
        if old != new:
            buckets = self._buckets
            left = buckets[old] & ~bit
            if left:
                buckets[old] = left
            else:
                del buckets[old]
                self._orders.clear()
            if new in buckets:
                buckets[new] |= bit
            else:
                buckets[new] = bit
                self._orders.clear()
        if (cores, gpus) == self.total[rank]:
            self.idle |= bit
        else:
            self.idle &= ~bit

    def take(self, grants: Iterable[Grant]) -> None:
        """Makes resources not free. Raises ValueError, and takes nothing, if one is not free or not there."""
        grants = tuple(grants)
        free_cores, free_gpus = self.free_cores, self.free_gpus
        for rank, cores, gpus in grants:
            if rank not in free_cores or cores & ~free_cores[rank] or gpus & ~free_gpus[rank]:
                raise ValueError(f"resources of rank {rank} are not free")
        for rank, cores, gpus in grants:
            self._set_free(rank, free_cores[rank] & ~cores, free_gpus[rank] & ~gpus)

    def give_back(self, grants: Iterable[Grant]) -> None:
        """Makes resources free that `take` has taken; those of ranks that are gone stay gone."""
        free_cores, free_gpus = self.free_cores, self.free_gpus
        for rank, cores, gpus in grants:
            if rank in free_cores:
                self._set_free(rank, free_cores[rank] | cores, free_gpus[rank] | gpus)

    # Jobs.

    def allocate(self, jobid: int, grants: Iterable[Grant], expiration: float = 0.0) -> None:
        """Gives resources to a job. Raises ValueError, and changes nothing, if they are not free, or it has some."""
        if jobid in self.jobs:
            raise ValueError(f"job {jobid} has resources already")
        held = tuple(grants)
        self.take(held)
        self.jobs[jobid] = Job({grant.rank: grant for grant in held}, expiration)
        self._note_end(jobid, expiration)

    def free(self, jobid: int, ranks: int = -1) -> None:
        """Takes back what a job has on some ranks, -1 for all. Raises KeyError for a job that has nothing."""
        job = self.jobs[jobid]
        if ranks == -1:
            del self.jobs[jobid]
            self.give_back(job.grants.values())
            return
        self.give_back(grant for rank, grant in job.grants.items() if ranks >> rank & 1)
        left = {rank: grant for rank, grant in job.grants.items() if not ranks >> rank & 1}
        if left:
            self.jobs[jobid] = Job(left, job.expiration)
        else:
            del self.jobs[jobid]

    def remove_ranks(self, ranks: int) -> None:
        """Ranks are gone for good; jobs have nothing there any more."""
        ranks &= self.ranks
        for rank in bits(ranks):
            bit = 1 << rank
            for table, key in (
                (self._buckets, (self.free_cores[rank].bit_count(), self.free_gpus[rank].bit_count())),
                (self._capacity, (self.total[rank][0].bit_count(), self.total[rank][1].bit_count())),
            ):
                table[key] &= ~bit
                if not table[key]:
                    del table[key]
            del self.free_cores[rank], self.free_gpus[rank], self.total[rank]
        self._orders.clear()
        self.ranks &= ~ranks
        self.up &= ~ranks
        self.idle &= ~ranks
        for jobid, job in tuple(self.jobs.items()):
            if any(ranks >> rank & 1 for rank in job.grants):
                left = {rank: grant for rank, grant in job.grants.items() if not ranks >> rank & 1}
                self.jobs[jobid] = Job(left, job.expiration)

    # When jobs end.

    def _note_end(self, jobid: int, expiration: float) -> None:
        if not expiration:
            return
        ends = self._ends
        if len(ends) > 64 and len(ends) > 4 * len(self.jobs):
            jobs = self.jobs
            ends[:] = [end for end in ends if end[1] in jobs and jobs[end[1]].expiration == end[0]]
        end = (expiration, jobid)
        if not ends or ends[-1] <= end:
            ends.append(end)
        else:
            insort(ends, end)

    def set_expiration(self, jobid: int, expiration: float) -> None:
        """A job will end at another time, seconds since the epoch; 0: it has no end. Raises KeyError."""
        self.jobs[jobid] = Job(self.jobs[jobid].grants, expiration)
        self._note_end(jobid, expiration)

    def ends(self) -> Iterator[tuple[float, int, Job]]:
        """When jobs end, with the jobs, the first to end first; those without an end are left out."""
        jobs = self.jobs
        last: tuple[float, int] | None = None
        for end in self._ends:
            job = jobs.get(end[1])
            # One that ends when it did before, after all, is there twice.
            if job is not None and job.expiration == end[0] and end != last:
                last = end
                yield end[0], end[1], job

    def release(self, until: float) -> None:
        """What jobs have that end by then is given back."""
        back: dict[int, tuple[int, int]] = {}
        over = []
        for expiration, jobid, job in self.ends():
            if expiration > until:
                break
            over.append(jobid)
            for rank, cores, gpus in job.grants.values():
                more = back.get(rank)
                back[rank] = (cores, gpus) if more is None else (more[0] | cores, more[1] | gpus)
        for jobid in over:
            del self.jobs[jobid]
        self.give_back(Grant(rank, cores, gpus) for rank, (cores, gpus) in back.items())

    def earliest(self, need: Need, ranks: int, now: float) -> float | None:
        """When there will be room for a request, if jobs end when they say and nobody else comes; None: never.

        Args:
            need: what is wanted.
            ranks: where.
            now: seconds since the epoch; jobs that should have ended by then are about to.
        """
        ranks &= self.up
        target = need.nodes or need.slots
        room = self._room(need)
        usable = ranks & self.idle if need.exclusive else ranks
        found = sum((here & usable).bit_count() * room(*key) for key, here in self._buckets.items())
        if found >= target:
            return now
        here_only = set(bits(ranks))
        free: dict[int, tuple[int, int]] = {}
        full = {rank: (cores.bit_count(), gpus.bit_count()) for rank, (cores, gpus) in self.total.items()}
        for expiration, _, job in self.ends():
            for rank, cores, gpus in job.grants.values():
                if rank not in here_only:
                    continue
                before = free.get(rank)
                if before is None:
                    before = (self.free_cores[rank].bit_count(), self.free_gpus[rank].bit_count())
                after = (before[0] + cores.bit_count(), before[1] + gpus.bit_count())
                free[rank] = after
                if not need.exclusive:
                    found += room(*after) - room(*before)
                elif after == full[rank]:
                    found += room(*after)
            if found >= target:
                return max(expiration, now)
        return None

    @staticmethod
    def _room(need: Need) -> Callable[[int, int], int]:
        """How much of a request a rank has room for, by its free cores and gpus: nodes, or slots."""
        if need.nodes:
            cores, gpus = need.slots * need.cores, need.slots * need.gpus
            return lambda c, g: int(c >= cores and g >= gpus)
        cores, gpus = need.cores, need.gpus
        if gpus:
            return lambda c, g: min(c // cores, g // gpus)
        return lambda c, g: c // cores

    # Choosing.

    def _order(self, gpus: bool) -> list[tuple[int, int]]:
        """The buckets in the order of the placement, for requests with gpus, or without."""
        order = self._orders.get(gpus)
        if order is None:
            if self.placement == WORST:
                # Among equals, gpus are left to those who want them.
                sign = -1 if gpus else 1
                order = sorted(self._buckets, key=lambda key: (-key[0], sign * key[1]))
            else:
                order = sorted(self._buckets)
            self._orders[gpus] = order
        return order

    def select(self, need: Need, ranks: int, order: Sequence[int] | None = None) -> tuple[list[Grant], int] | None:
        """Chooses free resources, and does not take them.

        Args:
            need: what is wanted.
            ranks: where; only those that are up are considered.
            order: in which ranks are tried, all of `ranks`; None: that of the placement.

        Returns what to take, and the number of slots it makes; None if there is not room enough.
        """
        ranks &= self.up
        if need.nodes:
            return self._select_nodes(need, ranks, order)
        return self._select_slots(need, ranks, order)

    def _select_slots(self, need: Need, ranks: int, order: Sequence[int] | None) -> tuple[list[Grant], int] | None:
        size, gpus, left = need.cores, need.gpus, need.slots
        buckets = self._buckets
        found: list[tuple[int, int]] = []  # (ranks of a bucket, slots on each)
        total = 0
        for key in self._order(gpus > 0):
            each = key[0] // size
            if gpus:
                each = min(each, key[1] // gpus)
            if each and (here := buckets[key] & ranks):
                if left == 1 and need.most_slots == 1 and self.placement != FIRST and order is None:
                    return [self._grant(here & -here, size, gpus)], 1  # as most requests are
                found.append((here, each))
                total += here.bit_count() * each
        if total < left:
            return None
        wanted = total if need.most_slots is None else min(total, need.most_slots)
        if self.placement == FIRST or order is not None:
            room = {rank: each for here, each in found for rank in bits(here)}
            chosen = ((rank, room[rank]) for rank in (sorted(room) if order is None else order) if rank in room)
        else:
            chosen = ((rank, each) for here, each in found for rank in bits(here))
        grants = []
        missing = wanted
        while missing:
            rank, each = next(chosen)
            count = min(each, missing)
            grants.append(self._grant(1 << rank, count * size, count * gpus))
            missing -= count
        return grants, wanted

    def _grant(self, bit: int, cores: int, gpus: int) -> Grant:
        rank = bit.bit_length() - 1
        return Grant(rank, lowest(self.free_cores[rank], cores), lowest(self.free_gpus[rank], gpus) if gpus else 0)

    def _select_nodes(self, need: Need, ranks: int, order: Sequence[int] | None) -> tuple[list[Grant], int] | None:
        cores, gpus = need.slots * need.cores, need.slots * need.gpus
        if need.exclusive:
            ranks &= self.idle
        buckets = self._buckets
        found = []
        total = 0
        for key in self._order(gpus > 0):
            if key[0] >= cores and key[1] >= gpus and (here := buckets[key] & ranks):
                found.append(here)
                total += here.bit_count()
        if total < need.nodes:
            return None
        wanted = total if need.most_nodes is None else min(total, need.most_nodes)
        if order is not None:
            room = sum(found)  # they are disjoint
            chosen = [rank for rank in order if room >> rank & 1][:wanted]
        elif self.placement == FIRST:
            chosen = list(islice(bits(sum(found)), wanted))
        else:
            chosen = list(islice((rank for here in found for rank in bits(here)), wanted))
        if need.exclusive:
            grants = [Grant(rank, *self.total[rank]) for rank in chosen]
            return grants, need.total_slots or wanted * self._slots_each(need, chosen)
        each = self._slots_each(need, chosen)
        grants = [self._grant(1 << rank, each * need.cores, each * need.gpus) for rank in chosen]
        return grants, need.total_slots or wanted * each

    def _slots_each(self, need: Need, chosen: list[int]) -> int:
        """How many slots each of the chosen nodes is to have: as many as are wanted and fit on all."""
        if need.most_slots == need.slots:
            return need.slots
        room = min(
            min(
                self.free_cores[rank].bit_count() // need.cores,
                self.free_gpus[rank].bit_count() // need.gpus if need.gpus else 1 << 62,
            )
            for rank in chosen
        )
        return room if need.most_slots is None else min(room, need.most_slots)

    # What can never be.

    def infeasible(self, need: Need, ranks: int) -> str | None:
        """Why a request could not even be served if everything was up and free; None if it could.

        Args:
            need: what is wanted.
            ranks: those that the request's constraint lets in.
        """
        eligible = [(key, (here & ranks).bit_count()) for key, here in self._capacity.items()]
        if need.nodes:
            cores, gpus = need.slots * need.cores, need.slots * need.gpus
            count = sum(n for key, n in eligible if key[0] >= cores and key[1] >= gpus)
            if count >= need.nodes:
                return None
            if need.exclusive:
                return f"unsatisfiable request: need {need.nodes} exclusive node(s), only {count} eligible"
            each = f"{cores} cores" + (f" and {gpus} GPUs" if gpus else "")
            return f"unsatisfiable request: need {need.nodes} node(s) with {each} each, only {count} eligible"
        slots = sum(key[0] // need.cores * n for key, n in eligible)
        if slots < need.slots:
            total = sum(key[0] * n for key, n in eligible)
            return (
                f"unsatisfiable request: need {need.slots} slot(s) of {need.cores} core(s), "
                f"only {slots} such slot(s) available (total cores: {total})"
            )
        if need.gpus:
            slots = sum(min(key[0] // need.cores, key[1] // need.gpus) * n for key, n in eligible)
            if slots < need.slots:
                total = sum(key[1] * n for key, n in eligible)
                return (
                    f"unsatisfiable request: need {need.slots} slot(s) with {need.gpus} GPU(s) each, "
                    f"only {slots} available (total GPUs: {total})"
                )
        return None
