"""Tables of the configuration: types, and the reference's texts."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fluxlet.config_table import read_table

TYPES = {"s": str, "i": int, "f": float, "b": bool, "o": dict, "a": list, "any": object}


def test_values_of_known_keys() -> None:
    table = {"s": "x", "i": 1, "f": 1.0, "b": True, "o": {}, "a": [], "any": None, "unknown": 1}
    assert read_table(table, TYPES) == {key: table[key] for key in TYPES}
    assert read_table({}, TYPES) == {}


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"s": 1}, "Expected string, got integer"),
        ({"s": None}, "Expected string, got null"),
        ({"i": True}, "Expected integer, got true"),
        ({"i": 1.0}, "Expected integer, got real"),
        ({"f": 1}, "Expected real, got integer"),
        ({"b": 0}, "Expected true or false, got integer"),
        ({"o": []}, "Expected object, got array"),
        ({"a": {}}, "Expected array, got object"),
        ({"s": False}, "Expected string, got false"),
        ({"foo": 1}, "1 object item(s) left unpacked: foo"),
        ({"foo": 1, "s": "", "bar": 2}, "2 object item(s) left unpacked: foo, bar"),
        ([], "Expected object, got array"),
    ],
)
def test_mistakes(table: Any, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text) + "$"):
        read_table(table, TYPES, strict=True)
