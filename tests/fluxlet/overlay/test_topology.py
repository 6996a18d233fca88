"""Shapes of the tree (spec 04, 1.1)."""

from __future__ import annotations

import json

import pytest

from fluxlet.overlay.topology import Custom, Topology, TopologyError

SHAPES = ("kary:0", "kary:1", "kary:2", "kary:3", "kary:32", "mincrit", "mincrit:1", "mincrit:3", "binomial", "custom")


def parents(uri: str, size: int) -> list[int]:
    topology = Topology.parse(uri, size)
    return [topology.parent(rank) for rank in range(size)]


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("kary:2", [-1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]),
        ("kary:3", [-1, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3]),
        ("mincrit:3", [-1, 0, 0, 0, 1, 2, 3, 1, 2, 3, 1, 2]),
        ("mincrit", [-1] + [0] * 11),
        ("custom", [-1] + [0] * 11),
        ("kary:0", [-1] + [0] * 11),
        ("binomial", [-1, 0, 0, 2, 0, 4, 4, 6, 0, 8, 8, 10]),
    ],
)
def test_parents_at_size_12_are_those_of_the_reference(uri: str, expected: list[int]) -> None:
    assert parents(uri, 12) == expected


@pytest.mark.parametrize("uri", SHAPES)
@pytest.mark.parametrize("size", [1, 2, 3, 8, 33, 100])
def test_all_that_a_shape_says_follows_from_its_parents(uri: str, size: int) -> None:
    topology = Topology.parse(uri, size)
    above = parents(uri, size)
    ancestors: list[list[int]] = []
    for rank in range(size):
        ancestors.append([] if not rank else [above[rank], *ancestors[above[rank]]])
    for rank in range(size):
        assert list(topology.children(rank)) == [child for child in range(size) if above[child] == rank]
        assert topology.level(rank) == len(ancestors[rank])
        below = [other for other in range(size) if rank in ancestors[other]]
        assert sorted(topology.below(rank)) == sorted([rank, *below])
        assert topology.subtree_size(rank) == 1 + len(below)
        for target in range(-1, size + 1):
            path = [target, *ancestors[target]] if 0 <= target < size else []
            expected = path[path.index(rank) - 1] if target in below else None
            assert topology.towards(rank, target) == expected
    assert topology.max_level == max(len(path) for path in ancestors)
    assert list(topology.interior()) == [rank for rank in range(size) if rank == 0 or rank in above]


def test_a_million_ranks_need_no_tables() -> None:
    for uri in ("kary:2", "kary:1", "binomial", "mincrit", "kary:32"):
        topology = Topology.parse(uri, 1_000_000)
        last = 999_999
        assert topology.subtree_size(0) == 1_000_000
        hop = topology.towards(0, last)
        assert hop is not None
        assert topology.parent(hop) == 0
        assert not topology.children(last)


def test_mincrit_without_a_number_keeps_levels_narrow() -> None:
    assert list(Topology.parse("mincrit", 1025).children(0)) == list(range(1, 1025))
    topology = Topology.parse("mincrit", 1026)
    assert list(topology.children(0)) == [1, 2]
    assert max(len(topology.children(rank)) for rank in range(3)) <= 1024


def test_a_description_is_nested() -> None:
    chain = Topology.parse("kary:1", 3)
    assert json.dumps(chain.describe(1)) == json.dumps(
        {"rank": 1, "size": 2, "children": [{"rank": 2, "size": 1, "children": []}]}
    )
    fork = Custom(4, "custom", [-1, 0, 0, 1])
    assert [child["rank"] for child in fork.describe(0)["children"]] == [1, 2]
    assert fork.describe(0)["children"][0]["size"] == 2


def test_a_custom_parent_may_have_a_higher_rank() -> None:
    topology = Custom(4, "custom", [-1, 3, 1, 0])
    assert [topology.level(rank) for rank in range(4)] == [0, 2, 3, 1]
    assert topology.towards(0, 2) == 3
    assert topology.towards(3, 2) == 1
    assert topology.towards(2, 1) is None


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("foo", "unknown topology scheme 'foo'"),
        ("kary", "kary k value must be an integer >= 0"),
        ("kary:x", "kary k value must be an integer >= 0"),
        ("kary:-1", "kary k value must be an integer >= 0"),
        ("mincrit:x", "mincrit k value must be an integer >= 0"),
        ("binomial:3", "unknown binomial topology directive: '3'"),
        ("custom:x", "unknown custom topology directive: 'x'"),
    ],
)
def test_what_is_no_shape(uri: str, text: str) -> None:
    with pytest.raises(TopologyError) as error:
        Topology.parse(uri, 4)
    assert str(error.value) == text


@pytest.mark.parametrize("bad", [[-1, 2, 1], [-1, 1], [-1, 0, 3]])
def test_parents_that_are_no_tree(bad: list[int]) -> None:
    with pytest.raises(TopologyError):
        Custom(3, "custom", bad)
