"""What the schedulers tell of themselves and of the resources, to whoever asks."""

from __future__ import annotations

from time import monotonic
from typing import Any

from flux.resource._pool import Pool
from flux.resource.Rv1Set import Node, Rv1Set


class Passes:
    """How often was planned, and how long that took."""

    def __init__(self) -> None:
        self.forecasts = 0
        self._count = 0
        self._duration = self._interval = 0.0  # means that forget, in seconds
        self._last = 0.0

    def done(self, began: float) -> None:
        """A pass that began at that time is over."""
        took = monotonic() - began
        weight = 0.25 if self._count else 1.0
        self._duration += weight * (took - self._duration)
        if self._count:
            self._interval += weight * (began - self._last - self._interval)
        self._last = began
        self._count += 1

    def stats(self, pending: int) -> dict[str, Any]:
        """As stats-get answers; `pending` jobs wait."""
        return {
            "sched_passes": self._count,
            "sched_yields": 0,
            "forecast_passes": self.forecasts,
            "forecast_yields": 0,
            "sched_delay": 0.0,
            "sched_duration_ewma": self._duration,
            "sched_interval_ewma": self._interval,
            "pending_jobs": pending,
        }


def resource_status(resources: Rv1Set, pool: Pool) -> dict[str, Any]:
    """As sched.resource-status answers: all there is, what jobs have of it, and what is down."""
    allocated = Rv1Set()
    for job in pool.jobs.values():
        for rank, cores, gpus in job.grants.values():
            node = allocated.nodes.setdefault(rank, Node(0, 0, None))
            node.cores |= cores
            node.gpus |= gpus
    allocated.properties = {
        name: ranks & allocated.nodes.keys() for name, ranks in resources.properties.items() if not name.startswith("+")
    }
    down = resources.copy_ranks([rank for rank in resources.nodes if not pool.up >> rank & 1]).to_dict()
    down["execution"].pop("nodelist", None)
    everything = resources.to_dict()
    everything.pop("scheduling", None)
    return {"all": everything, "allocated": allocated.to_dict(), "down": down}
