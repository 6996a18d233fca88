"""Directives in scripts, against those recorded of the reference."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from service_recordings import RECORDINGS

from flux.job.directives import Directive, DirectiveParser

CASES = [json.loads(line) for line in (RECORDINGS / "jobs-directives.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("case", CASES)
def test_scripts(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(ValueError, match="line") as error:
            DirectiveParser(io.StringIO(case["script"]))
        assert str(error.value) == case["message"]
        return
    parser = DirectiveParser(io.StringIO(case["script"]))
    found = [{"lineno": d.lineno, "action": d.action, "args": d.args} for d in parser.directives]
    assert found == case["directives"]
    assert parser.script == case["script"]


def test_a_directive_as_text() -> None:
    assert str(Directive(" -N1 # two", 3)) == "SETARGS(['-N1'])"
    assert str(Directive(" # nothing")) == "NOOP([])"
