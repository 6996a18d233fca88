"""How many jobs there are (spec 08, 2.6 and 3.4).

stats = flux.job.stats.JobStats(h).update_sync()
print(stats.running, stats.pending, stats.failed)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self

from flux.core.handle import Flux
from flux.rpc import RPC

__all__ = ["JobStats"]


class JobStats:
    """Counts of jobs, -1 before they were asked for.

    Args:
        handle: whom to ask.
        queue: count the jobs of this queue, or of these.

    Attributes:
        depend, priority, sched, run, cleanup, inactive, total: by state.
        successful, failed, timeout, canceled: inactive jobs by result; `failed` has those canceled and timed out, too.
        inactive_purged: forgotten.
        pending, running, active: by groups of states.
    """

    states = ("depend", "priority", "sched", "run", "cleanup", "inactive", "total")
    stats = ("successful", "failed", "timeout", "canceled", "inactive_purged")
    derived_stats = ["pending", "running", "active"]

    depend: int
    priority: int
    sched: int
    run: int
    cleanup: int
    inactive: int
    total: int
    successful: int
    failed: int
    timeout: int
    canceled: int
    inactive_purged: int
    pending: int
    running: int
    active: int

    class QueueStats:
        """The counts of one answer, or of one queue in it, or of sums of them."""

        def __init__(self, counts: dict[str, Any] | None = None) -> None:
            self.counts = dict.fromkeys((*JobStats.states, *JobStats.stats), 0)
            if counts is not None:
                self.add(counts)

        def add(self, counts: dict[str, Any]) -> None:
            """Adds the counts of a queue."""
            for name in self.counts:
                source = counts["job_states"] if name in JobStats.states else counts
                self.counts[name] += source.get(name, 0)

    def __init__(self, handle: Flux, queue: str | Iterable[str] | None = None) -> None:
        self.handle = handle
        self.queues = [queue] if isinstance(queue, str) else list(queue or ())
        self.callback: Callable[..., Any] | None = None
        self.cb_kwargs: dict[str, Any] = {}
        for name in (*self.states, *self.stats, *self.derived_stats):
            setattr(self, name, -1)

    def take(self, answer: dict[str, Any]) -> None:
        """Takes the counts of a response of job-list.job-stats. Raises ValueError as `update_sync`."""
        if self.queues:
            by_name = {entry.get("name"): entry for entry in answer.get("queues", ())}
            sums = self.QueueStats()
            for name in self.queues:
                if name not in by_name:
                    raise ValueError(f"no stats available for queue {name}")
                sums.add(by_name[name])
        else:
            sums = self.QueueStats(answer)
        counts = sums.counts
        counts["failed"] += counts["timeout"] + counts["canceled"]
        for name, count in counts.items():
            setattr(self, name, count)
        self.pending = self.depend + self.priority + self.sched
        self.running = self.run + self.cleanup
        self.active = self.pending + self.running

    def _ask(self) -> RPC:
        return self.handle.rpc("job-list.job-stats", {})

    def _answered(self, rpc: RPC) -> None:
        self.take(rpc.get())
        if self.callback is not None:
            self.callback(self, **self.cb_kwargs)

    def update(self, callback: Callable[..., Any] | None = None, **kwargs: Any) -> None:
        """Asks for the counts; does not wait. When they are there, calls ``callback(self, **kwargs)``."""
        self.callback, self.cb_kwargs = callback, kwargs
        self._ask().then(self._answered)

    def update_sync(self) -> Self:
        """Asks for the counts, and waits; returns self. Raises ValueError for a queue that nobody has heard of."""
        self.take(self._ask().get())
        return self
