"""Recorded conversations about jobs, held with an instance of ours that schedules and executes for real."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from in_process import BrokerThread
from job_recordings import ANY, Replay
from service_recordings import records

#: Two cores, whatever this machine has.
RESOURCES = {"resource": {"noverify": True, "config": [{"hosts": "node0", "cores": "0-1"}]}}

QUEUES: dict[str, Any] = {
    "queues": {
        "debug": {"policy": {"limits": {"job-size": {"max": {"ncores": 1}}}}},
        "standby": {"parent": "debug", "policy": {"limits": {"duration": "10m"}}},
        "batch": {"policy": {"limits": {"duration": "1h"}}},
    },
    "policy": {"jobspec": {"defaults": {"system": {"duration": "1m", "queue": "batch"}}}},
}

CONFIG = {"jobs-queues": {**RESOURCES, **QUEUES}}

RECORDINGS: dict[str, dict[str, Any]] = {
    "jobs-submit-wait": {},
    "jobs-async-submit": {
        # Which of them ends first is the machine's business.
        "instead": dict.fromkeys((12, 14, 16, 18, 20), ANY),
    },
    "jobs-cancel-pending": {},
    "jobs-cancel-running": {
        # What the shell says of a task that a signal has ended is in order with its status.
        "instead": {39: ANY},
    },
    "jobs-depend-chain": {},
    "jobs-exceptions": {
        "absent": dict.fromkeys((23, 24, 25, 36, 52), "the job may have ended before it gets another exception"),
    },
    "jobs-executor": {
        # Of several keys that are missing, the first in order is named. A command that cannot be started is told of
        # before the start.
        "instead": {5: {"text": "Missing key (attributes)"}, 39: ANY, 40: ANY},
    },
    "jobs-journal": {
        # A memo is told as it was given, whatever was added later (spec 06, 18.11).
        "instead": {84: ANY},
    },
    "jobs-kill": {
        # In the reference it comes after what it comes before.
        "without": ["starting"],
        "absent": dict.fromkeys((76, 77, 78), "it is killed by then, and may have ended"),
    },
    "jobs-memo-update-purge": {
        "instead": {49: ANY},  # as above
    },
    "jobs-queues": {},
    "jobs-result-watch": {},
    "jobs-submit-invalid": {
        # Of several keys that are missing, the first in order is named.
        "instead": {key: {"text": "Missing key (attributes)"} for key in (4, 18)},
    },
    "jobs-urgency": {
        # A job that is held is in no queue.
        "instead": {90: {"queue_length": 0, "alloc_pending": 3, "running": 1}},
    },
    "jobs-wait-any": {
        "instead": {36: ANY},  # the job may have ended
    },
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_conversations(start_broker: Callable[..., BrokerThread], name: str) -> None:
    broker = start_broker({"hostname": "node0", "hostlist": "node0"}, CONFIG.get(name, RESOURCES))
    Replay(broker.open, records(name), **RECORDINGS[name]).run()
