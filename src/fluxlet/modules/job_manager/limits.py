"""What a jobspec may ask for: policy limits of size and duration, and the instance's own end (spec 06, 10.4). Pure.

All raise ValueError with the text for the submitter.
"""

from __future__ import annotations

from fluxlet.modules.job_manager.jobspec import Counts, counts
from fluxlet.modules.job_manager.policy import Settings

_UNITS = ((0.1, 0.001, "ms"), (60.0, 1.0, "s"), (3600.0, 60.0, "m"), (86400.0, 3600.0, "h"))


def duration_text(seconds: float) -> str:
    """Seconds as the reference's limits print them: two digits and a unit."""
    for below, unit, suffix in _UNITS:
        if seconds < below:
            return f"{seconds / unit:.2g}{suffix}"
    return f"{seconds / 86400:.2g}d"


def _queue_text(queue: str | None) -> str:
    return "" if queue is None else f" for queue {queue}"


def check_size(settings: Settings, queue: str | None, jobspec: bytes) -> None:
    """Checks nodes, cores and GPUs."""
    if not settings.limits_sizes:
        return
    found: Counts = counts(jobspec)
    for bound, sign, words in (("most", 1, "exceeds policy limit of"), ("least", -1, "is under policy limit of")):
        for size in ("nnodes", "ncores", "ngpus"):
            limit = settings.size_limit(queue, bound, size)
            value = getattr(found, size)
            if limit is not None and sign * value > sign * limit:
                raise ValueError(f"requested {size} ({value}) {words} {limit}{_queue_text(queue)}")


def check_duration(settings: Settings, queue: str | None, duration: float) -> None:
    """Checks the duration, in seconds; 0 is unlimited."""
    limit = settings.duration_limit(queue) if settings.limits_durations else 0.0
    if limit and not 0 < duration <= limit:
        text = duration_text(duration) if duration else "unlimited"
        raise ValueError(
            f"requested duration ({text}) exceeds policy limit of {duration_text(limit)}{_queue_text(queue)}"
        )


def check_lifetime(duration: float, left: float | None) -> None:
    """Checks that the instance lives as long as the job may; `left` seconds, None for ever."""
    if left is not None and duration > 0 and duration > left:
        raise ValueError(
            f"job duration ({duration_text(duration)}) exceeds remaining instance lifetime ({duration_text(left)})"
        )
