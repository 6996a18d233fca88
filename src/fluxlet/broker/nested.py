"""An instance that is a job of another one introduces itself there (spec 04, section 6). Rank 0, before rc1.

Rules:
- Others find the instance by what the memo says: without it there is no use in going on.
- Which of the job's nodes it cannot do without is told as well; an instance that has no use for that may not know it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from flux.core.handle import Flux
from flux.idset import IDset
from flux.job.JobID import JobID
from fluxlet.overlay.bootstrap.mapping import Mapping as Taskmap

#: Seconds to wait for an answer of the enclosing instance.
_PATIENCE = 60.0


def critical_nodes(ranks: str, mapping: str | None, size: int) -> str:
    """The nodes of critical ranks, as an idset; without a mapping, a rank is a node.

    Args:
        ranks: an idset.
        mapping: a taskmap, in JSON.
        size: of the instance.
    """
    taskmap = None if mapping is None else Taskmap.parse_taskmap(mapping, size)
    if taskmap is None:
        return str(IDset(ranks))
    return str(IDset(sorted({taskmap.node(rank) for rank in IDset(ranks)})))


def introduce(attributes: Mapping[str, str]) -> None:
    """Tells the enclosing instance where this one is. Raises OSError with the text for the user.

    Args:
        attributes: of the broker; jobid and parent-uri are among them.
    """
    path = os.path.abspath(attributes["local-uri"].removeprefix("local://"))
    jobid = int(JobID(attributes["jobid"]))
    memo = {"id": jobid, "memo": {"uri": f"ssh://{attributes['hostname']}{path}"}}
    nodes = critical_nodes(
        attributes["broker.critical-ranks"], attributes.get("broker.mapping"), int(attributes["size"])
    )
    with Flux(attributes["parent-uri"]) as parent:
        parent.rpc("job-manager.memo", memo).wait_for(_PATIENCE).get()
        try:
            parent.rpc("job-exec.critical-ranks", {"id": jobid, "ranks": nodes}).wait_for(_PATIENCE).get()
        except OSError as exc:
            if exc.errno != errno.ENOSYS:
                raise
