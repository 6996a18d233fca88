"""Runs the golden cases of `tests/vectors/pycore-*.json` (format pycore-cases/1: spec 02, section 0.3).

A case is Python code that leaves its outcome in `result`; what it must yield is `better` where we mean to do
better than the reference, else `expect`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

VECTORS = Path(__file__).parent / "vectors"


def load(name: str) -> dict[str, Any]:
    """The case file `pycore-NAME.json`."""
    return json.loads((VECTORS / f"pycore-{name}.json").read_text())


def params(name: str) -> list[Any]:
    """The cases of a file as pytest parameters, named by their ids."""
    return [pytest.param(case, id=case["id"]) for case in load(name)["cases"]]


def run_case(name: str, case: dict[str, Any]) -> None:
    """Executes one case in a fresh namespace and compares; raises AssertionError where it differs."""
    document = load(name)
    os.environ.update(document["env"])
    time.tzset()
    namespace: dict[str, Any] = {}
    exec(compile(document["prelude"], f"{name}:prelude", "exec"), namespace)
    check(case, namespace)


def check(case: dict[str, Any], namespace: dict[str, Any]) -> None:
    """Runs the case's code in `namespace` and compares its outcome with what is wanted."""
    wanted = case.get("better", case["expect"])
    code = compile(case["code"], f"case:{case['id']}", "exec")
    if wanted == {"any": True}:
        with contextlib.suppress(ArithmeticError, OSError, RuntimeError, TypeError, ValueError):
            exec(code, namespace)
        return
    if "value" in wanted:
        exec(code, namespace)
        assert json.loads(json.dumps(namespace["result"])) == wanted["value"]
        return
    caught: BaseException | None = None
    try:
        exec(code, namespace)
    except Exception as exc:  # noqa: BLE001  # which one is what is tested
        caught = exc
    assert caught is not None, f"no exception; wanted {wanted}, result {namespace.get('result')!r}"
    assert type(caught).__name__ == wanted["raises"], repr(caught)
    if "errno" in wanted:
        assert isinstance(caught, OSError)
        assert errno.errorcode[caught.errno or 0] == wanted["errno"]
    if "strerror" in wanted:
        assert isinstance(caught, OSError)
        assert caught.strerror == wanted["strerror"]
    if "message" in wanted:
        assert str(caught) == wanted["message"]
    if "match" in wanted:
        assert re.search(wanted["match"], str(caught))
