"""How many jobs there are in which states, with which results, in which queues (spec 08, 2.6)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fluxlet.modules.job_list.job import CANCELED, COMPLETED, FAILED, INACTIVE, LISTED, TIMEOUT, Job

_STATES = {2: "depend", 4: "priority", 8: "sched", 16: "run", 32: "cleanup", 64: "inactive"}
_RESULTS = {COMPLETED: "successful", FAILED: "failed", CANCELED: "canceled", TIMEOUT: "timeout"}


class _Count:
    """The counts of all jobs, or of those of a queue."""

    def __init__(self) -> None:
        self.states = dict.fromkeys(_STATES, 0)
        self.results = dict.fromkeys(_RESULTS, 0)
        self.purged = 0

    def add(self, state: int, result: int, change: int) -> None:
        if state & LISTED:
            self.states[state] += change
        if state == INACTIVE:
            self.results[result] += change

    def move(self, job: Job, state: int) -> None:
        if job.state & LISTED:
            self.states[job.state] -= 1
        self.states[state] += 1
        if state == INACTIVE:  # which it does not leave
            self.results[job.result] += 1

    def told(self) -> dict[str, Any]:
        states = {name: self.states[state] for state, name in _STATES.items()}
        return {
            "job_states": {**states, "total": sum(self.states.values())},
            **{name: self.results[result] for result, name in _RESULTS.items()},
            "inactive_purged": self.purged,
        }


class Counts:
    """Counts of jobs.

    Attributes:
        changes: how often they have changed.
    """

    def __init__(self) -> None:
        self._all = _Count()
        self._queues: dict[str, _Count] = {}
        self.changes = 0

    def configure(self, queues: Iterable[str]) -> None:
        """Tells of these queues, though no job may have been in them."""
        for name in queues:
            self._queues.setdefault(name, _Count())

    def _of(self, queue: str | None) -> list[_Count]:
        return [self._all] if queue is None else [self._all, self._queues.setdefault(queue, _Count())]

    def move(self, job: Job, state: int) -> None:
        """A job is about to go into another state."""
        self.changes += 1
        self._all.move(job, state)
        queue = job.spec.queue
        if queue is not None:
            self._queues.setdefault(queue, _Count()).move(job, state)

    def change_queue(self, job: Job, queue: str | None) -> None:
        """A job is about to go into another queue."""
        if queue != job.spec.queue:
            self.changes += 1
            for count in self._of(job.spec.queue)[1:]:
                count.add(job.state, job.result, -1)
            for count in self._of(queue)[1:]:
                count.add(job.state, job.result, 1)

    def purge(self, job: Job) -> None:
        """An inactive job is forgotten."""
        self.changes += 1
        for count in self._of(job.spec.queue):
            count.add(job.state, job.result, -1)
            count.purged += 1

    def told(self) -> dict[str, Any]:
        """The payload of a job-stats response."""
        queues = [{**count.told(), "name": name} for name, count in self._queues.items()]
        return {**self._all.told(), "queues": queues}
