"""What is done with jobs when the initial program has ended (spec 03, 7.3).

Those that run are canceled, those that wait stay, and the instance goes on when none runs any more. The reference has
four commands for that, which rc1 adds to the entry `cleanup` of `runat`; here it is four requests, after the commands
that users have added.
"""

from __future__ import annotations

import errno
from syslog import LOG_INFO
from typing import Any

from flux.constants import FLUX_JOB_STATE_RUN
from flux.core.handle import Flux
from fluxlet.broker.log import Log

_REQUESTS: tuple[tuple[str, dict[str, Any] | None], ...] = (
    # Not to be remembered: the next run of the instance begins with queues as they were.
    ("job-manager.queue-start", {"start": False, "all": True, "nocheckpoint": True, "reason": "the instance ends"}),
    ("resource.acquire-mute", None),
    (
        "job-manager.raiseall",
        {"dry_run": False, "userid": -1, "states": FLUX_JOB_STATE_RUN, "severity": 0, "type": "cancel", "note": ""},
    ),
    ("job-manager.idle", None),
)


async def end_jobs(handle: Flux, log: Log) -> int:
    """Returns an exit code when no job runs any more. What is not there need not be told."""
    for topic, payload in _REQUESTS:
        try:
            answer = await handle.rpc(topic, payload)
        except OSError as exc:
            if exc.errno == errno.ENOSYS:
                continue
            log.write(LOG_INFO, f"cleanup: {topic}: {exc.strerror}")
            return 1
        if topic == "job-manager.raiseall" and answer["count"]:
            log.write(LOG_INFO, f"cleanup: canceled {answer['count']} job{'s' if answer['count'] > 1 else ''}")
    return 0
