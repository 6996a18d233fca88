"""What the scheduler is asked, and in which order."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fluxlet.modules.job_manager.alloc import Alloc
from fluxlet.modules.job_manager.job import Job, new_job
from fluxlet.modules.job_manager.jobspec import read

JOBSPEC = b'{"attributes":{"system":{"duration":0}}}'


class Scheduler:
    """Writes down what it gets."""

    def __init__(self) -> None:
        self.got: list[tuple[str, Any]] = []

    def request(self, topic: bytes, payload: bytes) -> None:
        self.got.append((topic.decode().partition(".")[2], json.loads(payload[:-1])))

    tell = request

    def enter(self, job: Job) -> bool:
        return False

    def give_back(self, jobid: int, R: bytes, final: bool) -> bool:
        return False

    def take(self) -> list[tuple[str, Any]]:
        """What it got, ids for all but lists."""
        got, self.got = self.got, []
        return [(method, payload.get("id", payload.get("jobs"))) for method, payload in got]


def job(jobid: int, priority: int = 16) -> Job:
    made = new_job(jobid, 0, 16, 0, 1.0, JOBSPEC, read(JOBSPEC))
    made.priority = priority
    return made


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler()


@pytest.fixture
def alloc(scheduler: Scheduler) -> Alloc:
    return Alloc(scheduler, lambda each: True)


def test_the_best_go_first_and_equals_in_order_of_id(alloc: Alloc, scheduler: Scheduler) -> None:
    for each in (job(3), job(1), job(2, 20), job(4, 0)):
        alloc.enqueue(each)
    assert not scheduler.take()
    assert alloc.begin(None) == 3
    alloc.pump()
    assert scheduler.take() == [("alloc", 2), ("alloc", 1), ("alloc", 3)]


def test_with_a_limit_the_lowest_makes_room_for_a_better_one(alloc: Alloc, scheduler: Scheduler) -> None:
    alloc.begin(2)
    low, middle, high = job(1, 10), job(2, 20), job(3, 30)
    alloc.enqueue(low)
    alloc.enqueue(middle)
    assert scheduler.take() == [("alloc", 1), ("alloc", 2)]
    alloc.enqueue(high)
    alloc.enqueue(job(4, 5))
    assert scheduler.take() == [("cancel", 1)]
    assert alloc.answered(1) is low
    low.pending = False
    alloc.enqueue(low)
    assert scheduler.take() == [("alloc", 3)]
    assert [each.id for each in alloc.in_order()] == [1, 4]


def test_a_job_that_changes_its_priority_in_the_queue_changes_its_place(alloc: Alloc, scheduler: Scheduler) -> None:
    first, second = job(1), job(2)
    alloc.enqueue(first)
    alloc.enqueue(second)
    second.priority = 17
    alloc.reorder(second)
    assert [each.id for each in alloc.in_order()] == [2, 1]
    alloc.begin(None)
    alloc.pump()
    assert scheduler.take() == [("alloc", 2), ("alloc", 1)]
    with alloc.together():
        for each in (first, second):
            each.priority = 3
            alloc.reorder(each)
    assert scheduler.take() == [("prioritize", [[1, 3], [2, 3]])]
    first.priority = 0
    alloc.reorder(first)
    alloc.reorder(first)
    assert scheduler.take() == [("cancel", 1)]


def test_a_scheduler_that_goes_leaves_the_jobs_it_had(alloc: Alloc, scheduler: Scheduler) -> None:
    alloc.begin(None)
    one, two = job(1), job(2)
    alloc.enqueue(one)
    alloc.enqueue(two)
    alloc.abandon(two)
    scheduler.take()
    alloc.lose()
    assert [each.id for each in alloc.in_order()] == [1]
    assert not alloc.pending
    assert alloc.begin(None) == 1


def test_what_is_freed_while_the_scheduler_gets_ready_is_not_forgotten(alloc: Alloc, scheduler: Scheduler) -> None:
    alloc.free(1, b"{}")
    alloc.greet()
    alloc.free(2, b"{}")
    assert not scheduler.take()
    alloc.begin(None)
    assert scheduler.take() == [("free", 2)]
    alloc.lose()
    alloc.free(3, b"{}")
    alloc.begin(None)
    assert not scheduler.take()
