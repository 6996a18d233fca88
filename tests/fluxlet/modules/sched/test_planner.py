"""Which jobs start, and that backfill never delays the first in line (spec 07, 3.4)."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from flux.resource._pool import BEST, FIRST, WORST, Need, Pool
from fluxlet.modules.sched.line import Line, Pending, Shape
from fluxlet.modules.sched.planner import BACKFILL, FIFO, Planner

EVERYWHERE = -1


def pool_of(*cores: int, placement: str = WORST) -> Pool:
    pool = Pool({rank: ((1 << count) - 1, 0) for rank, count in enumerate(cores)}, placement)
    pool.up = pool.ranks
    return pool


def job(jobid: int, cores: int, duration: float = 0.0, priority: int = 16, ranks: int = EVERYWHERE) -> Pending:
    return Pending(jobid, priority, Shape(Need(0, 0, cores, cores, 1, 0, False), ranks), duration)


def nodes(jobid: int, count: int, duration: float = 0.0, ranks: int = EVERYWHERE) -> Pending:
    return Pending(jobid, 16, Shape(Need(count, count, 1, 1, 1, 0, True), ranks), duration)


def started(planner: Planner, now: float = 0.0) -> list[int]:
    return [start.job.jobid for start in planner.run(now)]


def planner_of(pool: Pool, policy: str, *jobs: Pending, expiration: float = 0.0) -> Planner:
    planner = Planner(pool, policy, expiration)
    for pending in jobs:
        planner.add(pending)
    return planner


def test_higher_priority_first_then_the_lower_id() -> None:
    planner = planner_of(pool_of(3), FIFO, job(3, 1), job(2, 1), job(9, 1, priority=20), job(1, 1))
    assert started(planner) == [9, 1, 2]
    assert list(planner.jobs) == [3]


def test_who_does_not_fit_holds_up_the_others() -> None:
    planner = planner_of(pool_of(4), FIFO, job(1, 2), job(2, 4), job(3, 1))
    assert started(planner) == [1]
    planner.pool.free(1)
    assert started(planner) == [2]
    planner.pool.free(2)
    assert started(planner) == [3]


def test_a_job_may_leave_or_get_another_priority() -> None:
    planner = planner_of(pool_of(1), FIFO, job(1, 1), job(2, 1), job(3, 1))
    assert planner.remove(1) is not None
    assert planner.remove(1) is None
    planner.prioritize(3, 31)
    planner.prioritize(77, 31)
    assert started(planner) == [3]


def test_jobs_end_after_their_duration_or_with_the_instance() -> None:
    planner = planner_of(pool_of(2), FIFO, job(1, 1, 60.0), job(2, 1), expiration=1000.0)
    assert [start.expiration for start in planner.run(100.0)] == [160.0, 1000.0]


def test_a_short_job_goes_ahead_and_a_long_one_does_not() -> None:
    planner = planner_of(
        pool_of(2, 2), BACKFILL, nodes(1, 1, 100.0), nodes(2, 2, 100.0), job(3, 1, 101.0), job(4, 1, 100.0), job(5, 1)
    )
    starts = planner.run(0.0)
    assert [(start.job.jobid, start.ahead_of) for start in starts] == [(1, 0), (4, 2)]
    assert planner.reservation is not None
    assert planner.reservation.time == 100.0
    # Time has passed, and so has its chance.
    planner.add(job(6, 1, 60.0))
    assert started(planner, 50.0) == []
    planner.add(job(7, 1, 50.0))
    assert started(planner, 50.0) == [7]


def test_a_long_job_goes_ahead_beside_the_reservation() -> None:
    planner = planner_of(
        pool_of(4, 2, 1, placement=FIRST),
        BACKFILL,
        job(1, 4, 10.0),
        nodes(2, 2, 5.0, ranks=0b011),
        job(3, 1),
        job(4, 1),
    )
    assert started(planner) == [1, 3]
    assert next(iter(planner.pool.jobs[3].grants)) == 2


def test_where_nobody_knows_only_those_go_ahead_who_are_never_in_the_way() -> None:
    # Job 1 has no end, so 2 may have to wait for ever, but it waits for ranks 0 and 1 only.
    planner = planner_of(
        pool_of(2, 2, 2),
        BACKFILL,
        job(1, 1, ranks=0b001),
        nodes(2, 2, 10.0, ranks=0b011),
        job(3, 1, 1.0, ranks=0b010),
        job(4, 1, ranks=0b110),
    )
    assert started(planner) == [1, 4]
    assert next(iter(planner.pool.jobs[4].grants)) == 2
    assert planner.forecast(0.0, 8) == []


def test_a_reservation_is_made_anew_when_jobs_end_early() -> None:
    planner = planner_of(pool_of(1, 1), BACKFILL, job(1, 1, 100.0), job(2, 1, 50.0), nodes(3, 2, 1.0))
    assert started(planner) == [1, 2]
    assert planner.forecast(0.0, 1) == [(planner.jobs[3], 100.0)]
    planner.pool.free(1)
    planner.unsettle()
    planner.add(job(4, 1, 60.0))
    assert started(planner, 10.0) == []
    assert planner.forecast(10.0, 1) == [(planner.jobs[3], 50.0)]


def test_forecasts_are_a_simulation_in_order() -> None:
    planner = planner_of(pool_of(2), FIFO, job(1, 1, 100.0), job(2, 2, 30.0), job(3, 1, 5.0), job(4, 2))
    assert started(planner) == [1]
    foretold = [(pending.jobid, time) for pending, time in planner.forecast(1.0, 8)]
    assert foretold == [(2, 100.0), (3, 130.0), (4, 135.0)]
    assert [pending.jobid for pending, _ in planner.forecast(1.0, 2)] == [2, 3]
    planner.add(job(5, 1))
    assert [pending.jobid for pending, _ in planner.forecast(1.0, 8)] == [2, 3, 4]  # 4 has no end


def test_a_line_keeps_its_order_through_everything() -> None:
    line = Line()
    jobs = [job(number, 1) for number in range(300)]
    for pending in jobs:
        line.add(pending)
    for pending in jobs[:200]:
        line.remove(pending)
    late = job(7, 1, priority=31)
    line.add(late)
    assert line.first() is late
    assert [pending.jobid for pending in line] == [7, *range(200, 300)]
    assert line.after(late.key) is jobs[200]
    assert line.after(jobs[299].key) is None
    line.remove(jobs[250])
    assert line.after(jobs[249].key) is jobs[251]


# Whatever comes, in whatever order.

JOBS = st.tuples(
    st.integers(1, 6),  # cores
    st.sampled_from([0.0, 1.0, 2.0, 5.0, 10.0]),  # duration
    st.sampled_from([16, 16, 16, 20]),  # priority
    st.sampled_from([EVERYWHERE, EVERYWHERE, 0b01, 0b110]),  # ranks
    st.booleans(),  # a whole node instead of cores
)


class Simulation:
    """A planner, and the clock."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.now = 0.0
        self.begun: dict[int, float] = {}

    def step(self) -> None:
        for start in self.planner.run(self.now):
            self.begun[start.job.jobid] = self.now

    def end(self, jobid: int) -> None:
        self.planner.pool.free(jobid)
        self.planner.unsettle()

    def advance(self) -> bool:
        """To the next time at which a job ends, as all do at their end; False if none does."""
        ends = [held.expiration for held in self.planner.pool.jobs.values() if held.expiration]
        if not ends:
            return False
        self.now = min(ends)
        for jobid in [jobid for jobid, held in self.planner.pool.jobs.items() if held.expiration == self.now]:
            self.end(jobid)
        return True


