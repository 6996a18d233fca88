"""The order of active jobs, which is made when it is asked for."""

from __future__ import annotations

import random

from fluxlet.modules.job_list.job import Job
from fluxlet.modules.job_list.order import Ordered


def job(jobid: int, priority: int) -> Job:
    return Job(jobid, 0, 16, 0.0, priority=priority)


def test_whatever_comes_and_goes_the_order_is_that_of_the_keys() -> None:
    rng = random.Random(7)
    ordered = Ordered(lambda job: (-(job.priority or 0), job.id))
    there: list[Job] = []
    for number in range(2000):
        if there and rng.random() < 0.4:
            gone = there.pop(rng.randrange(len(there)))
            ordered.remove(gone)
        else:
            new = job(number, rng.choice([0, 16, 16, 16, 31]))
            there.append(new)
            ordered.add(new)
        if rng.random() < 0.1:
            assert ordered.jobs == sorted(there, key=lambda job: (-(job.priority or 0), job.id))
        assert len(ordered) == len(there)
    for one in there:
        ordered.remove(one)
    assert ordered.jobs == []


def test_a_list_is_the_callers_own() -> None:
    ordered = Ordered(lambda job: (0, job.id))
    for number in (3, 1, 2):
        ordered.add(job(number, 0))
    before = ordered.jobs
    assert [one.id for one in before] == [1, 2, 3]
    ordered.remove(before[0])
    ordered.add(job(4, 0))
    assert [one.id for one in before] == [1, 2, 3]
    assert [one.id for one in ordered.jobs] == [2, 3, 4]
