"""What is kept of a job that has ended is little, and nothing of how it came to that."""

from __future__ import annotations

import gc
import sys
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from in_process import BrokerThread, until

import flux
import flux.job
from flux.job import JobspecV1
from fluxlet.modules.content.cache import Entry
from fluxlet.modules.kvs.directory import Directory
from fluxlet.modules.kvs.transaction import Transaction

#: Jobs in a round; the number of jobs after which everything has happened that happens once.
JOBS = 300
#: Pieces of memory that stay of a job: what the job manager and job-list know of it, a handful of numbers each.
PIECES = 40


def census() -> Counter[type]:
    gc.collect()
    return Counter(type(thing) for thing in gc.get_objects())


@pytest.fixture
def broker(start_broker: Callable[..., BrokerThread]) -> BrokerThread:
    config = {"resource": {"noverify": True}, "fake-resources": {"nnodes": 1, "cores-per-node": 16}}
    return start_broker(None, config)


def run_jobs(handle: flux.Flux, broker: BrokerThread) -> None:
    """Runs jobs, to where they are stored too."""
    jobspec = JobspecV1.from_command(["true"])
    jobspec.setattr("system.exec.test.run_duration", "0.001s")
    futures = [flux.job.submit_async(handle, jobspec, waitable=True) for _ in range(JOBS)]
    for future in futures:
        future.get_id()
    for _ in futures:
        flux.job.wait(handle)
    manager: Any = broker.broker.modules["job-manager"].instance
    kvs: Any = broker.broker.modules["kvs"].instance
    until(lambda: not broker.call(lambda: manager.engine.jobs or manager.batch.log or manager.batch.under_way))
    until(lambda: list(broker.call(lambda: kvs.spaces)) == ["primary"])
    handle.rpc("content.flush").get()


def test_of_jobs_that_have_ended_nothing_is_left_but_what_is_told_of_them(broker: BrokerThread) -> None:
    kvs: Any = broker.broker.modules["kvs"].instance
    content: Any = broker.broker.modules["content"].instance
    gc.collect()
    elsewhere = census()

    def round() -> tuple[Counter[type], int]:
        """What there is after more jobs, but for what is in caches, which are bounded."""
        with broker.open() as handle:
            run_jobs(handle, broker)
        found = broker.call(census)
        # What is in caches is all that there is of its kind.
        known = broker.call(lambda: list(kvs.directories._known.values()))
        assert found[Directory] - elsewhere[Directory] <= len(known)
        assert found[Transaction] - elsewhere[Transaction] <= 1
        assert found[Entry] - elsewhere[Entry] <= len(content.cache.clean) + len(content.cache.dirty)
        del known
        broker.call(kvs.directories.clear)
        broker.call(content.cache.drop)
        broker.call(broker.broker.router._matches.clear)
        return broker.call(census), broker.call(sys.getallocatedblocks)

    for _ in range(2):
        before, blocks = round()
    after, more = round()
    # A client's link keeps some weak references to answers that have been read.
    kinds = after.keys() - {weakref.ReferenceType}
    grown = {kind.__qualname__: after[kind] - before[kind] for kind in kinds if after[kind] - before[kind] > JOBS // 6}
    assert grown == {}
    assert (more - blocks) / JOBS < PIECES
