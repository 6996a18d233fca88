"""Which jobs are too big to be submitted directly: what `require-instance` goes by (spec 06, 4.4). Pure."""

from __future__ import annotations

from typing import Any

from flux.job.Jobspec import Jobspec

_CORES_PER_NODE = 16


def refusal(jobspec: dict[str, Any], minnodes: int, mincores: int | None) -> str | None:
    """Why a job is refused, for the submitter; None for one that is not.

    Args:
        jobspec: a valid one, as an object.
        minnodes: jobs of so many nodes are too big; 0: no such bound.
        mincores: or of so many cores; None: 16 for each of `minnodes`.
    """
    spec = Jobspec(**jobspec)
    if mincores is None:
        mincores = _CORES_PER_NODE * minnodes
    command = spec.tasks[0]["command"] if spec.tasks else []
    if command[:2] in (["flux", "broker"], ["flux", "start"]) or "batch" in spec.attributes.get("system", {}):
        return None
    counts = spec.resource_counts()
    if not (minnodes and counts.get("node", 0) >= minnodes) and counts.get("core", 0) < mincores:
        return None
    bound = f">= {minnodes} nodes or {mincores} cores" if minnodes else f">= {mincores} cores"
    which = f"for jobs {bound}" if minnodes or mincores else "for all jobs in this instance"
    return f"Direct job submission disabled {which}. Please use flux-batch(1) or flux-alloc(1)"
