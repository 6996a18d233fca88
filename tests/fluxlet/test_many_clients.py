"""Very many clients at once, and one that takes no part: what the socket costs and what it promises (spec 01, 2.1)."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import crowd
import pytest
from in_process import error_of, until
from peers import PATIENCE, Bystander, RawPeer, connect, log_lines
from started import StartedInstance

import flux
from flux.message import Message

PROCESSES = 4
CLIENTS = 125
BOUND = 1 << 20


@pytest.fixture
def instance(start_instance: Callable[[], StartedInstance]) -> StartedInstance:
    """An instance whose configuration a test may change."""
    return start_instance()


def test_five_hundred_clients_are_all_answered_and_each_in_order(instance: StartedInstance) -> None:
    programs = [
        subprocess.Popen(
            [sys.executable, crowd.__file__, instance.uri, str(CLIENTS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    try:
        for program in programs:
            assert program.stdout is not None
            assert program.stdout.readline() == "connected\n"
        with flux.Flux(instance.uri) as handle, Bystander(instance.uri):
            clients = handle.rpc("connector-local.stats-get").get()["server"]["clients"]
            assert len(clients) == PROCESSES * CLIENTS + 2
            for program in programs:
                assert program.stdin is not None
                program.stdin.write("\n")
                program.stdin.flush()
            for program in programs:
                assert program.stdout is not None
                assert program.stdout.readline() == f"{CLIENTS * crowd.RPCS}\n"
            for program in programs:
                program.communicate("\n", timeout=PATIENCE)
            assert [program.returncode for program in programs] == [0] * PROCESSES
            until(lambda: len(handle.rpc("connector-local.stats-get").get()["server"]["clients"]) == 2)
    finally:
        for program in programs:
            program.kill()
            program.communicate()


def configure(handle: flux.Flux, bound: Any) -> None:
    """Loads another bound of what may wait for a client."""
    handle.rpc("config.load", {"connector-local": {"sendq-max": bound}}).get()


def uuid_of(handle: flux.Flux, others: set[str]) -> str:
    """The identity of the client that is not among the others."""
    clients = handle.rpc("connector-local.stats-get").get()["server"]["clients"]
    (new,) = {client["uuid"] for client in clients} - others
    return str(new)


def everybody(handle: flux.Flux) -> set[str]:
    """The identities of all clients."""
    clients = handle.rpc("connector-local.stats-get").get()["server"]["clients"]
    return {client["uuid"] for client in clients}


def ask_without_end(peer: RawPeer) -> int:
    """Asks and does not read, until the broker has had enough; returns how many bytes it asked for."""
    payload = b'{"pad":"' + b"x" * 8000 + b'"}\0'
    asked = 0
    while asked < 256 << 20:
        try:
            peer.request("broker.ping", payload)
        except (BrokenPipeError, ConnectionResetError):
            return asked
        asked += len(payload)
    raise AssertionError("a client that does not read is not disconnected")


def test_a_client_that_stops_reading_is_disconnected_and_nobody_else_notices(instance: StartedInstance) -> None:
    with flux.Flux(instance.uri) as handle, Bystander(instance.uri) as bystander:
        configure(handle, "1M")
        before = everybody(handle)
        with connect(instance.uri) as peer:
            uuid = uuid_of(handle, before)
            asked = ask_without_end(peer)
            # What had been sent already is still there to be read, whole frames but for the last.
            answers = sum(1 for message in peer.messages())
        assert asked > BOUND
        assert 0 < answers <= asked // 8000
        assert everybody(handle) == before
        text = (
            f"client={uuid[:5]} userid={os.getuid()}: disconnected: it does not read, and more than {BOUND} bytes wait "
            "for it ([connector-local] sendq-max)"
        )
        assert [line for line in log_lines(handle) if text in line]
        assert bystander.alive()


def test_so_is_one_that_only_has_events_to_read(instance: StartedInstance) -> None:
    with flux.Flux(instance.uri) as handle, connect(instance.uri) as deaf, connect(instance.uri) as attentive:
        configure(handle, BOUND)
        for peer in (deaf, attentive):
            peer.request("event.subscribe", b'{"topic":"flood"}\0')
            assert peer.next().aux1 == 0
        payload = b"x" * 10_000 + b"\0"
        for number in range(300):
            handle.send(Message.event(b"flood", payload))
            assert attentive.next().aux1 > number
        assert deaf.closed()
        attentive.request("broker.ping", b"{}\0")
        assert attentive.next().aux1 == 0


def test_the_bound_that_was_loaded_last_is_in_force_for_those_who_wait_already(instance: StartedInstance) -> None:
    payload = b'{"pad":"' + b"x" * 8000 + b'"}\0'
    with flux.Flux(instance.uri) as handle, connect(instance.uri) as peer:
        before = everybody(handle)
        for _ in range(200):
            peer.request("broker.ping", payload)
        until(lambda: _backlog(handle) > 0)
        assert everybody(handle) == before
        configure(handle, "100k")
        peer.request("broker.ping", payload)
        until(lambda: len(everybody(handle)) == 1)
        assert 0 < sum(1 for message in peer.messages()) < 201


def _backlog(handle: flux.Flux) -> int:
    """The frames that wait for clients."""
    clients = handle.rpc("connector-local.stats-get").get()["server"]["clients"]
    return sum(client["rxbacklog"] for client in clients)


def test_a_message_larger_than_the_bound_reaches_a_client_that_reads(instance: StartedInstance) -> None:
    with flux.Flux(instance.uri) as handle:
        configure(handle, "64k")
        pad = "x" * (3 << 20)
        assert handle.rpc("broker.ping", {"pad": pad}).get()["pad"] == pad


def test_a_bound_that_is_none_is_refused_and_the_old_one_stays(instance: StartedInstance) -> None:
    with flux.Flux(instance.uri) as handle:
        configure(handle, "10M")
        errnum, text = error_of(lambda: configure(handle, "lots"))
        assert errnum == errno.EINVAL
        where = "error updating connector-local: error parsing [connector-local] configuration: sendq-max: "
        assert text.startswith(where + "'lots' is not a size")
        assert handle.conf_get("connector-local.sendq-max", update=True) == "10M"
