"""Brokers of the test's process without some of the built-in modules, for tests that play those themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fluxlet.broker.builtins import LISTED


@contextmanager
def without_modules(*names: str) -> Iterator[None]:
    """Leaves modules out of the table, which has them in their order afterwards: it is that of loading."""
    table = dict(LISTED)
    for name in names:
        LISTED.pop(name, None)
    try:
        yield
    finally:
        LISTED.clear()
        LISTED.update(table)
