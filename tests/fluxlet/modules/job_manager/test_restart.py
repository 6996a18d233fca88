"""Jobs outlive the broker: what a state directory holds goes on, after an orderly end and after none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_process import BrokerThread
from job_player import Player
from job_recordings import eventually
from managed_jobs import WHOLE, events, lookup, names, wait

import flux
from flux.job import JobID, JobspecV1
from fluxlet.modules.job_manager.base import AT_ONCE
from fluxlet.modules.job_manager.machine import State
from fluxlet.modules.job_manager.restart import replay


class Lives:
    """Brokers with the same state directory, one after the other; none of them ends in an orderly way."""

    def __init__(self, start: Callable[..., BrokerThread], statedir: Path) -> None:
        self.start_broker = start
        self.statedir = statedir

    def begin(self, config: dict[str, Any] | None = None) -> flux.Flux:
        settings = {"statedir": str(self.statedir), "statedir-cleanup": "0"}
        self.broker = self.start_broker(settings, config)
        self.handle = self.broker.open()
        return self.handle

    def end(self) -> None:
        self.handle.handle = None
        self.broker.stop()


@pytest.fixture
def lives(start_broker: Callable[..., BrokerThread], tmp_path: Path) -> Lives:
    return Lives(start_broker, tmp_path)


def submit(handle: flux.Flux, *command: str, urgency: int = 16, waitable: bool = False, **attributes: Any) -> JobID:
    jobspec = JobspecV1.from_command(list(command))
    for key, value in attributes.items():
        jobspec.setattr(f"system.{key}", value)
    return flux.job.submit(handle, jobspec, urgency=urgency, waitable=waitable)


def test_jobs_go_on_from_where_they_were(lives: Lives) -> None:
    handle = lives.begin()
    with Player(lives.broker.uri) as player:
        done = submit(handle, "true")
        failed = submit(handle, "false", waitable=True)
        held = submit(handle, "true", urgency=0)
        dependent = submit(handle, "true", dependencies=[{"scheme": "afterok", "value": held.f58}])
        running = submit(handle, "sleep")
        eventually(lambda: running in player.running)
        eventually(lambda: names(handle, failed)[-1] == "clean")
        # The end of a job is told before it is stored.
        handle.rpc("kvs.commit", {"namespace": "primary", "flags": 4, "ops": []}).get()
        eventually(lambda: "clean" in lookup(handle, f"{failed.kvs}.eventlog"))
        before = events(handle, done)
    waiting = submit(handle, "true")
    lives.end()
    handle = lives.begin()
    assert handle.rpc("job-manager.getinfo").get()["max_jobid"] == waiting
    assert events(handle, done) == before
    assert names(handle, held) == [*WHOLE[:4], "flux-restart", "priority"]
    assert names(handle, dependent) == ["submit", "dependency-add", "validate"]
    assert names(handle, running) == WHOLE[:6]
    assert wait(handle, failed)["errstr"] == "task(s) exited with exit code 1"
    with Player(lives.broker.uri) as player:
        eventually(lambda: names(handle, waiting)[-1] == "clean")
        assert set(player.started) == {running, waiting}
        handle.rpc("job-manager.urgency", {"id": held, "urgency": 16}).get()
        eventually(lambda: running in player.running)
        player.finish(running)
        handle.rpc("job-manager.drain").get()
        assert player.started.count(running) == 1
        assert names(handle, running).count("start") == 1
    assert [names(handle, job)[-1] for job in (held, dependent, running, waiting)] == ["clean"] * 4
    assert submit(handle, "true") > waiting


def test_jobs_that_were_being_cleaned_up_are_cleaned_up(lives: Lives) -> None:
    handle = lives.begin()
    with Player(lives.broker.uri) as player:
        jobid = submit(handle, "sleep")
        eventually(lambda: jobid in player.running)
        lives.broker.call(lambda: player.running.clear())  # it does not hear of the end
        flux.job.cancel(handle, jobid)
        handle.rpc("kvs.commit", {"namespace": "primary", "flags": 4, "ops": []}).get()
        eventually(lambda: "exception" in lookup(handle, f"{jobid.kvs}.eventlog"))
        lives.end()
    handle = lives.begin()
    assert names(handle, jobid) == [*WHOLE[:6], "exception", "free", "clean"]


def test_queues_stay_as_they_were(lives: Lives) -> None:
    config = {"queues": {"a": {}, "b": {}}}
    handle = lives.begin(config)
    handle.rpc("job-manager.queue-start", {"start": True, "all": False, "name": "a"}).get()
    payload = {"enable": False, "all": False, "name": "b", "reason": "because"}
    handle.rpc("job-manager.queue-enable", payload).get()
    handle.rpc("module.remove", {"name": "job-manager"}).get()
    lives.end()
    handle = lives.begin({**config, "job-manager": {"stop-queues-on-restart": False}})

    def status(name: str) -> dict[str, Any]:
        answer: dict[str, Any] = handle.rpc("job-manager.queue-status", {"name": name}).get()
        return answer

    assert status("a")["blocked"] == "scheduler"
    assert status("b") == {"enable": False, "start": False, "disable_reason": "because"}


def test_a_job_that_cannot_be_read_is_put_aside(lives: Lives) -> None:
    handle = lives.begin()
    good, bad = submit(handle, "true"), submit(handle, "true")
    op = {"key": f"{bad.kvs}.eventlog", "flags": 0, "dirent": {"ver": 1, "type": "val", "data": "Zm9v"}}
    handle.rpc("kvs.commit", {"namespace": "primary", "flags": 4, "ops": [op]}).get()
    lives.end()
    handle = lives.begin()
    jobs = handle.rpc("job-manager.list", {"max_entries": 0}).get()["jobs"]
    assert [job["id"] for job in jobs] == [good]
    assert lookup(handle, f"job-lost+found.job.{bad.f58plain}.eventlog").startswith("foo")


def commit(handle: flux.Flux, **values: str | None) -> None:
    """Sets keys, given with `_` for dots; None: unlinks them."""
    ops = []
    for key, value in values.items():
        dirent = None if value is None else {"ver": 1, "type": "val", "data": value}
        ops.append({"key": key.replace("_", "."), "flags": 0, "dirent": dirent})
    handle.rpc("kvs.commit", {"namespace": "primary", "flags": 4, "ops": ops}).get()


MANY = 3 * AT_ONCE + 7


def test_many_jobs_are_there_again_in_the_order_in_which_they_have_ended(lives: Lives) -> None:
    handle = lives.begin()
    jobspec = JobspecV1.from_command(["true"])
    futures = [flux.job.submit_async(handle, jobspec, urgency=0, waitable=True) for _ in range(MANY)]
    ids = [future.get_id() for future in futures]
    ended = [*ids[MANY // 2 :], *ids[: MANY // 2 - 1]]
    for jobid in ended:
        flux.job.cancel(handle, jobid)
    flux.job.wait(handle, ended[0])
    logs = {jobid: events(handle, jobid) for jobid in ended}
    commit(handle)
    lives.end()
    handle = lives.begin()
    stats = handle.rpc("job-manager.stats-get").get()
    assert (stats["active_jobs"], stats["inactive_jobs"]) == (1, MANY - 1)
    assert {jobid: events(handle, jobid) for jobid in ended} == logs
    assert handle.rpc("job-manager.purge", {"age_limit": -1, "num_limit": MANY - 3, "batch": 10, "force": True}).get()
    with pytest.raises(OSError, match="unknown"):
        events(handle, ended[1])
    assert names(handle, ended[2])[-1] == "clean"
    # Those that may be waited for still may, in that order.
    for jobid in ended[2:5]:
        waited = handle.rpc("job-manager.wait", {"id": -1}).get()
        assert (waited["id"], waited["success"], waited["errstr"][:28]) == (
            jobid,
            False,
            "Fatal exception type=cancel ",
        )
    listed = handle.rpc("job-manager.list", {"max_entries": 0}).get()["jobs"]
    assert [job["id"] for job in listed] == [ids[MANY // 2 - 1], *ended[5:]]
    assert (listed[1]["state"], listed[1]["urgency"], listed[1]["userid"]) == (State.INACTIVE, 0, os.getuid())


def test_what_is_no_job_is_no_obstacle(lives: Lives) -> None:
    handle = lives.begin()
    jobid = submit(handle, "true", urgency=0)
    values = {
        "job_stray": "",
        "job_x_y_z_1": "",
        "job_x_y_z_d_e": "",
        "job_0000_0000_value": "",
        f"{jobid.kvs}.more": "",
    }
    commit(handle, **values)
    lives.end()
    handle = lives.begin()
    assert names(handle, jobid)[0] == "submit"
    broker = lives.broker.broker
    log = lives.broker.call(lambda: b"".join(broker.log.ring))
    assert b"job.stray is no directory" in log
    assert b"job.x.y.z.d is not the directory of a job" in log
    assert b"job.0000.0000.value is no directory" in log


def test_a_job_whose_log_is_lost_is_put_aside(lives: Lives) -> None:
    handle = lives.begin()
    good, bad = submit(handle, "true", urgency=0), submit(handle, "true", urgency=0)
    ref = "sha1-" + 40 * "0"
    op = {"key": f"{bad.kvs}.eventlog", "flags": 0, "dirent": {"ver": 1, "type": "valref", "data": [ref]}}
    handle.rpc("kvs.commit", {"namespace": "primary", "flags": 4, "ops": [op]}).get()
    lives.end()
    handle = lives.begin()
    assert [job["id"] for job in handle.rpc("job-manager.list", {"max_entries": 0}).get()["jobs"]] == [good]
    assert JobspecV1(**json.loads(lookup(handle, f"job-lost+found.job.{bad.f58plain}.jobspec"))).tasks


def test_replaying_a_log() -> None:
    jobspec = JobspecV1.from_command(["true"]).dumps().encode()
    lines = [
        '{"timestamp":1.0,"name":"submit","context":{"userid":7,"urgency":16,"flags":4,"version":1}}',
        '{"timestamp":2.0,"name":"validate"}',
        '{"timestamp":3.0,"name":"depend"}',
        '{"timestamp":4.0,"name":"priority","context":{"priority":16}}',
        '{"timestamp":5.0,"name":"jobspec-update","context":{"attributes.system.duration":3.0}}',
    ]
    job = replay(1, "".join(f"{line}\n" for line in lines).encode(), jobspec, None)
    assert (job.state, job.userid, job.priority, job.spec.system.duration) == (State.PRIORITY, 7, 16, 3.0)
    assert job.events == [line.encode() for line in lines]


@pytest.mark.parametrize(
    "log",
    [
        b"",
        b"foo\n",
        b'{"timestamp":1.0,"name":"validate"}\n',
        b'{"timestamp":1.0,"name":"submit","context":{"userid":7,"urgency":16,"flags":4,"version":1}}\n',
        b'{"timestamp":1.0,"name":"submit","context":{"urgency":16,"flags":4,"version":1}}\n',
        b'{"timestamp":1.0,"name":"submit","context":{"userid":7,"urgency":16,"flags":4,"version":1}}',
        b'{"timestamp":1.0,"name":"submit","context":{"userid":7,"urgency":16,"flags":4}}\n{"timestamp":2.0,"name":"validate"}\n'
        b'{"timestamp":3.0,"name":"priority","context":{}}\n',
    ],
)
def test_logs_that_are_none(log: bytes) -> None:
    with pytest.raises(ValueError, match=r"log|job|it"):
        replay(1, log, JobspecV1.from_command(["true"]).dumps().encode(), None)
