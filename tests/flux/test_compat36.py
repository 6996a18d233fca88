"""compat36.strsignal, beyond the golden cases."""

from __future__ import annotations

import signal

import pytest

from flux.compat36 import strsignal


def test_names_are_those_of_signals_not_of_numbers() -> None:
    assert strsignal(signal.SIGUSR1) == "User defined signal 1"
    assert strsignal(signal.SIGABRT) == strsignal(signal.SIGIOT) == "Aborted"


@pytest.mark.parametrize("number", [-1, 0, 32, signal.SIGRTMIN, signal.NSIG, 1000])
def test_other_numbers_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match=f"{int(number)} is not a named signal"):
        strsignal(number)
