"""Fixtures: a broker with somebody who schedules and executes jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from in_process import BrokerThread
from job_player import Player
from without_modules import without_modules

import flux
from flux.job import JobID, JobspecV1


@pytest.fixture(autouse=True)
def _alone() -> Iterator[None]:
    """Brokers have neither scheduler nor execution service: tests play them."""
    with without_modules("sched-simple", "job-exec"):
        yield


@pytest.fixture
def player(broker_thread: BrokerThread) -> Iterator[Player]:
    """Schedules, and executes."""
    with Player(broker_thread.uri) as playing:
        yield playing


@pytest.fixture
def submit(handle: flux.Flux) -> Callable[..., JobID]:
    """Submits a command; keywords: as of flux.job.submit, and attributes of the jobspec."""

    def submitted(*command: str, urgency: int = 16, waitable: bool = False, **attributes: object) -> JobID:
        jobspec = JobspecV1.from_command(list(command) or ["true"])
        for key, value in attributes.items():
            jobspec.setattr(f"system.{key}", value)
        return flux.job.submit(handle, jobspec, urgency=urgency, waitable=waitable)

    return submitted
