"""Drains, journal and acquisition: what the resource module keeps (spec 07, 2.2 to 2.4)."""

from __future__ import annotations

from typing import Any

import pytest

from flux.resource.Rv1Set import Node, Rv1Set
from fluxlet.modules.resource.acquisition import Acquisition
from fluxlet.modules.resource.drains import OVERWRITES, Drains
from fluxlet.modules.resource.journal import Journal
from fluxlet.modules.resource.parent import renumbered

NOW = 1000.0


def drained(*steps: tuple[set[int], str | None, str | None]) -> Drains:
    """The state after drains, a second apart."""
    drains = Drains()
    for second, (ranks, reason, mode) in enumerate(steps):
        named = drains.drain(ranks, reason, mode, set())
        context: dict[str, Any] = {"overwrite": OVERWRITES[mode]}
        if reason is not None:
            context["reason"] = reason
        drains.apply("drain", NOW + second, context, named)
    return drains


@pytest.mark.parametrize(
    ("steps", "described"),
    [
        ([({1}, "a", None)], {"1": (NOW, "a")}),
        ([({1}, None, None), ({1}, "b", None)], {"1": (NOW, "b")}),
        ([({1}, "a", None), ({1, 2}, "b", "update")], {"1": (NOW, "a"), "2": (NOW + 1, "b")}),
        ([({1}, None, None), ({1}, "b", "update")], {"1": (NOW, "b")}),
        ([({1}, "a", None), ({1}, "b", "overwrite")], {"1": (NOW, "b")}),
        ([({1}, "a", None), ({1}, None, "overwrite")], {"1": (NOW, "")}),
        ([({1}, "a", None), ({1}, "b", "force-overwrite")], {"1": (NOW + 1, "b")}),
        ([({0, 1, 3}, "a", None)], {"0-1,3": (NOW, "a")}),
    ],
)
def test_drains(steps: list[Any], described: dict[str, tuple[float, str]]) -> None:
    found = drained(*steps).describe()
    assert {ranks: (drain["timestamp"], drain["reason"]) for ranks, drain in found.items()} == described


@pytest.mark.parametrize(
    ("ranks", "mode", "excluded", "number", "text"),
    [
        ({1}, None, set(), 17, "rank 1 already drained"),
        ({0, 1, 2}, None, set(), 17, "ranks 1-2 already drained"),
        ({1, 3}, None, {3}, 17, "ranks 1,3 already drained or excluded"),
        ({3}, None, {3}, 22, "rank 3 excluded"),
        ({3}, "update", {3}, 22, "rank 3 excluded"),
        ({3}, "bogus", set(), 22, "Invalid mode specified"),
    ],
)
def test_drains_refused(ranks: set[int], mode: str | None, excluded: set[int], number: int, text: str) -> None:
    drains = drained(({1, 2}, "a", None))
    with pytest.raises(OSError) as error:  # noqa: PT011  # compared below
        drains.drain(ranks, "b", mode, excluded)
    assert (error.value.errno, error.value.strerror) == (number, text)


def test_undrains() -> None:
    drains = drained(({1, 2}, "a", None))
    for ranks, mode, text in [
        ({0, 1}, None, "rank 0 not drained"),
        ({0, 1, 3}, None, "ranks 0,3 not drained"),
        ({1}, "x", "invalid undrain mode 'x' specified"),
    ]:
        with pytest.raises(OSError, match=text):
            drains.undrain(ranks, mode)
    assert drains.undrain({0, 1}, "update") == {1}
    drains.apply("undrain", NOW, {}, {1})
    assert list(drains.ranks) == [2]


def event(name: str, timestamp: float = 1.0) -> dict[str, Any]:
    return {"timestamp": timestamp, "name": name, "context": {}}


def test_history_comes_in_batches_and_r_alone() -> None:
    journal = Journal(1000)
    for number in range(150):
        journal.append(event(f"a{number}"))
    assert journal.append(event("resource-define"), {"version": 1}) == {
        "events": [event("resource-define")],
        "R": {"version": 1},
    }
    journal.append(event("b"))
    payloads = journal.history()
    assert [len(payload["events"]) for payload in payloads] == [100, 50, 1, 1, 0]
    assert [payload["events"][0]["name"] for payload in payloads[:4]] == ["a0", "a100", "resource-define", "b"]
    assert "R" in payloads[2]


def test_a_journal_that_is_too_long_says_so() -> None:
    journal = Journal(2)
    for number in range(4):
        journal.append(event(f"a{number}", float(number)))
    (payload, end) = journal.history()
    assert [entry["name"] for entry in payload["events"]] == ["truncate", "a2", "a3"]
    assert payload["events"][0]["timestamp"] == 1.0
    assert end == {"events": []}
    journal.most = 1
    assert [entry["name"] for entry in journal.history()[0]["events"]] == ["truncate", "a3"]


def resources(*hosts: str) -> Rv1Set:
    made = Rv1Set()
    for rank, host in enumerate(hosts):
        made.nodes[rank] = Node(1 << rank, 0, host)
    made.name_ranks()
    return made


def test_only_changes_are_told() -> None:
    acquired = Acquisition(resources("a", "b", "c"), 0b1011)
    assert acquired.first()["up"] == "0-1"
    assert acquired.change(0b011, 0) is None
    assert acquired.change(0b101, 0) == {"up": "2", "down": "1"}
    assert acquired.change(0b001, 0b100) == {"down": "2", "shrink": "2"}
    assert acquired.change(0b111, 0) == {"up": "1"}  # what is gone is gone


@pytest.mark.parametrize(
    ("hosts", "cores"),
    [
        (["c", "a", "b"], {0: 0b100, 1: 0b001, 2: 0b010}),  # by hosts
        (["x", "y", "z"], {0: 0b001, 1: 0b010, 2: 0b100}),  # in order
        (["a", "a", "a"], {0: 0b001, 1: 0b010, 2: 0b100}),
    ],
)
def test_resources_of_a_job_are_numbered_from_0(hosts: list[str], cores: dict[int, int]) -> None:
    r = resources("a", "b", "c")
    r.nodes = {rank + 7: node for rank, node in r.nodes.items()}
    r.set_expiration(5.0)
    made = renumbered(r, hosts)
    assert {rank: node.cores for rank, node in made.nodes.items()} == cores
    assert made.get_expiration() == 5.0
