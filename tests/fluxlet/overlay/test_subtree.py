"""What follows from the statuses of children (spec 04, 2.7)."""

from __future__ import annotations

import pytest

from fluxlet.overlay.subtree import Subtree
from fluxlet.overlay.topology import Custom

CHAIN = Custom(4, "custom", [-1, 0, 1, 2])
FORK = Custom(3, "custom", [-1, 0, 0])


@pytest.mark.parametrize(
    ("first", "second", "own"),
    [
        ("full", "full", "full"),
        ("full", "partial", "partial"),
        ("offline", "full", "partial"),
        ("offline", "offline", "partial"),
        ("full", "degraded", "degraded"),
        ("lost", "partial", "degraded"),
        ("lost", "offline", "degraded"),
    ],
)
def test_own_status_is_the_worst_that_follows(first: str, second: str, own: str) -> None:
    subtree = Subtree(FORK, 0, 0.0)
    subtree.update(1, first, 1.0)
    subtree.update(2, second, 2.0)
    assert subtree.status == own


def test_a_leaf_is_full_and_a_parent_waits_for_its_children() -> None:
    assert Subtree(FORK, 2, 0.0).status == "full"
    assert Subtree(CHAIN, 0, 0.0).status == "partial"


def test_durations_count_from_the_change() -> None:
    subtree = Subtree(FORK, 0, 10.0)
    assert subtree.update(1, "full", 11.0) is False
    assert subtree.update(2, "full", 12.0) is True
    assert subtree.update(2, "full", 13.0) is False
    assert subtree.health(15.0) == {
        "rank": 0,
        "status": "full",
        "duration": 3.0,
        "children": [
            {"rank": 1, "status": "full", "duration": 4.0},
            {"rank": 2, "status": "full", "duration": 3.0},
        ],
    }


def test_the_reason_is_there_while_it_is_not_online() -> None:
    subtree = Subtree(Custom(2, "custom", ()), 0, 0.0)
    subtree.update(1, "lost", 1.0, "lost connection")
    assert subtree.health(1.0)["children"] == [
        {"rank": 1, "status": "lost", "duration": 0.0, "error": "lost connection"}
    ]
    subtree.update(1, "full", 2.0)
    assert subtree.health(2.0)["children"] == [{"rank": 1, "status": "full", "duration": 0.0}]
