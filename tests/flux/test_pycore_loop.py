"""The reference's answers over loop://: handle, wrapper, Message, dispatch (`vectors/pycore-loop.json`)."""

from __future__ import annotations

from typing import Any

import pycore
import pytest


@pytest.mark.parametrize("case", pycore.params("loop"))
def test_case_has_the_outcome_of_the_reference(case: dict[str, Any]) -> None:
    pycore.run_case("loop", case)
