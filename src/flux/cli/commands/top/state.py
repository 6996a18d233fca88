"""What ``flux top`` knows of an instance: taken from answers, without asking. A queue may be chosen of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from flux.job.info import JobInfo, get_username
from flux.job.stats import JobStats
from flux.resource.list import SchedResourceList

KINDS = ("nodes", "cores", "gpus")


class Amount(NamedTuple):
    """How much there is of one kind of resource."""

    used: int
    down: int
    total: int


class Counts(NamedTuple):
    """How many jobs there are; `failed` has those that were canceled or timed out, too."""

    pending: int = 0
    running: int = 0
    complete: int = 0
    failed: int = 0


class State:
    """What is known of an instance.

    Args:
        queue: show only this one; None: everything.

    Attributes:
        title: which job the instance is; "" if it is none.
        size, level, version, started, expiration: of the instance; times in seconds since the
            epoch, 0.0 if there is none.
        queues: the names of its queues.
        jobs: those that run.
        beats: how many heartbeats there have been.
    """

    def __init__(self, queue: str | None = None) -> None:
        self.queue = queue
        self.title = ""
        self.size = 0
        self.level = 0
        self.version = ""
        self.started = 0.0
        self.expiration = 0.0
        self.queues: list[str] = []
        self.jobs: list[JobInfo] = []
        self.beats = 0
        self._config: dict[str, Any] = {}
        self._stats: dict[str, Any] | None = None
        self._resources: SchedResourceList | None = None
        self._listed = False

    @property
    def complete(self) -> bool:
        """Whether everything has been told once."""
        return self._stats is not None and self._resources is not None and self._listed

    # What was answered.

    def take_config(self, config: dict[str, Any]) -> None:
        """The configuration. Raises ValueError if the queue that is to be shown is not in it."""
        self._config = config.get("queues") or {}
        self.queues = list(self._config)
        if self.queue is not None and self.queue not in self.queues:
            raise ValueError(f"No such queue: {self.queue}")

    def take_stats(self, answer: dict[str, Any]) -> None:
        """Of job-list.job-stats."""
        self._stats = answer

    def take_resources(self, resources: SchedResourceList) -> None:
        """Of resource.sched-status."""
        self._resources = resources

    def take_jobs(self, jobs: list[JobInfo]) -> None:
        """Of job-list.list."""
        self.jobs = jobs
        self._listed = True

    # What is to be shown.

    def next_queue(self, step: int) -> None:
        """Chooses another queue; beyond the last and before the first one are all of them."""
        if not self.queues:
            return
        choices: list[str | None] = [None, *self.queues]
        self.queue = choices[(choices.index(self.queue) + step) % len(choices)]

    def constraint(self) -> dict[str, Any]:
        """Which jobs are shown (RFC 31): those that run."""
        running = {"states": [48]}
        return running if self.queue is None else {"and": [running, {"queue": [self.queue]}]}

    def counts(self) -> Counts:
        """The counts of jobs."""
        if self._stats is None:
            return Counts()
        stats = JobStats(None, self.queue)  # type: ignore[arg-type]  # nobody is asked
        try:
            stats.take(self._stats)
        except ValueError:  # the queue is newer than the counts
            return Counts()
        return Counts(stats.pending, stats.running, stats.successful, stats.failed)

    def amounts(self) -> dict[str, Amount]:
        """The resources, by kind."""
        resources = self._resources
        if resources is None:
            return dict.fromkeys(KINDS, Amount(0, 0, 0))
        if self.queue is not None:
            table = self._config[self.queue]
            requires = self._config.get(table.get("parent"), table).get("requires")
            if requires:
                resources = resources.copy_constraint({"properties": requires})
        sets = (resources.allocated, resources.down, resources.all)
        return {kind: Amount(*(getattr(one, f"n{kind}") for one in sets)) for kind in KINDS}

    def dump(self) -> Iterator[str]:
        """Lines for ``--test-exit-dump``."""
        for name, count in self.counts()._asdict().items():
            yield f"{count} {name}"
        for kind, amount in self.amounts().items():
            yield f"{kind} {amount.used}/{amount.total}"
        for job in self.jobs:
            yield " ".join(map(str, self.row(job)))

    def row(self, job: JobInfo) -> tuple[Any, ...]:
        """What is shown of a job, but for its times: id, queue if there are any, user, state, tasks, nodes, name."""
        queue = (job.queue,) if self.queues else ()
        return (job.id.f58, *queue, get_username(job.userid), job.state_single, job.ntasks, job.nnodes, job.name)
