"""Templates."""

from __future__ import annotations

import pytest

from fluxlet.shell.mustache import TemplateError, expand, tags


def test_tags_are_replaced() -> None:
    values = {"id": "ƒ1", "node.id": "0"}
    assert expand("{{id}}-{{node.id}}.out", values.get) == "ƒ1-0.out"
    assert expand("{{ id }}", values.get) == "ƒ1"
    assert expand("nothing", values.get) == "nothing"


def test_unknown_tags_stay() -> None:
    assert expand("a{{nosuch}}b{{id}}", {"id": "1"}.get) == "a{{nosuch}}b1"


def test_a_tag_that_is_not_closed_is_an_error_with_its_place() -> None:
    with pytest.raises(TemplateError, match=r"^mustache template error at pos=11$"):
        expand("hello world{{id", {"id": "1"}.get)


def test_tags_are_listed() -> None:
    assert tags("{{a}}{{ b.c }}d") == ["a", "b.c"]
