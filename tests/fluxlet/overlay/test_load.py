"""Many ranks under load: brokers killed while messages fly, barriers of a thousand, all sizes (spec 04, 8)."""

from __future__ import annotations

import errno
import os
import random
import re
import signal
import threading
from contextlib import ExitStack

import pytest
from waiting import PATIENCE, gone, wait_until

import flux
from flux.idset import IDset
from fluxlet.testing import Instance


class Client(threading.Thread):
    """Asks all ranks for as long as it may, and counts what it hears; events, too."""

    def __init__(self, uri: str, size: int, seed: int) -> None:
        super().__init__()
        self.uri = uri
        self.size = size
        self.dice = random.Random(seed)
        self.answers = self.errors = 0
        self.events: list[int] = []
        self.ended = threading.Event()
        self.problem: BaseException | None = None

    def run(self) -> None:
        try:
            with flux.Flux(self.uri) as handle:
                handle.event_subscribe("load.")
                while not self.ended.is_set():
                    self.round(handle)
        except OSError as exc:
            if exc.errno not in (errno.ECONNRESET, errno.EPIPE, errno.EHOSTUNREACH):
                self.problem = exc
        except BaseException as exc:  # noqa: BLE001  # for the test to see
            self.problem = exc

    def round(self, handle: flux.Flux) -> None:
        asked = [handle.rpc("broker.ping", {"pad": "x" * 500}, self.dice.randrange(self.size)) for _ in range(20)]
        sequence = handle.rpc("event.publish", {"topic": "load.x", "flags": 0}, 0).wait_for(PATIENCE).get()["seq"]
        for rpc in asked:
            try:
                rpc.wait_for(PATIENCE).get()
                self.answers += 1
            except OSError as exc:
                if exc.errno != errno.EHOSTUNREACH:
                    raise
                self.errors += 1
        # What was published is seen by its publisher, too, after all that came before.
        while not self.events or self.events[-1] < sequence:
            number = handle.event_recv("load.*").aux1
            assert not self.events or number > self.events[-1]
            self.events.append(number)


@pytest.mark.parametrize("victim", [7, 1, 0])
def test_a_rank_is_killed_under_load(victim: int) -> None:
    size = 8
    with ExitStack() as stack:
        instance = stack.enter_context(Instance(size, attributes={"tbon.topo": "kary:2"}, env={"SHELL": "/bin/sh"}))
        pids = [instance.rank_pid(rank) for rank in range(size)]
        clients = [Client(instance.rank_uri(rank), size, rank) for rank in (0, 2, 5, 6)]
        for client in clients:
            client.start()
        try:
            wait_until(lambda: all(client.answers > 200 for client in clients), "load")
            os.kill(pids[victim], 9)
            dead = {7: [7], 1: [1, 3, 4, 7], 0: list(range(size))}[victim]
            wait_until(lambda: all(gone(pids[rank]) for rank in dead), "the ends of brokers")
            if victim:
                before = [client.answers for client in clients]
                wait_until(
                    lambda: all(client.answers > count + 100 for client, count in zip(clients, before, strict=True)),
                    "answers after the loss",
                )
                wait_until(lambda: all(client.errors for client in clients), "errors of the lost ranks")
        finally:
            for client in clients:
                client.ended.set()
            for client in clients:
                client.join(PATIENCE)
        assert not any(client.is_alive() for client in clients)
        assert [client.problem for client in clients] == [None] * 4
        if victim:
            left = str(IDset([rank for rank in range(size) if rank not in dead]))
            with instance.handle() as handle:
                wait_until(
                    lambda: handle.rpc("groups.get", {"name": "broker.online"}, 0).get()["members"] == left, left
                )
        else:
            instance.wait()
    assert all(gone(pid) for pid in pids)


def test_a_barrier_of_a_thousand_over_all_ranks() -> None:
    size, each = 8, 125
    with ExitStack() as stack:
        instance = stack.enter_context(Instance(size, attributes={"tbon.topo": "kary:2"}, env={"SHELL": "/bin/sh"}))
        rounds = 2
        handles = [stack.enter_context(instance.handle(rank)) for rank in range(size) for _ in range(each)]
        for number in range(rounds):
            name = {"name": f"b{number}", "nprocs": len(handles)}
            entered = [handle.rpc("barrier.enter", name) for handle in handles[:-1]]
            handles[0].rpc("broker.ping", {}, size - 1).get()
            assert not any(rpc.is_ready() for rpc in entered)  # never early
            last = handles[-1].rpc("barrier.enter", name)
            assert all(rpc.wait_for(PATIENCE).get() is None for rpc in [*entered, last])


def test_a_new_configuration_reaches_all_ranks() -> None:
    with ExitStack() as stack:
        instance = stack.enter_context(
            Instance(4, {"tool": {"color": "red"}}, {"tbon.topo": "kary:1"}, env={"SHELL": "/bin/sh"})
        )
        handles = [stack.enter_context(instance.handle(rank)) for rank in range(4)]
        assert [handle.rpc("config.get").get()["tool"] for handle in handles] == [{"color": "red"}] * 4
        handles[0].rpc("config.load", {"tool": {"color": "blue"}}).get()
        for handle in handles:
            wait_until(lambda: handle.rpc("config.get").get() == {"tool": {"color": "blue"}}, "it")  # noqa: B023


def test_an_instance_starts_with_as_many_as_it_needs() -> None:
    late = "test $(flux getattr rank) = 3 && sleep 1; true"
    attributes = {
        "broker.quorum": "3",
        "broker.quorum-warn": "0.05s",
        "broker.rc1_path": late,
    }
    with Instance(4, attributes=attributes, env={"SHELL": "/bin/sh"}) as instance, instance.handle() as handle:
        assert handle.rpc("state-machine.get").get()["state"] == "run"
        wait_until(lambda: handle.rpc("groups.get", {"name": "broker.online"}).get()["members"] == "0-3", "rank 3")
        assert "quorum-full: quorum->run" in instance.log()


@pytest.mark.parametrize("size", [3, pytest.param(32, marks=pytest.mark.nightly)])
@pytest.mark.parametrize("topology", ["kary:2", "binomial", "mincrit:2"])
def test_shapes_that_work(size: int, topology: str) -> None:
    with Instance(size, attributes={"tbon.topo": topology}, env={"SHELL": "/bin/sh"}) as instance:
        with instance.handle() as handle:
            pings = [handle.rpc("broker.ping", {}, rank) for rank in range(size)]
            assert all(ping.get() for ping in pings)
            assert handle.rpc("overlay.health").get()["status"] == "full"
        with instance.handle(size - 1) as handle:
            pings = [handle.rpc("broker.ping", {}, rank) for rank in range(size)]
            assert all(ping.get() for ping in pings)


def test_a_rank_that_does_not_end_is_waited_for_so_long_and_no_longer() -> None:
    attributes = {"broker.shutdown-timeout": "0.5s", "broker.shutdown-warn": "0.1s"}
    instance = Instance(3, attributes=attributes, env={"SHELL": "/bin/sh"})
    instance.start()
    pid = instance.rank_pid(2)
    os.kill(pid, signal.SIGSTOP)
    try:
        with instance.handle() as handle:
            handle.rpc("shutdown.start", {}).get()
        wait_until(lambda: "shutdown timeout" in instance.output, "the end of patience")
        assert re.search(r"shutdown delayed: waiting for 1 peers: \S+ \(rank 2\)", instance.output)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert instance.wait() != 0
    assert gone(pid)
