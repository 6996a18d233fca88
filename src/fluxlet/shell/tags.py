"""The values of mustache tags (spec 07, 5.8)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flux.core import fluid
from flux.idset import IDset

if TYPE_CHECKING:
    from fluxlet.shell.job import Job


def value(job: Job, tag: str, index: int | None) -> str | None:
    """The value of `tag`; `index`: local id of the task that it is for, None for none. None: there is no such tag."""
    head, _, rest = tag.partition(".")
    if head in ("id", "jobid"):
        if not rest:
            return job.f58
        encoder = fluid.ENCODERS.get(rest)
        return None if encoder is None else encoder(job.id)
    if head in ("taskid", "task"):
        return _of_task(job, tag, index)
    if head == "node":
        return _of_node(job, rest)
    match tag:
        case "name":
            return job.jobspec.name
        case "nnodes":
            return str(job.size)
        case "size" | "ntasks":
            return str(job.layout.ntasks)
        case "tmpdir":
            return job.tmpdir
    return None


def _of_task(job: Job, tag: str, index: int | None) -> str | None:
    if index is None:
        return None
    if tag in ("taskid", "task.id", "task.rank"):
        return str(job.layout.tasks[job.rank][index])
    if tag in ("task.index", "task.localid"):
        return str(index)
    return None


def _of_node(job: Job, name: str) -> str | None:
    node = job.layout.nodes[job.rank]
    ranks = job.layout.tasks[job.rank]
    match name:
        case "id":
            return str(job.rank)
        case "name":
            return node.host
        case "broker_rank":
            return str(node.rank)
        case "ntasks":
            return str(len(ranks))
        case "taskids":
            return str(IDset(ranks))
        case "cores":
            return str(IDset(list(node.cores)))
        case "gpus":
            return str(IDset(list(node.gpus)))
        case "ncores":
            return str(len(node.cores))
        case "ngpus":
            return str(len(node.gpus))
        case "resources":
            return json.dumps(
                {
                    "ncores": len(node.cores),
                    "cores": str(IDset(list(node.cores))),
                    "ngpus": len(node.gpus),
                    "gpus": str(IDset(list(node.gpus))),
                },
                separators=(",", ":"),
            )
    return None