def submit(planner: Planner, jobid: int, described: Any) -> None:
    cores, duration, priority, ranks, whole = described
    shape = Shape(Need(1, 1, 1, 1, 1, 0, True) if whole else Need(0, 0, cores, cores, 1, 0, False), ranks)
    if planner.pool.infeasible(*shape) is None:
        planner.add(Pending(jobid, priority, shape, duration))


@settings(max_examples=80, deadline=None)
@given(
    cores=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    jobs=st.lists(JOBS, max_size=20),
    placement=st.sampled_from([WORST, BEST, FIRST]),
    data=st.data(),
)
def test_the_first_in_line_is_never_delayed_by_backfill(
    cores: list[int], jobs: list[Any], placement: str, data: st.DataObject
) -> None:
    """Its reserved time never moves back, and it has started by then; nobody comes who is more important."""
    jobs = [(wanted, duration, 16, ranks, whole) for wanted, duration, _, ranks, whole in jobs]
    planner = Planner(pool_of(*cores, placement=placement), BACKFILL)
    simulation = Simulation(planner)
    promised: tuple[int, float] | None = None
    waiting = list(enumerate(jobs, 1))
    while True:
        for _ in range(data.draw(st.integers(0, 4))):
            if waiting:
                submit(planner, *waiting.pop(0))
        simulation.step()
        head = planner.line.first()
        if head is not None:
            time = planner.reserve(head, simulation.now).time
            if promised is not None and promised[0] == head.jobid:
                assert time is not None
                assert time <= promised[1]
            promised = None if time is None else (head.jobid, time)
        if planner.pool.jobs and data.draw(st.booleans()):
            simulation.end(data.draw(st.sampled_from(sorted(planner.pool.jobs))))  # before its time
        elif not simulation.advance() and not waiting:
            break
        if promised is not None and promised[0] in planner.jobs:
            assert simulation.now <= promised[1]
    for jobid in list(planner.pool.jobs):
        planner.pool.free(jobid)
    assert planner.pool.idle == planner.pool.ranks


