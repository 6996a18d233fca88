"""Jobs for tests of `job-list`: jobspecs, resources, and stories of what happens to jobs."""

from __future__ import annotations

import json
from typing import Any

from fluxlet.modules.job_list.constraint import Surroundings, parse
from fluxlet.modules.job_list.job import Teller
from fluxlet.modules.job_list.table import Event, Table

AROUND = Surroundings(16, {"small": "batch"})


def jobspec(name: str = "app", queue: str | None = None, **system: Any) -> bytes:
    if queue is not None:
        system["queue"] = queue
    attributes = {"system": {"duration": 0, "job": {"name": name}, **system}}
    slot = {"type": "slot", "count": 1, "label": "task", "with": [{"type": "core", "count": 1}]}
    task = {"command": [name], "slot": "task", "count": {"per_slot": 1}}
    return json.dumps({"resources": [slot], "tasks": [task], "attributes": attributes, "version": 1}).encode()


def r(*ranks: int) -> bytes:
    lite = [{"rank": str(rank), "children": {"core": "0-1"}} for rank in ranks]
    execution = {"R_lite": lite, "nodelist": [f"node{rank}" for rank in ranks], "starttime": 0.0, "expiration": 0.0}
    return json.dumps({"version": 1, "execution": execution}).encode()


class Story:
    """Tells a table what happens, a second after the other."""

    def __init__(self) -> None:
        self.table = Table()
        self.now = 0.0

    def happen(self, jobid: int, name: str, **context: Any) -> None:
        self.now += 1.0
        self.table.apply(jobid, Event(self.now, name, context or None))

    def submit(self, jobid: int, spec: bytes = jobspec(), userid: int = 0) -> None:
        self.now += 1.0
        self.table.apply(jobid, Event(self.now, "submit", {"userid": userid, "urgency": 16}), spec)
        self.happen(jobid, "validate")

    def schedule(self, jobid: int, priority: int = 16) -> None:
        self.happen(jobid, "depend")
        self.happen(jobid, "priority", priority=priority)

    def run(self, jobid: int, resources: bytes = r(0)) -> None:
        self.now += 1.0
        self.table.apply(jobid, Event(self.now, "alloc"), None, resources)

    def end(self, jobid: int, status: int = 0) -> None:
        self.happen(jobid, "finish", status=status)
        self.happen(jobid, "clean")

    def told(self, jobid: int, *attrs: str) -> Any:
        return json.loads(Teller(attrs or ["all"]).tell(self.table.jobs[jobid]))

    def ids(self, constraint: Any = None, **kwargs: Any) -> list[int]:
        found = self.table.matching(parse(constraint or {}, AROUND), **kwargs)
        return [job.id for job in found if job is not None]
