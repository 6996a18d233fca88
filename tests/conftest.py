"""Fixtures for all tests: real instances, and handles on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import settings
from started import StartedInstance

import flux

# The machines are shared: how long an example takes says nothing.
settings.register_profile("fluxlet", deadline=None)
settings.load_profile("fluxlet")


@pytest.fixture(scope="session")
def instance_uri() -> Iterator[str]:
    """The URI of an instance of one broker, which all tests share: leave it as you have found it."""
    instance = StartedInstance()
    yield instance.uri
    instance.stop()


@pytest.fixture
def instance_handle(instance_uri: str) -> Iterator[flux.Flux]:
    """A connection to the shared instance, closed after the test."""
    with flux.Flux(instance_uri) as handle:
        yield handle


@pytest.fixture
def start_instance() -> Iterator[Callable[[], StartedInstance]]:
    """A function that starts an instance for this test alone: to be stopped, killed, or both left to us."""
    started: list[StartedInstance] = []

    def start() -> StartedInstance:
        started.append(StartedInstance())
        return started[-1]

    yield start
    for instance in started:
        instance.stop()
