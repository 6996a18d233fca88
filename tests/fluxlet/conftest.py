"""Fixtures: brokers in the test's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from in_process import BrokerThread

import flux


@pytest.fixture
def start_broker() -> Iterator[Callable[..., BrokerThread]]:
    """A function that starts a `BrokerThread`; all are ended after the test."""
    started: list[BrokerThread] = []

    def start(*args: Any, **kwargs: Any) -> BrokerThread:
        started.append(BrokerThread(*args, **kwargs))
        return started[-1]

    yield start
    for broker in reversed(started):
        broker.stop()


@pytest.fixture
def broker_thread(start_broker: Callable[..., BrokerThread]) -> BrokerThread:
    """A broker with the built-in services, of rank 0 and size 1."""
    return start_broker()


@pytest.fixture
def handle(broker_thread: BrokerThread) -> Iterator[flux.Flux]:
    """The instance owner's connection to `broker_thread`."""
    with broker_thread.open() as opened:
        yield opened
