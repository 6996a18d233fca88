"""The shell's connection to its broker."""

from __future__ import annotations

import errno

import flux
from fluxlet.shell.connection import Connection


def outcomes(*, forget: bool) -> list[int]:
    """What those that have asked are told when the handle is closed before there is an answer."""
    told: list[int] = []
    with flux.Flux("loop://") as handle:
        connection = Connection(handle)
        connection.ask(b"kvs.commit", None, lambda state: told.append(state.errnum))
        connection.stream(b"job-shell.attach", None, lambda state: told.append(state.errnum))
        if forget:
            connection.forget()
    return told


def test_who_waits_for_an_answer_is_told_that_the_broker_has_gone() -> None:
    assert outcomes(forget=False) == [errno.ECONNRESET] * 2


def test_nobody_is_called_once_all_are_forgotten() -> None:
    """A shell that has ended would complain of commits to a handle that is closed."""
    assert outcomes(forget=True) == []
