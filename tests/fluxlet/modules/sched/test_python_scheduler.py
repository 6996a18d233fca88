"""Schedulers written in Python, run as modules, in conversation with their partners (spec 07, 8.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import BrokerThread, error_of
from sched_partners import Partners, inventory, partners, said

FIFO = """
import heapq

from flux.scheduler import InsufficientResources, Scheduler


class Fifo(Scheduler):
    queue_depth = 4

    def schedule(self):
        while self._queue:
            job = self._queue[0]
            try:
                R = self.resources.alloc(job.jobid, job.resource_request)
            except InsufficientResources:
                for ahead, waiting in enumerate(sorted(self._queue)):
                    waiting.request.annotate({"sched": {"jobs_ahead": ahead}})
                return
            heapq.heappop(self._queue)
            job.request.success(R)
"""

STEPS = '''
from flux.scheduler import Scheduler


class Steps(Scheduler):
    """Denies everybody, one at a time."""

    def schedule(self):
        while self.queue:
            self.queue.pop(0).request.deny("no")
            yield

    def forecast(self):
        yield
'''


def jobspec(slots: int, **system: Any) -> dict[str, Any]:
    resources = [{"type": "slot", "count": slots, "label": "task", "with": [{"type": "core", "count": 1}]}]
    return {"version": 1, "resources": resources, "tasks": [], "attributes": {"system": system}}


def ask_for(played: Partners, jobid: int, slots: Any = 1, priority: int = 16, **system: Any) -> None:
    request = {"id": jobid, "priority": priority, "userid": 0, "t_submit": 1.0, "jobspec": jobspec(slots, **system)}
    played.tell("sched.alloc", request)


def answer(played: Partners, jobid: int) -> dict[str, Any]:
    payload: dict[str, Any] = said(played.expect("sched.alloc", jobid))
    return payload


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    def write(name: str, source: str) -> str:
        path = tmp_path / f"{name}.py"
        path.write_text(source)
        return str(path)

    return write


@pytest.fixture
def fifo(start_broker: Callable[..., BrokerThread], write: Callable[[str, str], str]) -> Iterator[Partners]:
    with partners(start_broker(), write("fifo", FIFO)) as played:
        played.load()
        played.begin(inventory("0", "0-1"), "0")
        assert played.ready() == {"mode": "limited", "limit": 4}
        yield played


def test_a_job_gets_resources_when_r_is_written(fifo: Partners) -> None:
    ask_for(fifo, 7, 2, duration=60.0)
    (key, r), *_ = fifo.commit().items()
    assert key == "job.0000.0000.0000.0007.R"
    told = answer(fifo, 7)
    assert (told["type"], told["R"]) == (0, r)
    assert told["annotations"] == {"sched": {"resource_summary": "rank0/core[0-1]"}}
    assert r["execution"]["expiration"] - r["execution"]["starttime"] == 60.0


def test_who_waits_is_told_and_gets_what_comes_back(fifo: Partners) -> None:
    ask_for(fifo, 1, 2)
    r = next(iter(fifo.commit().values()))
    assert answer(fifo, 1)["type"] == 0
    ask_for(fifo, 2)
    assert answer(fifo, 2) == {"id": 2, "type": 1, "annotations": {"sched": {"jobs_ahead": 0}}}
    fifo.tell("sched.free", {"id": 1, "R": r, "final": True})
    fifo.commit()
    told = answer(fifo, 2)
    assert told["annotations"] == {"sched": {"jobs_ahead": None, "resource_summary": "rank0/core0"}}


def test_cancel_prioritize_and_deny(fifo: Partners) -> None:
    ask_for(fifo, 1, 2)
    r = next(iter(fifo.commit().values()))
    answer(fifo, 1)
    for jobid in (2, 3, 4):
        ask_for(fifo, jobid)
        while answer(fifo, jobid)["type"] != 1:
            pass
    fifo.tell("sched.cancel", {"id": 2})
    fifo.tell("sched.prioritize", {"jobs": [[4, 20]]})
    ask_for(fifo, 5, 3)
    while (told := answer(fifo, 2))["type"] == 1:
        pass
    assert told == {"id": 2, "type": 3}
    assert answer(fifo, 5)["note"].startswith("unsatisfiable request: need 3 slot(s)")
    ask_for(fifo, 6, 0)
    assert answer(fifo, 6)["note"] == "cannot parse jobspec: RFC 14 count: integer count must be >= 1, got 0"
    ask_for(fifo, 8, 1, constraints={"bogus": []})
    assert answer(fifo, 8)["note"] == "cannot parse jobspec: unknown constraint operator 'bogus'"
    fifo.tell("sched.free", {"id": 1, "R": r, "final": True})
    assert list(fifo.commit()) == ["job.0000.0000.0000.0004.R"]  # by priority
    assert list(fifo.commit()) == ["job.0000.0000.0000.0003.R"]


def test_what_anybody_may_ask(fifo: Partners) -> None:
    handle = fifo.control
    handle.rpc("feasibility.check", {"jobspec": jobspec(2)}).get()
    assert error_of(lambda: handle.rpc("feasibility.check", {"jobspec": jobspec(3)}).get())[0] == 75
    assert error_of(lambda: handle.rpc("feasibility.check", {}).get()) == (22, "jobspec has no resources")
    status = handle.rpc("sched.resource-status").get()
    assert [len(status[state]["execution"]["R_lite"]) for state in ("all", "allocated", "down")] == [1, 0, 0]
    assert error_of(lambda: handle.rpc("sched.expiration", {"id": 1, "expiration": -1.0}).get())[0] == 22
    handle.rpc("sched.expiration", {"id": 1, "expiration": 5.0}).get()
    stats = handle.rpc("fifo.stats-get").get()
    assert stats["pending_jobs"] == 0
    assert stats["sched_passes"] > 0


def test_resources_come_and_go(fifo: Partners) -> None:
    fifo.answer("resource.acquire", {"down": "0"})
    ask_for(fifo, 1)
    assert answer(fifo, 1)["type"] == 1
    fifo.answer("resource.acquire", {"up": "0", "expiration": 2000000000.5})
    (r,) = fifo.commit().values()
    assert r["execution"]["expiration"] == 2000000000.5


def test_generators_take_turns_with_the_rest(
    start_broker: Callable[..., BrokerThread], write: Callable[[str, str], str]
) -> None:
    with partners(start_broker(), write("steps", STEPS)) as played:
        played.load("queue-depth=9", "log-level=info")
        played.begin(inventory("0", "0-1"), "0")
        assert played.ready() == {"mode": "limited", "limit": 9}
        for jobid in range(1, 6):
            ask_for(played, jobid)
        assert [answer(played, jobid)["type"] for jobid in range(1, 6)] == [2] * 5
        assert played.control.rpc("steps.stats-get").get()["sched_yields"] >= 1


def test_jobs_that_hold_resources_are_taken_in_and_those_that_cannot_fail(
    start_broker: Callable[..., BrokerThread], write: Callable[[str, str], str]
) -> None:
    held = [{"id": number, "priority": 16, "userid": 0, "t_submit": 0.0} for number in (1, 2)]
    held[0]["free"] = "0"  # type: ignore[assignment]
    with partners(start_broker(), write("fifo", FIFO)) as played:
        played.load()
        played.begin(inventory("0-1", "0"), "0-1", held)
        played.answer_lookup(inventory("0-1", "0"))
        played.answer_lookup(inventory("7", "0"))
        told = said(played.expect("job-manager.raise", 2))
        assert told["note"] == "failed to reallocate R for running job"
        played.ready()
        status = played.control.rpc("sched.resource-status").get()
        assert status["allocated"]["execution"]["R_lite"] == [{"rank": "1", "children": {"core": "0"}}]


def test_an_argument_that_is_none_is_refused(
    start_broker: Callable[..., BrokerThread], write: Callable[[str, str], str]
) -> None:
    played = Partners(start_broker(), write("fifo", FIFO))
    assert error_of(lambda: played.load("colour=red"))[0]
    played.control.handle = played.handle.handle = None
