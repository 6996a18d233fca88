"""flux.debugged: the MPIR flag (spec 02, section 16)."""

from __future__ import annotations

import pytest

from flux.debugged import get_mpir_being_debugged, set_mpir_being_debugged


def test_flag_is_zero_until_set() -> None:
    assert get_mpir_being_debugged() == 0
    set_mpir_being_debugged(1)
    assert get_mpir_being_debugged() == 1
    set_mpir_being_debugged(0)
    assert get_mpir_being_debugged() == 0


def test_flag_is_an_integer() -> None:
    with pytest.raises(TypeError):
        set_mpir_being_debugged("yes")  # type: ignore[arg-type]
