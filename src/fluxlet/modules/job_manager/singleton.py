"""The dependency `singleton`: no other job of the same user and name at the same time (spec 06, section 8)."""

from __future__ import annotations

from typing import Any

from fluxlet.modules.job_manager.engine import Engine
from fluxlet.modules.job_manager.job import Job
from fluxlet.modules.job_manager.jobspec import Dependency
from fluxlet.modules.job_manager.machine import State

SINGLETON = "singleton"


class _Group:
    """Jobs of one user and name: how many take their course, and which wait for them to end."""

    __slots__ = ("count", "waiting")

    def __init__(self) -> None:
        self.count = 0
        self.waiting: list[Job] = []


class Singleton:
    """See the module."""

    SCHEMES = (SINGLETON,)

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.groups: dict[tuple[int, str], _Group] = {}

    def add(self, job: Job, dependency: Dependency) -> None:
        """A new job is to be the only one of its name. Raises ValueError with the text for the submitter."""
        name = job.spec.name
        if name is None:
            raise ValueError("singleton jobs require a job name")
        group = self.groups.get((job.userid, name))
        if group is not None and (group.count or group.waiting):
            self.engine.add_dependency(job, SINGLETON)

    def restore(self, job: Job, dependency: Dependency) -> None:
        """A job that was in DEPEND: whether it waits, its dependencies tell `accepted`."""

    def accepted(self, job: Job) -> None:
        """A job is accepted, or there again after a restart."""
        name = job.spec.name
        if name is None:
            return
        group = self.groups.setdefault((job.userid, name), _Group())
        if SINGLETON in job.dependencies:
            group.waiting.append(job)
            group.waiting.sort(key=lambda each: each.id)
        else:
            group.count += 1

    def ended(self, job: Job) -> None:
        """A job has ended: the oldest of those that wait may go on."""
        name = job.spec.name
        group = None if name is None else self.groups.get((job.userid, name))
        if name is None or group is None:
            return
        if job in group.waiting:
            group.waiting.remove(job)
        else:
            group.count -= 1
        self._release(group)
        if not group.count and not group.waiting:
            del self.groups[job.userid, name]

    def _release(self, group: _Group) -> None:
        while not group.count and group.waiting:
            job = group.waiting.pop(0)
            group.count += 1
            if job.state is State.DEPEND:
                self.engine.remove_dependency(job, SINGLETON)

    def settle(self) -> None:
        """All jobs are there again after a restart: those that nobody stands in the way of go on."""
        for group in self.groups.values():
            self._release(group)

    def query(self) -> dict[str, Any]:
        """For job-manager.jobtap-query."""
        return {
            f"{userid}:{name}": {"count": group.count, "singletons": [job.id for job in group.waiting]}
            for (userid, name), group in self.groups.items()
        }