@settings(max_examples=60, deadline=None)
@given(cores=st.lists(st.integers(1, 3), min_size=1, max_size=3), jobs=st.lists(JOBS, max_size=15))
def test_backfill_starts_no_first_job_later_than_it_would_be_alone(cores: list[int], jobs: list[Any]) -> None:
    """Who is first when all are submitted, and blocked, starts when it would if those behind it did not exist."""
    planner, alone = Planner(pool_of(*cores), BACKFILL), Planner(pool_of(*cores), FIFO)
    for jobid, described in enumerate(jobs, 1):
        submit(planner, jobid, described)
    in_order = list(planner.line)
    simulation, other = Simulation(planner), Simulation(alone)
    # The jobs up to and including the first that is blocked.
    for pending in in_order:
        alone.add(pending)
        other.step()
        if alone.jobs:
            break
    blocked = next(iter(alone.jobs), None)
    if blocked is None:
        return
    simulation.step()
    while blocked not in other.begun and other.advance():
        other.step()
    while blocked not in simulation.begun and simulation.advance():
        simulation.step()
    assert simulation.begun.get(blocked) == other.begun.get(blocked)


@settings(max_examples=60, deadline=None)
@given(cores=st.lists(st.integers(1, 3), min_size=1, max_size=3), jobs=st.lists(JOBS, max_size=20))
def test_without_backfill_jobs_start_in_order(cores: list[int], jobs: list[Any]) -> None:
    planner = Planner(pool_of(*cores), FIFO)
    for jobid, described in enumerate(jobs, 1):
        submit(planner, jobid, described)
    order = [pending.jobid for pending in planner.line]
    simulation = Simulation(planner)
    simulation.step()
    while simulation.advance():
        simulation.step()
    assert list(simulation.begun) == order[: len(simulation.begun)]


@settings(max_examples=60, deadline=None)
@given(
    cores=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    jobs=st.lists(JOBS, max_size=20),
    policy=st.sampled_from([FIFO, BACKFILL]),
)
def test_forecasts_come_true_when_jobs_end_when_they_say(cores: list[int], jobs: list[Any], policy: str) -> None:
    planner = Planner(pool_of(*cores), policy)
    for jobid, described in enumerate(jobs, 1):
        submit(planner, jobid, described)
    simulation = Simulation(planner)
    simulation.step()
    foretold = {pending.jobid: time for pending, time in planner.forecast(simulation.now, 100)}
    while simulation.advance():
        simulation.step()
    assert {jobid: simulation.begun.get(jobid) for jobid in foretold} == foretold
