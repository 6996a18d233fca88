"""Planner: which jobs start now, and on what. Pure: no clock, no messages.

    planner.add(job)                    somebody waits
    for start in planner.run(now): ...  who has got what
    planner.pool.free(jobid)            before the next run

First come, first served, by priority: who is first and does not fit holds up all others. With backfill the first has
a reservation: a time at which it can start at the latest, if jobs end when they say, and the resources for that. A
job further back may start if it ends before that time, or wants none of those resources. So the first is never
delayed by it (EASY backfill).

Rules:
- Jobs that ask for the same are in one line. If one of them does not fit, none does: a run looks at each line once.
- If nothing says when the first can start (jobs without a time limit, ranks that are down), all that it might be
  given is reserved: only jobs that could never be in its way go ahead.
- A reservation is kept until what it rests on has changed: `unsettle` says so.
"""

from __future__ import annotations

from bisect import insort
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import NamedTuple

from flux.resource._pool import Grant, Pool, bits
from fluxlet.modules.sched.line import Line, Pending, Shape

FIFO, BACKFILL = "fifo", "backfill"


class Start(NamedTuple):
    """A job that starts.

    Args:
        job: which.
        grants: what it has got.
        slots: how many slots that makes.
        expiration: until when, in seconds since the epoch; 0: no end.
        ahead_of: the id of the job that it has overtaken; 0: none.
    """

    job: Pending
    grants: list[Grant]
    slots: int
    expiration: float
    ahead_of: int


class Reservation(NamedTuple):
    """What the first job in line is sure of.

    Args:
        job: the first.
        time: when it can start at the latest; None: nobody knows.
        grants: what it will get then; or all that it might get.
    """

    job: Pending
    time: float | None
    grants: list[Grant]


class _Lines:
    """The jobs of one shape: a line for each duration."""

    __slots__ = ("by_duration", "durations")

    def __init__(self) -> None:
        self.by_duration: dict[float, Line] = {}
        self.durations: list[float] = []  # ascending

    def add(self, job: Pending) -> None:
        line = self.by_duration.get(job.duration)
        if line is None:
            line = self.by_duration[job.duration] = Line()
            insort(self.durations, job.duration)
        line.add(job)

    def remove(self, job: Pending) -> None:
        line = self.by_duration[job.duration]
        line.remove(job)
        if not line.jobs:
            del self.by_duration[job.duration]
            self.durations.remove(job.duration)


