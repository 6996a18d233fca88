"""Recorded conversations of clients that watch jobs, held with an instance of ours that runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from in_process import BrokerThread
from job_recordings import ANY, Replay
from service_recordings import records

from flux.job import JobspecV1, submit, wait

#: Two cores, whatever this machine has.
RESOURCES = {"resource": {"noverify": True, "config": [{"hosts": "node0", "cores": "0-1"}]}}

RECORDINGS: dict[str, dict[str, Any]] = {
    "jobinfo-update-watch": {
        # R as text, with times in it. How many watches of others serve ours is our business.
        "instead": {42: ANY, 44: ANY, 48: ANY},
    },
    "jobinfo-watch-live": {
        # In the reference it comes after what it comes before.
        "without": ["starting"],
        # The output may begin after the request to follow it: then the sentinel is first; or more of it be there by
        # then. Which of two streams ends first is nobody's promise.
        "instead": dict.fromkeys((26, 27, 28, 30, 31), ANY),
    },
    "jobinfo-watch-canceled-pending": {},
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_watching(start_broker: Callable[..., BrokerThread], name: str) -> None:
    broker = start_broker({"hostname": "node0", "hostlist": "node0"}, RESOURCES)
    Replay(broker.open, records(name), **RECORDINGS[name]).run()


def test_guests_who_are_to_see_nothing_of_others(start_broker: Callable[..., BrokerThread]) -> None:
    access = {"access": {"private-mode": True}}
    broker = start_broker({"hostname": "node0", "hostlist": "node0"}, {**RESOURCES, **access})
    handle = broker.open()
    jobid = submit(handle, JobspecV1.from_command(["true"]), waitable=True)
    assert wait(handle, jobid).success
    # A text is better than none.
    replay = Replay(broker.open, records("jobinfo-guest-private"), instead={16: {"text": "job not found"}})
    replay.ids.pair(5721030656, jobid)
    replay.run()
