"""What is under way to a client of another rank: two brokers in this process, and a client that does not read."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import ask, error_of, outcome, until
from linked import LinkedInstance

import flux
from flux.constants import FLUX_RPC_STREAMING


@pytest.fixture
def linked(tmp_path: Path) -> Iterator[LinkedInstance]:
    instance = LinkedInstance(str(tmp_path), 0)
    instance.start()
    yield instance
    instance.stop()


def start(handle: flux.Flux, *words: str, rank: int) -> Any:
    cmd = {"cmdline": list(words), "env": {"PATH": os.environ["PATH"]}, "opts": {}, "channels": []}
    return handle.rpc("rexec.exec", {"cmd": cmd, "flags": 3}, rank, FLUX_RPC_STREAMING)


def rexec(linked: LinkedInstance, rank: int) -> Any:
    return linked.brokers[rank].modules["rexec"].instance  # type: ignore[attr-defined]


def test_a_client_of_rank_0_that_does_not_read_stops_a_process_of_rank_1(linked: LinkedInstance) -> None:
    with flux.Flux(f"local://{linked.directory}/local-0") as reader:
        reader.rpc("rexec.list", nodeid=0).get()  # before it is asked it has no object to look at
        stream = start(reader, "yes", rank=1)
        assert stream.get()["type"] == "started"
        flow, drain = rexec(linked, 1).host.flow, rexec(linked, 0).drain
        until(lambda: len(drain._waiting) == 2)
        (known,) = flow._sent.values()
        assert known.questions == 2
        waiting = max(client.backlog for client in linked.brokers[0].server.connections)
        assert 1 << 20 < waiting < 2 << 20
        for _ in range(30_000):  # it goes on when that is read
            stream.reset()
            assert stream.get()["type"] == "output"
    # Its client has gone: nothing is kept for it.
    until(lambda: not drain._waiting and not flow._sent)
    with flux.Flux(f"local://{linked.directory}/local-0") as handle:
        until(lambda: handle.rpc("rexec.list", nodeid=1).get()["procs"] == [])


def test_a_little_output_needs_no_questions(linked: LinkedInstance) -> None:
    with flux.Flux(f"local://{linked.directory}/local-0") as handle:
        stream = start(handle, "echo", "hello", rank=1)
        with pytest.raises(OSError, match="No data available"):
            run_to_the_end(stream)
        (known,) = rexec(linked, 1).host.flow._sent.values()
        assert known.questions == 0
        # A client of the same rank is looked at, not asked about.
        with pytest.raises(OSError, match="No data available"):
            run_to_the_end(start(handle, "echo", "hello", rank=0))
        assert rexec(linked, 0).host.flow._sent == {}
    until(lambda: rexec(linked, 1).host.flow._sent == {})


def run_to_the_end(stream: Any) -> None:
    while True:
        stream.get()
        stream.reset()


def test_a_question_about_nobody_is_answered_at_once(linked: LinkedInstance) -> None:
    with flux.Flux(f"local://{linked.directory}/local-0") as handle:
        assert handle.rpc("rexec.drained", {"uuid": "nobody"}).get() is None
        assert error_of(handle.rpc("rexec.drained", {}).get)[0] == errno.EPROTO
        assert outcome(ask(handle, "rexec.drained", {"uuid": "x"}, userid=1234, rolemask=2))[0] == errno.EPERM
