"""The dependency `begin-time`: not before a time (spec 06, section 8)."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from time import time
from typing import Any

from fluxlet.modules.job_manager.engine import Engine
from fluxlet.modules.job_manager.job import Job
from fluxlet.modules.job_manager.jobspec import Dependency

#: Clocks are set: a time that is further off is looked at again after this many seconds.
_LONGEST = 3600.0


class BeginTime:
    """See the module.

    Args:
        engine: the engine.
        timer: calls back once, after so many seconds; what it returns has `stop`.
    """

    SCHEMES = ("begin-time",)

    def __init__(self, engine: Engine, timer: Callable[[float, Callable[[], None]], Any]) -> None:
        self.engine = engine
        self._start_timer = timer
        self._due: dict[int, tuple[str, Job]] = {}
        self._heap: list[tuple[float, int]] = []
        self._timer: Any = None

    def add(self, job: Job, dependency: Dependency) -> None:
        """A new job is not to begin before a time. Raises ValueError with the text for the submitter."""
        value = dependency.value
        try:
            when = float(value)
        except ValueError:
            when = -1.0
        if not 0 <= when < math.inf:
            raise ValueError(f"Invalid begin-time={value}")
        description = f"begin-time={when:.3f}"
        self.engine.add_dependency(job, description)
        if when <= time():
            self.engine.remove_dependency(job, description)
        else:
            self._wait(job, when, description)

    def restore(self, job: Job, dependency: Dependency) -> None:
        """A job that was in DEPEND may still have to wait."""
        when = float(dependency.value)
        description = f"begin-time={when:.3f}"
        if description in job.dependencies:
            self._wait(job, when, description)

    def _wait(self, job: Job, when: float, description: str) -> None:
        self._due[job.id] = (description, job)
        heapq.heappush(self._heap, (when, job.id))
        if self._heap[0][1] == job.id:
            self._arm()

    def ended(self, job: Job) -> None:
        """A job has ended."""
        self._due.pop(job.id, None)

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self._heap:
            after = self._heap[0][0] - time()
            self._timer = self._start_timer(min(max(after, 0.0), _LONGEST), self._fire)

    def _fire(self) -> None:
        self._timer = None
        now = time()
        while self._heap and self._heap[0][0] <= now:
            _, jobid = heapq.heappop(self._heap)
            due = self._due.pop(jobid, None)
            if due is not None:
                self.engine.remove_dependency(due[1], due[0])
        self._arm()

    def stop(self) -> None:
        """Lets go of the timer."""
        if self._timer is not None:
            self._timer.stop()
