"""The job manager's side of the protocols with the scheduler and the execution service, against recordings."""

from __future__ import annotations

from typing import Any

import pytest
from in_process import BrokerThread, until
from job_player import Player
from job_recordings import ANY, Replay
from managed_jobs import names
from service_recordings import records

import flux
from flux.constants import FLUX_MSGTYPE_REQUEST, FLUX_REACTOR_NOWAIT
from flux.job import JobspecV1
from flux.message import Message, MessageWatcher


def _other_services(topic: str) -> bool:
    return topic.startswith("job-info.")


def test_a_client_that_is_scheduler_and_execution_service(broker_thread: BrokerThread) -> None:
    room = "there is room for the better job: nobody has to go"
    again = "the scheduler has been asked to give it back already"
    absent = {17: room, 29: room, **dict.fromkeys((24, 42, 43, 44), again)}
    Replay(
        broker_thread.open,
        records("jobs-sched-exec-protocol"),
        _other_services,
        absent=absent,
        instead={125: {"count": 1}},  # a job that is held is in no queue
        succeed=(117,),  # another execution service takes over, which is sent what runs (RFC 32; spec 06, 18.10)
        more=("myexec.start",),
    ).run()


def test_what_guests_may_do(broker_thread: BrokerThread, player: Player) -> None:
    Replay(
        broker_thread.open,
        records("jobs-guest"),
        _other_services,
        instead={50: ANY},  # how many follow the journal is not the guest's doing
    ).run()


@pytest.mark.parametrize(
    "answer",
    [
        {"type": 0},
        {"type": 9},
        {"type": 0, "R": None},
        {"type": 0, "R": "x"},
        {"type": 0, "R": {}},
        {"type": 0, "R": {"version": 9, "execution": {"R_lite": []}}},
        {"type": 0, "R": {"version": 1, "execution": {"R_lite": 3}}},
        {"type": 0, "R": {"version": 1, "execution": {"R_lite": [{"rank": "x", "children": {}}]}}},
        {"type": 1, "annotations": 3},
    ],
)
def test_a_scheduler_that_makes_no_sense_is_not_asked_any_more(handle: flux.Flux, answer: dict[str, Any]) -> None:
    """Nor is it the end of the job manager: its jobs wait for the next scheduler."""

    def first(_: flux.Flux, watcher: MessageWatcher, message: Message, args: object) -> None:
        handle.respond(message, {"id": message.payload["id"], **answer})
        watcher.destroy()

    def online() -> bool:
        return bool(handle.rpc("job-manager.queue-status", {}).get()["start"])

    handle.service_register("sched").get()
    handle.msg_watcher_create(first, FLUX_MSGTYPE_REQUEST, "sched.alloc").start()
    handle.rpc("job-manager.sched-ready", {"mode": "unlimited"}).get()
    jobid = int(flux.job.submit(handle, JobspecV1.from_command(["true"])))
    until(lambda: handle.reactor_run(flags=FLUX_REACTOR_NOWAIT) >= 0 and not online())
    assert handle.rpc("job-manager.resource-status").get()["allocated"]["execution"]["R_lite"] == []
    assert names(handle, jobid)[-1] == "priority"
    handle.service_unregister("sched").get()
    with Player(str(handle.attr_get("local-uri"))):
        handle.rpc("job-manager.drain").get()
    assert names(handle, jobid)[-1] == "clean"
