"""pytest plugin: a Flux instance for the tests of a session, and connections to it. pytest finds it by itself.

Rules:
- Every pytest run in an environment with fluxlet imports this file: it imports pytest and nothing else, until a
  test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from flux.core.handle import Flux
    from fluxlet.testing.instance import Instance


@pytest.fixture(scope="session")
def flux_instance_options() -> dict[str, Any]:
    """The arguments of `fluxlet.testing.Instance` for `flux_instance`: override it to change them."""
    return {}


@pytest.fixture(scope="session")
def flux_instance(flux_instance_options: dict[str, Any]) -> Iterator[Instance]:
    """A running Flux instance (`fluxlet.testing.Instance`), one for all tests of the session."""
    from fluxlet.testing.instance import Instance

    with Instance(**flux_instance_options) as instance:
        yield instance


@pytest.fixture
def flux_handle(flux_instance: Instance) -> Iterator[Flux]:
    """A connection (`flux.Flux`) to `flux_instance`, closed after the test."""
    with flux_instance.handle() as handle:
        yield handle