class Planner:
    """Decides.

    Args:
        pool: the resources.
        policy: FIFO or BACKFILL.
        expiration: when the instance loses its resources, in seconds since the epoch; 0: never.
    """

    def __init__(self, pool: Pool, policy: str = FIFO, expiration: float = 0.0) -> None:
        self.pool = pool
        self.policy = policy
        self.expiration = expiration
        self.line = Line()
        self.jobs: dict[int, Pending] = {}
        self.reservation: Reservation | None = None
        self._shapes: dict[Shape, _Lines] = {}  # for backfill only

    # Who waits.

    def add(self, job: Pending) -> None:
        """A job waits. Raises ValueError if it does already."""
        if job.jobid in self.jobs:
            raise ValueError(f"job {job.jobid} is in line already")
        self.jobs[job.jobid] = job
        self.line.add(job)
        if self.policy == BACKFILL:
            lines = self._shapes.get(job.shape)
            if lines is None:
                lines = self._shapes[job.shape] = _Lines()
            lines.add(job)

    def remove(self, jobid: int) -> Pending | None:
        """A job waits no more; None if it did not."""
        job = self.jobs.pop(jobid, None)
        if job is not None:
            self._leave(job)
        return job

    def _leave(self, job: Pending) -> None:
        self.line.remove(job)
        if self.policy == BACKFILL:
            lines = self._shapes[job.shape]
            lines.remove(job)
            if not lines.by_duration:
                del self._shapes[job.shape]

    def prioritize(self, jobid: int, priority: int) -> None:
        """A job gets another priority; nothing happens if it does not wait."""
        job = self.remove(jobid)
        if job is not None:
            job.key = (-priority, jobid)
            self.add(job)

    def unsettle(self) -> None:
        """What the reservation rests on has changed: a job has ended or will end at another time, ranks come or go."""
        self.reservation = None

    # Who starts.

    def _end(self, now: float, duration: float) -> float:
        """When a job ends that starts at `now`; 0: it has no end."""
        return now + duration if duration else self.expiration

    def run(self, now: float, backfill: bool = True) -> list[Start]:
        """Starts whoever can start: the pool has given them what they get.

        Args:
            now: seconds since the epoch.
            backfill: look also at those who are not first, if the policy lets us: the more jobs there are, the longer
                that takes.
        """
        starts: list[Start] = []
        pool, line = self.pool, self.line
        job = line.first()
        while job is not None:
            selected = pool.select(job.shape.need, job.shape.ranks)
            if selected is None:
                break
            self._start(job, selected, now, 0, starts)
            job = line.first()
        if job is not None and backfill and self.policy == BACKFILL and len(line) > 1 and any(pool.free_cores.values()):
            self._backfill(job, now, starts)
        return starts

    def _start(
        self, job: Pending, selected: tuple[list[Grant], int], now: float, ahead_of: int, starts: list[Start]
    ) -> None:
        grants, slots = selected
        end = self._end(now, job.duration)
        self.pool.allocate(job.jobid, grants, end)
        del self.jobs[job.jobid]
        self._leave(job)
        starts.append(Start(job, grants, slots, end, ahead_of))

    # Backfill.

    def _backfill(self, head: Pending, now: float, starts: list[Start]) -> None:
        reservation = self.reserve(head, now)
        pool = self.pool
        limit = 0.0 if reservation.time is None else reservation.time - now
        # What is left when the reservation is taken away; in step with the pool from here on.
        beside = pool.copy()
        beside.take(_free_of(beside, reservation.grants))
        tops = [
            (job.key, shape, duration)
            for shape, lines in self._shapes.items()
            if pool.select(shape.need, shape.ranks) is not None
            for duration in lines.durations
            if (job := lines.by_duration[duration].after(head.key)) is not None
        ]
        heapify(tops)
        full: set[Shape] = set()  # shapes for which there is no room any more
        only_short: set[Shape] = set()  # and those for which there is none beside the reservation
        while tops:
            key, shape, duration = heappop(tops)
            if shape in full:
                continue
            short = 0.0 < (duration or (self.expiration - now if self.expiration else 0.0)) <= limit
            if not short and shape in only_short:
                continue
            selected = (pool if short else beside).select(shape.need, shape.ranks)
            if selected is None:
                (full if short else only_short).add(shape)
                continue
            line = self._shapes[shape].by_duration[duration]
            following = line.after(key)
            self._start(line.jobs[key], selected, now, head.jobid, starts)
            beside.take(_free_of(beside, selected[0]))
            if following is not None:
                heappush(tops, (following.key, shape, duration))

    def reserve(self, head: Pending, now: float) -> Reservation:
        """The reservation of the first in line, made if there is none that still holds."""
        kept = self.reservation
        if kept is not None and kept.job is head and (kept.time is None or kept.time > now):
            return kept
        shape = head.shape
        made = None
        time = self.pool.earliest(shape.need, shape.ranks, now)
        if time is not None:
            trial = self.pool.copy()
            trial.release(time)
            selected = trial.select(shape.need, shape.ranks)
            assert selected is not None
            made = Reservation(head, time, selected[0])
        if made is None:
            everything = [Grant(rank, *self.pool.total[rank]) for rank in bits(shape.ranks & self.pool.ranks)]
            made = Reservation(head, None, everything)
        self.reservation = made
        return made

    # When the others will start.

    def forecast(self, now: float, most: int) -> list[tuple[Pending, float]]:
        """When jobs will start, if jobs end when they say and nobody comes in between.

        Args:
            now: seconds since the epoch.
            most: how many jobs to look at.

        Returns those jobs, from the first in line on, of which it can be told; with backfill, of the first only.
        """
        job = self.line.first()
        if job is None:
            return []
        if self.policy == BACKFILL:
            time = self.reserve(job, now).time
            return [] if time is None else [(job, time)]
        if next(self.pool.ends(), None) is None:
            return []
        trial = self.pool.copy()
        foretold: list[tuple[Pending, float]] = []
        when: float | None = now
        for job in islice(self.line, most):
            shape = job.shape
            assert when is not None
            when = trial.earliest(shape.need, shape.ranks, when)
            if when is None:
                break
            trial.release(when)
            selected = trial.select(shape.need, shape.ranks)
            assert selected is not None
            trial.allocate(job.jobid, selected[0], self._end(when, job.duration))
            foretold.append((job, when))
        return foretold


def _free_of(pool: Pool, grants: list[Grant]) -> list[Grant]:
    """As much of `grants` as is free."""
    cores_of, gpus_of = pool.free_cores, pool.free_gpus
    return [Grant(rank, cores & cores_of[rank], gpus & gpus_of[rank]) for rank, cores, gpus in grants]
