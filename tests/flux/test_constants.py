"""flux.constants has exactly the reference's names and values."""

from __future__ import annotations

import json

import pycore
import pytest

import flux.constants

NAMES: dict[str, int] = json.loads((pycore.VECTORS / "pycore-constants.json").read_text())["names"]


def test_exactly_the_names_of_the_reference_are_exported() -> None:
    assert sorted(flux.constants.__all__) == sorted(NAMES)
    assert {name for name in vars(flux.constants) if name.startswith("FLUX_")} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_constant_has_the_value_of_the_reference(name: str) -> None:
    value = getattr(flux.constants, name)
    assert value == NAMES[name]
    assert type(value) is int
