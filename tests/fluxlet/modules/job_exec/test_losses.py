"""The shell process is killed, its keeper is, the broker is: nothing of it stays. And floods."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from exec_player import ENV, JobPlayer

from fluxlet.testing import Instance


def keeper_of(player: JobPlayer) -> int:
    return int(player.handle.rpc("job-shell.stats-get").get()["pid"])


def shell_of(keeper: int) -> int:
    return int(Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()[0])


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def memory(pid: int) -> int:
    """Bytes that a process has in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) << 10


#: Its own task, one in the background of the same group, and one in a session of its own.
FAMILY = ["sh", "-c", "sleep 600 & setsid sleep 601 & echo $$ $! $(pgrep -P $$ sleep | head -1); wait"]


def test_a_killed_shell_leaves_no_task_and_its_jobs_end(player: JobPlayer) -> None:
    jobs = [player.start(FAMILY) for _ in range(2)]
    for job in jobs:
        player.started(job)
        player.until(lambda job=job: player.output(job))
    pids = [int(pid) for job in jobs for pid in player.output(job).split()]
    assert all(map(alive, pids))
    keeper = keeper_of(player)
    os.kill(shell_of(keeper), signal.SIGKILL)
    for job in jobs:
        player.wait(job)
        assert job.kinds == ["start", "exception", "finish", "release"]
        assert job.responses[1][1] == {"severity": 0, "type": "exec", "note": "shell rank 0 (on test0): Killed"}
        assert job.status == 9
        assert [event["name"] for event in player.events(job)][-3:] == ["shell-exit", "complete", "done"]
    assert not any(map(alive, [*pids, keeper]))
    assert player.run(["true"]).status == 0  # in another one
    assert keeper_of(player) != keeper


def test_a_killed_keeper_takes_the_shell_with_it(player: JobPlayer) -> None:
    job = player.start(["sleep", "600"])
    player.started(job)
    keeper = keeper_of(player)
    shell = shell_of(keeper)
    os.kill(keeper, signal.SIGKILL)
    assert player.wait(job).status == 9
    player.until(lambda: not alive(shell))


def test_the_end_of_the_instance_is_the_end_of_its_jobs() -> None:
    with Instance(env=ENV) as instance, JobPlayer(instance.uri) as player:
        job = player.start(FAMILY)
        player.started(job)
        player.until(lambda: player.output(job))
        pids = [int(pid) for pid in player.output(job).split()]
        keeper = keeper_of(player)
        pids += [keeper, shell_of(keeper)]
    assert not any(map(alive, pids))


def test_a_killed_broker_leaves_no_task(player: JobPlayer) -> None:
    instance = Instance(env=ENV).start()
    try:
        with JobPlayer(instance.uri) as other:
            job = other.start(FAMILY)
            other.started(job)
            other.until(lambda: other.output(job))
            pids = [int(pid) for pid in other.output(job).split()]
            keeper = keeper_of(other)
            pids += [keeper, shell_of(keeper)]
            os.kill(int(other.handle.attr_get("broker.pid")), signal.SIGKILL)
        player.until(lambda: not any(map(alive, pids)))
    finally:
        instance.kill()


def test_a_flood_is_bounded(player: JobPlayer) -> None:
    """Output faster than the KVS takes it: the task waits, nothing grows, nothing is lost."""
    player.run(["true"])
    broker, shell = int(player.handle.attr_get("broker.pid")), shell_of(keeper_of(player))
    before = memory(shell)
    size = 20_000_000
    job = player.start(["sh", "-c", f"yes 0123456789012345678901234567890123456789 | head -c {size}"])
    peak = 0
    while not job.released:
        player.step(0.02)
        peak = max(peak, memory(shell))
    assert job.status == 0
    assert peak - before < 16 << 20
    assert len(player.output(job)) == size
    assert memory(broker) < 256 << 20


@pytest.mark.nightly
def test_a_gigabyte_of_output_delays_nobody(player: JobPlayer) -> None:
    player.run(["true"])
    broker = int(player.handle.attr_get("broker.pid"))
    before = memory(broker)
    job = player.start(["sh", "-c", "yes 0123456789012345678901234567890123456789 | head -c 1000000000"])
    worst, peak = 0.0, 0
    while not job.released:
        began = time.monotonic()
        player.handle.rpc("broker.ping", {}).get()
        worst = max(worst, time.monotonic() - began)
        peak = max(peak, memory(broker))
        player.step(0.005)
    print(f"worst ping {worst * 1e3:.1f} ms, broker grew by {(peak - before) >> 20} MB")
    assert job.status == 0
    assert peak - before < 256 << 20
