"""Resource shapes, against those recorded of the reference (RFC 46; spec 07, 8.6)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flux.shape.parser import ShapeLexer, ShapeParser, ShapeSyntaxError

CASES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "vectors" / "resource-shape-parse.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['in']}-{case['range_as_dict']}")
def test_shape(case: dict[str, Any]) -> None:
    parser = ShapeParser(range_as_dict=case["range_as_dict"])
    if "error" in case:
        with pytest.raises(ShapeSyntaxError) as error:
            parser.parse(case["in"])
        assert str(error.value) == case["str"]
    elif "out" in case:
        assert json.dumps(parser.parse(case["in"])) == json.dumps(case["out"])  # the order, too
    else:
        assert repr(parser.parse(case["in"])) == case["out_repr"]


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ("slot{'a/core", "Unclosed quote ' at position 5"),
        ("a{b:[1", "Unclosed bracket in position 4"),
        ("a{b:{c", "Unclosed brace in position 4"),
        ("a]", "Invalid token ']' at position 1"),
        ("[a", "Unclosed bracket in position 0"),
        ("a/[", "Unclosed bracket in position 2"),
        ("/a", "Invalid token '/' at position 0"),
        ("/".join(["a"] * 200), "more than 100 levels in"),
        ("a{b:" + "[" * 200, "more than 100 levels in"),
        ("slot{a}/core/slot/core", "Multiple slots require labels"),
    ],
)
def test_what_is_no_shape(shape: str, text: str) -> None:
    with pytest.raises(ShapeSyntaxError) as error:
        ShapeParser().parse(shape)
    assert str(error.value).startswith(text)


def test_labels_and_flags_of_slots() -> None:
    def slot(shape: str, **options: Any) -> dict[str, Any]:
        vertex: dict[str, Any] = ShapeParser(**options).parse(shape)[0]
        return vertex

    assert slot("slot/core", default_slot_label="default")["label"] == "default"
    assert slot("slot{x}/core") == {
        "type": "slot",
        "count": 1,
        "label": "task",
        "exclusive": True,
        "with": [{"type": "core", "count": 1}],
    }
    assert slot("slot{a,+x,n:1}/core")["label"] == "a"


def test_a_lexer_may_be_given() -> None:
    lexer = ShapeLexer()
    assert ShapeParser(lexer).parse("node=2") == [{"type": "node", "count": 2}]
    assert (lexer.lexdata, lexer.lexpos) == ("node=2", 6)
    with pytest.raises(AttributeError):
        lexer.nosuch  # noqa: B018  # looking it up is what raises
