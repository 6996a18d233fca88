"""What the frobnicators `defaults` and `constraints` make of a jobspec, and `require-instance` refuses. Pure (4.4)."""

from __future__ import annotations

import errno
from typing import Any

import msgspec

from fluxlet.modules.job_ingest.settings import RequireInstance
from fluxlet.modules.job_manager.jobspec import counts
from fluxlet.modules.job_manager.policy import Settings

_CORES_PER_NODE = 16


def defaults(jobspec: dict[str, Any], settings: Settings) -> None:
    """Fills in what the policy has defaults for. Raises ValueError with the text for the submitter."""
    system = jobspec["attributes"].setdefault("system", {})
    queue = system.get("queue") or settings.policy.defaults.get("queue")
    if settings.queues is not None:
        if queue is None:
            raise ValueError("no queue specified")
        _find(queue, settings)
    if queue is not None:
        system["queue"] = queue
    for key, value in settings.defaults(queue).items():
        if key == "duration":
            if not system.get("duration"):
                system[key] = value
        elif key not in system:
            system[key] = value


def _find(queue: Any, settings: Settings) -> Any:
    if not isinstance(queue, str) or settings.queues is None or queue not in settings.queues:
        raise ValueError(f"Invalid queue '{queue}' specified")
    return settings.queues[queue]


def constraints(jobspec: dict[str, Any], settings: Settings) -> None:
    """Has a job run only where its queue may. Raises ValueError with the text for the submitter."""
    system = jobspec["attributes"].get("system", {})
    queue = system.get("queue")
    if queue is None or settings.queues is None:
        return
    config = _find(queue, settings)
    if config.parent is not None:
        config = settings.queues[config.parent]
    requires = list(config.requires)
    if not requires:
        return
    present = system.get("constraints")
    if isinstance(present, dict) and isinstance(present.get("properties"), list):
        present["properties"] += [name for name in requires if name not in present["properties"]]
    elif present:
        system["constraints"] = {"and": [present, {"properties": requires}]}
    else:
        system["constraints"] = {"properties": requires}


def _is_instance(jobspec: dict[str, Any]) -> bool:
    command = jobspec["tasks"][0]["command"] if jobspec["tasks"] else []
    return command[:2] in (["flux", "broker"], ["flux", "start"]) or "batch" in jobspec["attributes"].get("system", {})


def require_instance(jobspec: dict[str, Any], bounds: RequireInstance) -> None:
    """Refuses big jobs that are not instances of their own. Raises OSError(EINVAL)."""
    minnodes, mincores = bounds.minnodes or 0, bounds.mincores
    if mincores is None:
        mincores = _CORES_PER_NODE * minnodes if minnodes else 0
    if _is_instance(jobspec):
        return
    found = counts(msgspec.json.encode(jobspec))
    if (minnodes and found.nnodes >= minnodes) or found.ncores >= mincores:
        bound = f">= {minnodes} nodes or {mincores} cores" if minnodes else f">= {mincores} cores"
        which = f"for jobs {bound}" if minnodes or mincores else "for all jobs in this instance"
        text = f"Direct job submission disabled {which}. Please use flux-batch(1) or flux-alloc(1)"
        raise OSError(errno.EINVAL, text)
