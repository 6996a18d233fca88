"""ResourceSet: the recorded expressions, said again; and sets as sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux.idset import IDset
from flux.resource import ResourceSet
from flux.resource.Rv1Set import mask, unmask

RECORDS = [
    json.loads(line) for line in (Path(__file__).parents[2] / "vectors/resource-set-api.jsonl").read_text().splitlines()
]
DEFINED = {record["define"]: record["R"] for record in RECORDS if "define" in record}
EXPRESSIONS = [record for record in RECORDS if "expr" in record]


@pytest.mark.parametrize("record", EXPRESSIONS, ids=lambda record: record["expr"][:60])
def test_an_expression_gives_what_it_gave_the_reference(record: dict[str, Any]) -> None:
    names: dict[str, Any] = {name: ResourceSet(r) for name, r in DEFINED.items()}
    names |= {"ResourceSet": ResourceSet, "IDset": IDset, "json": json}
    if "error" in record:
        with pytest.raises(Exception) as info:  # noqa: PT011  # compared below
            eval(record["expr"], names)
        assert record["error"] in [base.__name__ for base in type(info.value).__mro__]
        text = info.value.strerror if isinstance(info.value, OSError) else str(info.value)
        assert text == record["str"]
        return
    result = eval(record["expr"], names)
    wanted = record["result"]
    if isinstance(result, ResourceSet):
        assert (result.dumps(), result.to_dict(), result.state) == (
            wanted["dumps"],
            wanted["encode"],
            wanted["state"],
        )
    elif isinstance(wanted, str):
        assert str(result) == wanted
    else:
        assert result == wanted


def make(cores: dict[int, set[int]]) -> ResourceSet:
    lite = [
        {"rank": str(rank), "children": {"core": ",".join(map(str, sorted(ids)))}} for rank, ids in cores.items() if ids
    ]
    return ResourceSet({"version": 1, "execution": {"R_lite": lite}})


def content(rset: ResourceSet) -> set[tuple[int, int]]:
    return {
        (rank, core)
        for group in rset.to_dict()["execution"]["R_lite"]
        for rank in IDset(group["rank"])
        for core in IDset(group["children"]["core"])
    }


SETS = st.dictionaries(st.integers(0, 70), st.sets(st.integers(0, 40), max_size=6), max_size=6).map(make)


@given(SETS, SETS)
def test_operators_are_those_of_sets_of_cores(a: ResourceSet, b: ResourceSet) -> None:
    assert content(a | b) == content(a) | content(b)
    assert content(a - b) == content(a) - content(b)
    assert content(a & b) == {(rank, core) for rank, core in content(a) if rank in b.ranks}
    assert (a | b).ncores == len(content(a) | content(b))
    assert ResourceSet(a.encode()) == a
    assert content(a.copy().append(b)) == content(a | b)


@given(st.sets(st.integers(0, 300)))
def test_masks_are_idsets(ids: set[int]) -> None:
    text = IDset(sorted(ids)).encode() if ids else ""
    assert unmask(mask(text)) == text


@pytest.mark.parametrize(
    ("constraint", "ranks"),
    [
        ({}, "0-3"),
        ({"or": []}, "0-3"),
        ({"and": []}, "0-3"),
        ({"not": []}, ""),
        ({"properties": ["xx"]}, "0-1"),
        ({"properties": ["^xx"]}, "2-3"),
        ({"properties": ["xx", "zz"]}, ""),
        ({"hostlist": ["fluke1", "fluke[3,9]"]}, "1,3"),
        ({"ranks": ["0,2", "3"]}, "0,2-3"),
        ({"not": [{"ranks": ["0"]}, {"properties": ["xx"]}]}, "1-3"),
        ({"or": [{"ranks": ["0"]}, {"properties": ["zz"]}]}, "0,2-3"),
        ({"properties": ["xx"], "ranks": ["1-3"]}, "1"),
    ],
)
def test_constraints_are_those_of_the_rfc(constraint: dict[str, Any], ranks: str) -> None:
    assert str(ResourceSet(DEFINED["A"]).copy_constraint(constraint).ranks) == ranks


@pytest.mark.parametrize(
    "constraint", [{"foo": []}, [], {"and": [1]}, {"ranks": ["x"]}, {"hostlist": ["a["]}, {"or": "x"}]
)
def test_a_constraint_that_is_none_is_a_value_error(constraint: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        ResourceSet(DEFINED["A"]).copy_constraint(constraint)
