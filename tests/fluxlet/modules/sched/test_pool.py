"""The pool of resources: what is chosen, and that nothing is given twice (spec 07, 3.4)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux.resource._pool import BEST, FIRST, WORST, Grant, Need, Pool, bits, lowest
from flux.resource._request import ResourceRequest

CORE = [{"type": "core", "count": 1}]


def request(resources: list[Any], **system: Any) -> ResourceRequest:
    return ResourceRequest.from_jobspec({"resources": resources, "attributes": {"system": system}})


def slots(count: Any, cores: int = 1, gpus: int = 0, **extra: Any) -> dict[str, Any]:
    parts: list[dict[str, Any]] = [{"type": "core", "count": cores}]
    if gpus:
        parts.append({"type": "gpu", "count": gpus})
    return {"type": "slot", "count": count, "with": parts, "label": "task", **extra}


def nodes(count: Any, slot: dict[str, Any], **extra: Any) -> dict[str, Any]:
    return {"type": "node", "count": count, "with": [slot], **extra}


def need(*resources: Any) -> Need:
    return Need.of(request(list(resources)))


def pool_of(*sizes: int | tuple[int, int], placement: str = WORST) -> Pool:
    shapes = [(size, 0) if isinstance(size, int) else size for size in sizes]
    pool = Pool({rank: ((1 << cores) - 1, (1 << gpus) - 1) for rank, (cores, gpus) in enumerate(shapes)}, placement)
    pool.up = pool.ranks
    return pool


def chosen(pool: Pool, wanted: Need, ranks: int | None = None) -> Any:
    selected = pool.select(wanted, pool.ranks if ranks is None else ranks)
    return None if selected is None else [(rank, cores, gpus) for rank, cores, gpus in selected[0]]


@pytest.mark.parametrize(
    ("resources", "wanted"),
    [
        ([slots(3)], Need(0, 0, 3, 3, 1, 0, False)),
        ([slots(3, 2, 1)], Need(0, 0, 3, 3, 2, 1, False)),
        ([slots({"min": 2, "max": 5})], Need(0, 0, 2, 5, 1, 0, False)),
        ([slots("2+")], Need(0, 0, 2, None, 1, 0, False)),
        ([nodes(2, slots(4))], Need(2, 2, 4, 4, 1, 0, False)),
        ([nodes("1-4", slots(2))], Need(1, 4, 2, 2, 1, 0, False)),
        ([nodes("1+", slots(2))], Need(1, None, 2, 2, 1, 0, False)),
        ([nodes(2, slots("1-3"))], Need(2, 2, 1, 3, 1, 0, False)),
        ([nodes(2, slots(1), exclusive=True)], Need(2, 2, 1, 1, 1, 0, True)),
        ([slots(3, exclusive=True)], Need(3, 3, 1, 1, 1, 0, True)),
        # Counts above multiply.
        ([{"type": "rack", "count": 2, "with": [nodes(3, slots(1))]}], Need(6, 6, 1, 1, 1, 0, False)),
        ([{"type": "slot", "count": 2, "with": [{"type": "node", "count": 3, "with": CORE}], "label": "a"}],
         Need(6, 6, 1, 1, 1, 0, False, 2)),
        ([{"type": "slot", "count": 4, "with": [{"type": "node", "count": 1, "with": CORE}], "label": "a"}],
         Need(4, 4, 1, 1, 1, 0, False)),
    ],
)  # fmt: skip
def test_what_a_jobspec_comes_to(resources: list[Any], wanted: Need) -> None:
    assert need(*resources) == wanted


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({}, "jobspec has no resources"),
        ({"resources": []}, "jobspec has no resources"),
        ({"resources": {}}, "jobspec has no resources"),
        (None, "jobspec has no resources"),
        ({"resources": CORE}, "Unable to determine slot count"),
        ({"resources": [{"type": "slot", "count": 1, "label": "x"}]}, "Unable to determine slot size"),
        ({"resources": [{"count": 1}]}, "a resource must be an object with a type"),
        ({"resources": [7]}, "a resource must be an object with a type"),
        ({"resources": [{"type": "slot", "with": 3}]}, "resources must be a list"),
        ({"resources": [slots(0)]}, "RFC 14 count: integer count must be >= 1, got 0"),
        ({"resources": [slots(1)], "attributes": 3}, "attributes of the jobspec is no object"),
        ({"resources": [slots(1)], "attributes": {"system": {"duration": "x"}}}, "not a number of seconds"),
        ({"resources": [slots(1)], "attributes": {"system": {"duration": -1}}}, "not a number of seconds"),
        ({"resources": [slots(1)], "attributes": {"system": {"duration": float("nan")}}}, "not a number of seconds"),
    ],
)
def test_a_bad_request_says_what_is_wrong(spec: Any, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        ResourceRequest.from_jobspec(spec)


def test_a_request_nested_without_end_is_refused() -> None:
    resource: dict[str, Any] = slots(1)
    for _ in range(150):
        resource = {"type": "rack", "count": 1, "with": [resource]}
    with pytest.raises(ValueError, match="more than 100 levels"):
        request([resource])


def test_sets_of_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="slot count specifies discrete valid values that this scheduler does not"):
        need(slots("1,7-9"))
    with pytest.raises(ValueError, match="node count specifies discrete valid values"):
        need(nodes("1-9:3", slots(1)))


def test_worst_fit_spreads() -> None:
    pool = pool_of(4, 4, 4)
    for jobid in range(4):
        selected = pool.select(need(slots(1)), pool.ranks)
        assert selected is not None
        pool.allocate(jobid, selected[0])
    assert [next(iter(job.grants)) for job in pool.jobs.values()] == [0, 1, 2, 0]


def test_best_fit_packs() -> None:
    pool = pool_of(4, 2, 4, placement=BEST)
    pool.allocate(9, [Grant(2, 1, 0)])
    assert chosen(pool, need(slots(1))) == [(1, 1, 0)]
    assert chosen(pool, need(slots(1, 3))) == [(2, 0b1110, 0)]


def test_first_fit_takes_the_lowest_rank() -> None:
    pool = pool_of(2, 4, 4, placement=FIRST)
    assert chosen(pool, need(slots(1))) == [(0, 1, 0)]
    assert chosen(pool, need(slots(4))) == [(0, 3, 0), (1, 3, 0)]
    assert chosen(pool, need(nodes(2, slots(3)))) == [(1, 7, 0), (2, 7, 0)]


@pytest.mark.parametrize("placement", [WORST, BEST])
def test_gpus_are_left_to_those_who_want_them(placement: str) -> None:
    pool = pool_of((4, 2), 4, placement=placement)
    assert chosen(pool, need(slots(1))) == [(1, 1, 0)]
    assert chosen(pool, need(slots(1, 1, 2))) == [(0, 1, 3)]


def test_slots_fill_one_rank_after_the_other() -> None:
    pool = pool_of(4, 4)
    assert chosen(pool, need(slots(6))) == [(0, 0b1111, 0), (1, 0b11, 0)]
    assert chosen(pool, need(slots(2, 3))) == [(0, 0b111, 0), (1, 0b111, 0)]
    assert chosen(pool, need(slots(3, 3))) is None


def test_ranges_take_what_there_is_up_to_the_most() -> None:
    pool = pool_of(4, 4)
    assert pool.select(need(slots("2-5")), pool.ranks) == ([Grant(0, 15, 0), Grant(1, 1, 0)], 5)
    assert pool.select(need(slots("2+")), pool.ranks) == ([Grant(0, 15, 0), Grant(1, 15, 0)], 8)
    assert pool.select(need(nodes("1-3", slots(1))), pool.ranks) == ([Grant(0, 1, 0), Grant(1, 1, 0)], 2)
    assert pool.select(need(nodes(2, slots("1-3"))), pool.ranks) == ([Grant(0, 7, 0), Grant(1, 7, 0)], 6)
    assert pool.select(need(slots("9+")), pool.ranks) is None


def test_exclusive_takes_whole_idle_nodes() -> None:
    pool = pool_of(4, (4, 2), 4)
    pool.allocate(1, [Grant(0, 1, 0)])
    assert chosen(pool, need(nodes(2, slots(1), exclusive=True))) == [(2, 15, 0), (1, 15, 3)]
    assert chosen(pool, need(slots(3, exclusive=True))) is None


def test_only_ranks_that_are_up_and_let_in_are_chosen() -> None:
    pool = pool_of(4, 4, 4)
    pool.up = 0b110
    assert chosen(pool, need(slots(1))) == [(1, 1, 0)]
    assert chosen(pool, need(slots(1)), 0b101) == [(2, 1, 0)]
    assert chosen(pool, need(slots(1)), 0b001) is None


@pytest.mark.parametrize(
    ("wanted", "ranks", "text"),
    [
        (need(slots(17)), 15, "need 17 slot(s) of 1 core(s), only 16 such slot(s) available (total cores: 16)"),
        (need(nodes(5, slots(1))), 15, "need 5 node(s) with 1 cores each, only 4 eligible"),
        (need(nodes(3, slots(1, 1, 2))), 15, "need 3 node(s) with 1 cores and 2 GPUs each, only 2 eligible"),
        (need(nodes(5, slots(1), exclusive=True)), 15, "need 5 exclusive node(s), only 4 eligible"),
        (need(slots(3, 1, 2)), 15, "need 3 slot(s) with 2 GPU(s) each, only 2 available (total GPUs: 4)"),
        (need(slots(1)), 0, "need 1 slot(s) of 1 core(s), only 0 such slot(s) available (total cores: 0)"),
    ],
)
def test_what_can_never_be_is_said(wanted: Need, ranks: int, text: str) -> None:
    pool = pool_of(4, 4, (4, 2), (4, 2))
    pool.up = 0
    assert pool.infeasible(wanted, ranks) == f"unsatisfiable request: {text}"


def test_nothing_is_given_twice_or_given_back_twice() -> None:
    pool = pool_of(2)
    pool.allocate(1, [Grant(0, 1, 0)])
    with pytest.raises(ValueError, match="resources of rank 0 are not free"):
        pool.allocate(2, [Grant(0, 3, 0)])
    with pytest.raises(ValueError, match="rank 7"):
        pool.allocate(2, [Grant(0, 2, 0), Grant(7, 1, 0)])
    with pytest.raises(ValueError, match="job 1 has resources already"):
        pool.allocate(1, [Grant(0, 2, 0)])
    pool.free(1)
    with pytest.raises(KeyError):
        pool.free(1)
    assert pool.idle == 1


def test_a_part_comes_back_by_ranks() -> None:
    pool = pool_of(2, 2, 2)
    pool.allocate(1, [Grant(0, 3, 0), Grant(1, 3, 0), Grant(2, 3, 0)])
    pool.free(1, 0b010)
    assert pool.idle == 0b010
    pool.free(1, 0b101)
    assert pool.jobs == {}
    assert pool.idle == 0b111


def test_ranks_that_are_gone_come_back_with_nobody() -> None:
    pool = pool_of(2, 2)
    pool.allocate(1, [Grant(0, 3, 0), Grant(1, 1, 0)])
    pool.remove_ranks(0b10)
    assert pool.ranks == 1
    assert list(pool.jobs[1].grants) == [0]
    pool.free(1)
    assert pool.free_cores == {0: 3}
    assert pool.infeasible(need(slots(3)), -1) is not None


def test_lowest_bits() -> None:
    assert lowest(0b10110, 2) == 0b00110
    assert lowest(0b10101, 2) == 0b00101
    assert list(bits(0b10110)) == [1, 2, 4]


# Whatever is asked, in whatever order.

SIZES = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 2)), min_size=1, max_size=6)
COUNTS = st.one_of(
    st.integers(1, 5), st.tuples(st.integers(1, 3), st.integers(0, 3)).map(lambda p: f"{p[0]}-{p[0] + p[1]}")
)
SLOTS = st.builds(slots, COUNTS, st.integers(1, 3), st.integers(0, 1))
REQUESTS = st.one_of(
    SLOTS,
    st.builds(nodes, st.integers(1, 4), SLOTS),
    st.builds(nodes, COUNTS, st.builds(slots, st.integers(1, 3)), exclusive=st.booleans()),
)


def check(pool: Pool) -> None:
    """The tables of a pool say the same as its jobs."""
    cores = {rank: total[0] for rank, total in pool.total.items()}
    gpus = {rank: total[1] for rank, total in pool.total.items()}
    for job in pool.jobs.values():
        for rank, held_cores, held_gpus in job.grants.values():
            assert not held_cores & ~cores[rank]  # nobody else has them
            assert not held_gpus & ~gpus[rank]
            cores[rank] &= ~held_cores
            gpus[rank] &= ~held_gpus
    assert pool.free_cores == cores
    assert pool.free_gpus == gpus
    assert pool.idle == sum(1 << rank for rank in pool.total if (cores[rank], gpus[rank]) == pool.total[rank])
    buckets: dict[tuple[int, int], int] = {}
    for rank in pool.total:
        key = (cores[rank].bit_count(), gpus[rank].bit_count())
        buckets[key] = buckets.get(key, 0) | 1 << rank
    assert pool._buckets == buckets


def serves(grants: list[Grant], count: int, wanted: Need, pool: Pool) -> None:
    """What was chosen is what was asked for."""
    assert len({grant.rank for grant in grants}) == len(grants)
    cores = sum(grant.cores.bit_count() for grant in grants)
    if wanted.nodes:
        assert wanted.nodes <= len(grants) <= (wanted.most_nodes or len(grants))
        for grant in grants:
            assert grant.cores.bit_count() >= wanted.slots * wanted.cores
            assert grant.gpus.bit_count() >= wanted.slots * wanted.gpus
            if wanted.exclusive:
                assert (grant.cores, grant.gpus) == pool.total[grant.rank]
    else:
        assert wanted.slots <= count <= (wanted.most_slots or count)
        assert cores == count * wanted.cores
        assert sum(grant.gpus.bit_count() for grant in grants) == count * wanted.gpus
        assert all(grant.cores.bit_count() % wanted.cores == 0 for grant in grants)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), sizes=SIZES, placement=st.sampled_from([WORST, BEST, FIRST]))
def test_never_more_than_there_is_and_back_what_was_given(
    data: st.DataObject, sizes: list[tuple[int, int]], placement: str
) -> None:
    pool = pool_of(*sizes, placement=placement)
    for jobid in range(data.draw(st.integers(1, 25))):
        if pool.jobs and data.draw(st.booleans()):
            victim = data.draw(st.sampled_from(sorted(pool.jobs)))
            pool.free(victim, data.draw(st.sampled_from([-1, 0b010101, 0b101010])))
        pool.up = data.draw(st.integers(0, pool.ranks))
        wanted = need(data.draw(REQUESTS))
        selected = pool.select(wanted, pool.ranks)
        if selected is not None:
            assert pool.infeasible(wanted, pool.ranks) is None
            serves(*selected, wanted, pool)
            assert all(pool.up >> grant.rank & 1 for grant in selected[0])
            pool.allocate(jobid, selected[0])
        check(pool)
    for jobid in list(pool.jobs):
        pool.free(jobid)
    check(pool)
    assert pool.idle == pool.ranks


@settings(max_examples=150, deadline=None)
@given(sizes=SIZES, resources=REQUESTS, placement=st.sampled_from([WORST, BEST, FIRST]))
def test_what_is_feasible_fits_an_empty_pool_and_what_is_not_does_not(
    sizes: list[tuple[int, int]], resources: dict[str, Any], placement: str
) -> None:
    pool = pool_of(*sizes, placement=placement)
    wanted = need(resources)
    assert (pool.select(wanted, pool.ranks) is None) == (pool.infeasible(wanted, pool.ranks) is not None)
