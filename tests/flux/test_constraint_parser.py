"""flux.constraint.parser: the recorded queries, and what the recording does not show."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pycore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux.constraint.parser import ConstraintLexer, ConstraintParser, ConstraintSyntaxError


class NameParser(ConstraintParser):
    operator_map: ClassVar[dict[str | None, str]] = {None: "name"}


class RequiresParser(ConstraintParser):
    """What --requires is parsed with (spec 07, 8.5)."""

    operator_map: ClassVar[dict[str | None, str]] = {
        None: "properties",
        "host": "hostlist",
        "hosts": "hostlist",
        "rank": "ranks",
    }
    split_values: ClassVar[dict[str, str]] = {"properties": ","}
    combined_terms: ClassVar[set[str]] = {"properties"}


PARSERS = {"default-op name": NameParser, "as --requires": RequiresParser, "no default": ConstraintParser}
CASES = [json.loads(line) for line in (pycore.VECTORS / "resource-constraint-parse.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['parser']}: {case['in']}")
def test_recorded_query(case: dict[str, Any]) -> None:
    parser = PARSERS[case["parser"]]()
    if "out" in case:
        assert parser.parse(case["in"]) == case["out"]
        return
    with pytest.raises(ConstraintSyntaxError) as caught:
        parser.parse(case["in"])
    # The reference does not fill in the position of a stray parenthesis.
    assert str(caught.value) == case["str"].replace("{self.lexer.last_rparens}", str(case["in"].find(")")))


@pytest.mark.parametrize(
    ("query", "result"),
    [
        ("(a b) c", {"properties": ["a", "b", "c"]}),
        ("a x:1 b", {"and": [{"properties": ["a"]}, {"x": ["1"]}, {"properties": ["b"]}]}),
        ("not a b", {"and": [{"not": [{"properties": ["a"]}]}, {"properties": ["b"]}]}),
        (
            "a (b|c) d",
            {
                "and": [
                    {"properties": ["a"]},
                    {"or": [{"properties": ["b"]}, {"properties": ["c"]}]},
                    {"properties": ["d"]},
                ]
            },
        ),
        ("host:a hosts:b", {"and": [{"hostlist": ["a"]}, {"hostlist": ["b"]}]}),
        ("android", {"properties": ["android"]}),
        ("x:and", {"x": ["and"]}),
        ("'and'", {"properties": ["and"]}),
        ("x:-1", {"x": ["-1"]}),
        ("x:'a|(b'", {"x": ["a|(b"]}),
        ("''", {"properties": [""]}),
        ("a\n\tb", {"properties": ["a", "b"]}),
        ("t-1.x_y:z", {"t-1.x_y": ["z"]}),
    ],
)
def test_query(query: str, result: object) -> None:
    assert RequiresParser().parse(query) == result


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("()", "Invalid token ')' at position 1"),
        ("a || && b", "Invalid token '&&' at position 5"),
        ("--a", "Invalid token '-' at position 1"),
        ("-not a", "Invalid token 'not' at position 1"),
        ("(a))", "Mismatched parentheses starting at position 3."),
        ("x (a", "Unclosed parenthesis in position 2"),
        ('a "b', 'Unclosed quote """ at position 3'),
        ("op: a", "Missing argument to token 'op:'"),
        ("op:)", "Missing argument to token 'op:'"),
        (":a", 'Missing required operator in ":a"'),
        ("and:x", "'and' cannot be an operator in 'and:x': it joins or negates terms"),
        ("(" * 101 + "a", "more than 100 levels of 'not' and parentheses in '" + "(" * 101 + "a'"),
    ],
)
def test_malformed_query(query: str, text: str) -> None:
    with pytest.raises(ConstraintSyntaxError) as caught:
        RequiresParser().parse(query)
    assert str(caught.value) == text


def test_combining_changes_no_argument() -> None:
    one: dict[str, list[Any]] = {"properties": ["a"]}
    both: dict[str, list[Any]] = {"and": [{"x": ["1"]}, {"y": ["2"]}]}
    parser = RequiresParser()
    assert parser.combine_like_terms(one, {"properties": ["b"]}) == {"properties": ["a", "b"]}
    assert parser.combine_like_terms(both, one) == {"and": [{"x": ["1"]}, {"y": ["2"]}, {"properties": ["a"]}]}
    assert one == {"properties": ["a"]}
    assert both == {"and": [{"x": ["1"]}, {"y": ["2"]}]}


def test_invalid_operator_names_the_first_bad_character() -> None:
    assert ConstraintParser.invalid_operator("a!b?") == "!"
    assert not ConstraintParser.invalid_operator("not-host.2")


def test_lexer_gives_tokens_one_by_one() -> None:
    lexer = ConstraintLexer()
    assert lexer.token() is None
    lexer.input("-op:x (")
    assert [(token.type, token.value, token.position) for token in lexer] == [
        ("negate", "-", 0),
        ("operator", "op", 1),
        ("value", "x", 4),
        ("(", "(", 6),
    ]
    assert lexer.lexdata == "-op:x ("
    assert lexer.lexpos == 7
    with pytest.raises(AttributeError):
        lexer.no_such_attribute  # noqa: B018


def test_parser_can_be_used_again_after_an_error() -> None:
    parser = NameParser(lexer=ConstraintLexer())
    with pytest.raises(ConstraintSyntaxError):
        parser.parse("(a")
    assert parser.parse("b") == {"name": ["b"]}


terms = st.builds(lambda value: {"name": [value]}, st.text(min_size=1).filter(lambda text: "'" not in text))
constraints = st.recursive(
    terms,
    lambda inner: st.one_of(
        st.builds(lambda each: {"not": [each]}, inner),
        st.builds(lambda each: {"or": each}, st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=8,
)


def written(constraint: dict[str, list[Any]]) -> str:
    ((operator, operands),) = constraint.items()
    if operator == "name":
        return f"'{operands[0]}'"
    if operator == "not":
        return f"not ({written(operands[0])})"
    return "(" + " | ".join(written(each) for each in operands) + ")"


@given(constraints)
def test_a_constraint_written_as_query_comes_back(constraint: dict[str, list[Any]]) -> None:
    assert NameParser().parse(written(constraint)) == constraint


@given(st.text(alphabet="ab:-()&|'\" ornt"))
def test_any_text_is_a_constraint_or_a_syntax_error(query: str) -> None:
    try:
        result = NameParser().parse(query)
    except ConstraintSyntaxError:
        return
    assert len(result) == 1
