"""Resources of an instance of several brokers: found together, and lost one by one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from in_process import error_of, until

import flux
from flux.resource import resource_list
from fluxlet.testing import Instance


@contextmanager
def connected() -> Iterator[flux.Flux]:
    """An instance of three, all of them there."""
    with Instance(3, env={"SHELL": "/bin/sh"}) as instance, instance.handle() as handle:
        until(lambda: handle.rpc("resource.status").get()["online"] == "0-2")
        yield handle


@pytest.fixture(scope="module")
def three() -> Iterator[flux.Flux]:
    """Shared: nobody is lost here."""
    with connected() as handle:
        yield handle


@pytest.fixture
def own_three() -> Iterator[flux.Flux]:
    with connected() as handle:
        yield handle


def jobspec(nodes: int) -> dict[str, Any]:
    slot = {"type": "slot", "count": 1, "label": "task", "with": [{"type": "core", "count": 1}]}
    return {"resources": [{"type": "node", "count": nodes, "with": [slot]}]}


def test_all_ranks_say_what_they_have(three: flux.Flux) -> None:
    known = three.rpc("resource.get").get()
    assert known["method"] == "dynamic-discovery"
    assert [group["rank"] for group in known["R"]["execution"]["R_lite"]] == ["0-2"]
    three.rpc("feasibility.check", {"jobspec": jobspec(3)}).get()


@pytest.mark.parametrize("rank", [1, 2])
def test_other_ranks_know_what_rank_0_knows(three: flux.Flux, rank: int) -> None:
    assert three.rpc("resource.get", nodeid=rank).get() == three.rpc("resource.get").get()
    assert error_of(lambda: three.rpc("resource.status", nodeid=rank).get()) == (
        71,
        "this RPC only works on rank 0",
    )


def test_a_rank_that_is_lost_is_down_and_no_job_waits_for_it(own_three: flux.Flux) -> None:
    own_three.rpc("overlay.disconnect-subtree", {"rank": 2}, nodeid=0).get()
    until(lambda: own_three.rpc("resource.status").get()["offline"] == "2")
    listed = resource_list(own_three).get()
    assert (str(listed.up.ranks), str(listed.down.ranks)) == ("0-1", "2")
    until(lambda: "unsatisfiable" in _infeasible(own_three))
    with own_three.rpc("resource.journal", flags=flux.constants.FLUX_RPC_STREAMING) as journal:
        events = []
        while batch := journal.get()["events"]:
            events += batch
            journal.reset()
    assert {"offline", "restart"} <= {event["name"] for event in events}


def _infeasible(handle: flux.Flux) -> str:
    try:
        handle.rpc("feasibility.check", {"jobspec": jobspec(3)}).get()
    except OSError as exc:
        return str(exc.strerror)
    return ""
