"""The job manager's side of the protocols with the scheduler and the execution service, against recordings."""

from __future__ import annotations

from in_process import BrokerThread
from job_player import Player
from job_recordings import ANY, Replay
from service_recordings import records


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
