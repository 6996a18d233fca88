"""Many jobs that have ended: the journal tells of all of them, and others are served meanwhile."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from in_process import BrokerThread, outcome, receive, tell

import flux
from flux.constants import FLUX_MSGFLAG_STREAMING
from flux.job import JobID, JobspecV1
from fluxlet.modules.job_manager.base import AT_ONCE

MANY = 3 * AT_ONCE + 7


@pytest.fixture
def ended(handle: flux.Flux) -> list[JobID]:
    """Jobs that have ended, in that order."""
    jobspec = JobspecV1.from_command(["true"])
    futures = [flux.job.submit_async(handle, jobspec, urgency=0, waitable=True) for _ in range(MANY)]
    ids = [future.get_id() for future in futures]
    ids = [*ids[1::2], *ids[::2]]
    for jobid in ids:
        flux.job.cancel(handle, jobid)
    for _ in ids:
        flux.job.wait(handle)
    return ids


@contextmanager
def at_once(broker: BrokerThread) -> Iterator[None]:
    """What is sent meanwhile the broker reads together."""
    entered, left = threading.Event(), threading.Event()

    def stand_still() -> None:
        entered.set()
        left.wait()

    thread = threading.Thread(target=lambda: broker.call(stand_still))
    thread.start()
    entered.wait()
    yield
    left.set()
    thread.join()


def ask_for_journal(handle: flux.Flux, matchtag: int) -> None:
    tell(handle, "job-manager.events-journal", {"full": True}, flags=FLUX_MSGFLAG_STREAMING, matchtag=matchtag)


def test_others_are_served_while_the_past_is_told(
    handle: flux.Flux, broker_thread: BrokerThread, ended: list[JobID]
) -> None:
    with at_once(broker_thread):
        ask_for_journal(handle, 5)
        tell(handle, "job-manager.getinfo", None, matchtag=6)
    told: list[int] = []
    before = None
    while -1 not in told:
        message = receive(handle)
        if message.aux2 == 5:
            told.append(message.payload["id"])
            assert told[-1] == -1 or message.payload["events"][-1]["name"] == "clean"
        else:
            before = len(told)
    assert told == [*ended, -1]
    assert before is not None
    assert before < MANY


def test_what_happens_while_the_past_is_told_is_told_once(
    handle: flux.Flux, broker_thread: BrokerThread, ended: list[JobID], submit: Callable[..., JobID]
) -> None:
    last = submit(urgency=0)
    with at_once(broker_thread):
        ask_for_journal(handle, 5)
        # The last of them has not been told yet.
        tell(handle, "job-manager.purge-id", {"id": ended[-1], "force": True}, matchtag=6)
        tell(handle, "job-manager.raise", {"id": last, "type": "cancel", "severity": 0}, matchtag=7)
    told: list[int] = []
    while -1 not in told:
        message = receive(handle)
        if message.aux2 == 5:
            told.append(message.payload["id"])
    assert told == [*ended[:-1], last, -1]


def test_who_cancels_the_journal_is_not_told_the_rest(
    handle: flux.Flux, broker_thread: BrokerThread, ended: list[JobID]
) -> None:
    with at_once(broker_thread):
        ask_for_journal(handle, 5)
        tell(handle, "job-manager.events-journal-cancel", {"matchtag": 5}, matchtag=6)
    count = 0
    while outcome(message := receive(handle))[0] == 0:
        count += message.aux2 == 5
    assert outcome(message) == (errno.ENODATA, None)
    assert count < MANY
    # Nor of what comes later.
    assert handle.rpc("job-manager.stats-get").get()["journal"]["listeners"] == 1


def test_whose_connection_ends_is_not_told_the_rest(
    handle: flux.Flux, ended: list[JobID], broker_thread: BrokerThread
) -> None:
    other = broker_thread.open()
    ask_for_journal(other, 5)
    receive(other)
    other.handle = None
    tell(handle, "job-manager.getinfo", None, matchtag=6)
    receive(handle)
    assert handle.rpc("job-manager.stats-get").get()["journal"]["listeners"] == 1
