"""What clients see when brokers are killed (spec 04, section 8): eight ranks, 0-1-3-7, 1-4, 2-5, 2-6."""

from __future__ import annotations

import errno
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import gone, wait_until

import flux
from flux.constants import FLUX_RPC_STREAMING
from fluxlet.testing import Instance

SIZE = 8


@pytest.fixture
def tree() -> Iterator[Instance]:
    """Eight brokers in a binary tree."""
    with Instance(SIZE, attributes={"tbon.topo": "kary:2"}, env={"SHELL": "/bin/sh"}) as instance:
        yield instance


def watch(handle: flux.Flux, rank: int) -> Any:
    """A stream that never ends by itself, from a rank: its first answer is there."""
    stream = handle.rpc("overlay.health", None, rank, FLUX_RPC_STREAMING)
    stream.get()
    stream.reset()
    return stream


def lost(stream: Any) -> OSError:
    """The error that ends a stream."""
    while True:
        try:
            stream.get()
        except OSError as exc:
            return exc
        stream.reset()


def online(handle: flux.Flux) -> str:
    return str(handle.rpc("groups.get", {"name": "broker.online"}, 0).get()["members"])


def health(handle: flux.Flux, rank: int) -> tuple[str, dict[int, str]]:
    answer = handle.rpc("overlay.health", None, rank).get()
    return answer["status"], {child["rank"]: child["status"] for child in answer["children"]}


def pids(instance: Instance) -> list[int]:
    return [instance.rank_pid(rank) for rank in range(SIZE)]


def test_a_killed_leaf_is_noticed_at_once(tree: Instance) -> None:
    with tree.handle(0) as handle, tree.handle(6) as far:
        streams = [watch(handle, 7), watch(far, 7)]
        tree.kill_rank(7)
        assert [lost(stream).errno for stream in streams] == [errno.EHOSTUNREACH] * 2
        with pytest.raises(OSError, match=os.strerror(errno.EHOSTUNREACH)):
            far.rpc("broker.ping", {}, 7).get()
        wait_until(lambda: online(handle) == "0-6", "the end of rank 7's membership")
        wait_until(lambda: health(handle, 0)[0] == "degraded", "the news at rank 0")
        assert health(handle, 3) == ("degraded", {7: "lost"})
        answer = handle.rpc("overlay.health", None, 3).get()
        assert answer["children"][0]["error"] == "lost connection"
        wait_until(lambda: "dead to Flux: " in tree.log(), "the log of rank 0")
        assert handle.rpc("broker.ping", {}, 3).get()
    assert re.search(r"overlay\.err\[3\]: \S+ \(rank 7\) failed\n", tree.output)
    assert re.search(r"broker\.err\[0\]: dead to Flux: \S+ \(rank 7\)", tree.log())
    tree.stop()
    assert re.search(r"flux-start: 7 \(pid \d+\) Killed", tree.output)


def test_a_killed_interior_rank_takes_its_subtree_along(tree: Instance) -> None:
    processes = pids(tree)
    with tree.handle(0) as handle:
        streams = {rank: watch(handle, rank) for rank in (1, 3, 4, 7)}
        tree.kill_rank(1)
        assert {rank: lost(stream).errno for rank, stream in streams.items()} == dict.fromkeys(
            (1, 3, 4, 7), errno.EHOSTUNREACH
        )
        wait_until(lambda: online(handle) == "0,2,5-6", "the end of four memberships")
        assert health(handle, 0) == ("degraded", {1: "lost", 2: "full"})
        # Those below notice that their parent is gone, and end: they do not wait for heartbeats.
        wait_until(lambda: all(gone(processes[rank]) for rank in (3, 4, 7)), "the ends of ranks 3, 4 and 7")
        assert handle.rpc("broker.ping", {}, 6).get()
    assert re.search(r"overlay\.err\[0\]: \S+ \(rank 1\) failed and severed contact with 3 other nodes", tree.output)
    tree.stop()
    for rank in (3, 4):
        assert re.search(rf"flux-start: {rank} \(pid \d+\) exited with rc=1", tree.output)


