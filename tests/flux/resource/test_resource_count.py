"""Counts of a jobspec, against those recorded of the reference."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flux.resource import ResourceCount

CASES = [
    json.loads(line)
    for line in (Path(__file__).parents[2] / "vectors" / "resource-count.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: json.dumps(case["in"]))
def test_count(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(ValueError) as error:  # noqa: PT011  # compared below
            ResourceCount.from_count_spec(case["in"])
        assert str(error.value) == case["str"]
        return
    count = ResourceCount.from_count_spec(case["in"])
    assert (count.min, count.max) == (case["min"], case["max"])
    assert (None if count.values is None else str(count.values)) == case["values"]
    assert repr(count) == case["repr"]
    assert list(count.valid_counts(10)) == case["valid_counts_10"]
    assert repr(count.scaled(2)) == case["scaled_2"]


@pytest.mark.parametrize(
    "spec",
    ["1-2000000000:2", {"min": "2"}, {"min": 1, "max": 2, "operand": "x"}, "1-9:2:+:3", {"min": 1.5}, "2-9:0"],
)
def test_what_is_no_count_is_refused(spec: Any) -> None:
    with pytest.raises(ValueError, match="RFC"):
        ResourceCount.from_count_spec(spec)


def test_powers_beyond_all_bounds_end() -> None:
    count = ResourceCount.from_count_spec({"min": 2, "max": 1 << 40, "operator": "^", "operand": 60})
    assert str(count.values) == "2"


def test_a_set_of_billions_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="values in '1,5-2147483647'"):
        ResourceCount.from_count_spec("1,5-2147483647")