def test_the_end_of_a_killed_root_is_the_end_of_all(tree: Instance) -> None:
    processes = pids(tree)
    with tree.handle(0) as handle, tree.handle(7) as far:
        own, other = watch(handle, 7), watch(far, 0)
        os.kill(processes[0], signal.SIGKILL)
        assert lost(other).errno in (errno.EHOSTUNREACH, errno.ECONNRESET)
        assert lost(own).errno == errno.ECONNRESET
    assert tree.wait() == 137
    assert all(gone(pid) for pid in processes)
    assert not os.path.exists(tree.rundir)


def test_the_end_of_flux_start_is_the_end_of_all(tree: Instance) -> None:
    processes = pids(tree)
    tree.kill()
    wait_until(lambda: all(gone(pid) for pid in processes), "the ends of all brokers")
    wait_until(lambda: not os.path.exists(tree.rundir), "the end of the run directory")


def test_a_rank_that_is_told_to_end_leaves_in_good_order(tree: Instance) -> None:
    processes = pids(tree)
    with tree.handle(0) as handle:
        tree.kill_rank(2, signal.SIGTERM)
        wait_until(lambda: online(handle) == "0-1,3-4,7", "the end of three memberships")
        wait_until(lambda: all(gone(processes[rank]) for rank in (2, 5, 6)), "the ends of ranks 2, 5 and 6")
        answer = handle.rpc("overlay.health", None, 0).get()
        statuses = [(child["status"], child.get("error")) for child in answer["children"]]
        assert statuses == [("full", None), ("offline", "administrative shutdown")]
        assert answer["status"] == "partial"
    tree.stop()
    assert "flux-start: 2" not in tree.output


def test_a_disconnected_subtree_ends(tree: Instance) -> None:
    processes = pids(tree)
    with tree.handle(0) as handle:
        handle.rpc("overlay.disconnect-subtree", {"rank": 1}, 0).get()
        with pytest.raises(OSError, match="rank 1 is already lost"):
            handle.rpc("overlay.disconnect-subtree", {"rank": 1}, 0).get()
        wait_until(lambda: all(gone(processes[rank]) for rank in (1, 3, 4, 7)), "the ends of the subtree")
        assert online(handle) == "0,2,5-6"
    tree.stop()
    assert re.search(r"flux-start: 1 \(pid \d+\) exited with rc=1", tree.output)
    assert re.search(r"overlay\.crit\[1\]: \S+ \(rank 0\) sent disconnect control message", tree.output)


def test_a_barrier_with_entrants_behind_a_lost_rank_fails(tree: Instance) -> None:
    with tree.handle(0) as handle, tree.handle(7) as far:
        entered = handle.rpc("barrier.enter", {"name": "b", "nprocs": 3})
        far.rpc("barrier.enter", {"name": "b", "nprocs": 3})

        def counted() -> bool:
            with pytest.raises(OSError, match=r"."):
                handle.rpc("barrier.enter", {"name": "b", "nprocs": 4}).get()
            return True

        counted()
        far.rpc("barrier.enter", {"name": "sync", "nprocs": 2})
        handle.rpc("barrier.enter", {"name": "sync", "nprocs": 2}).get()  # what went before has arrived
        tree.kill_rank(7)
        with pytest.raises(OSError, match=os.strerror(errno.ECONNABORTED)):
            entered.get()


def test_services_hear_of_the_end_of_clients_behind_a_lost_rank(tree: Instance) -> None:
    with tree.handle(0) as handle, tree.handle(7) as far:
        handle.service_register("watched").get()
        far.rpc("watched.something", {}, 0)
        request = handle.recv(topic_glob="watched.*")
        assert request.topic == "watched.something"
        tree.kill_rank(1)
        notice = handle.recv(topic_glob="watched.*")
        assert notice.topic == "watched.disconnect"
        assert notice.routes[-1:] == request.routes[-1:]


@pytest.mark.parametrize("whole", [False, True])
def test_what_a_killed_broker_has_started_ends_with_it(tree: Instance, tmp_path: Path, whole: bool) -> None:
    place = tmp_path / "pid"
    script = f"echo $$ >{place}.new; mv {place}.new {place}; exec sleep 1000"
    tree.run("flux", "exec", "--bg", "-r", "5", "sh", "-c", script, check=True)
    wait_until(place.exists, "the process")
    pid = int(place.read_text())
    assert not gone(pid)
    if whole:
        tree.kill()
    else:
        tree.kill_rank(5)
    wait_until(lambda: gone(pid), "its end")
