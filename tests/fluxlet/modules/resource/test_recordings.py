"""The recordings of the reference's resource module, replayed (spec 07, section 11)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from in_process import BrokerThread, ask, until
from service_recordings import Deviation, records, replay

import flux
from fluxlet.modules.resource import discovery

TWO_CORES = [{"rank": "1-3", "children": {"core": "0-1"}}]
Start = Callable[[str], BrokerThread]


@pytest.fixture
def four_ranks(start_broker: Callable[..., BrokerThread], monkeypatch: pytest.MonkeyPatch) -> Start:
    """A function that starts rank 0 of four, and says what the others would; it takes the hostlist."""
    monkeypatch.setattr(discovery, "discover", lambda restrict: (0b11, 0))

    def start(hostlist: str) -> BrokerThread:
        broker = start_broker({"size": "4", "hostlist": hostlist, "hostname": "vm"})
        r = {"version": 1, "execution": {"R_lite": TWO_CORES, "nodelist": ["vm,vm,vm"]}}
        broker.call(lambda: broker.broker.unload("sched-simple"))  # who has acquired the resources
        with broker.open() as handle:
            until(lambda: handle.rpc("resource.status").get()["online"] == "0")
            assert ask(handle, "resource.get").aux1 == 2  # not all are heard of
            handle.rpc("resource.topo-reduce", {"count": 3, "resource": r}, flags=flux.constants.FLUX_RPC_NORESPONSE)
            update = {"broker.online": [{"ranks": "1-3", "set": True}]}
            handle.rpc("groups.update", {"update": update}).get()
            until(lambda: handle.rpc("resource.status").get()["online"] == "0-3")
        return broker

    return start


def test_acquire(four_ranks: Start) -> None:
    broker = four_ranks("vm,vm,vm,vm")
    replay(records("resource-acquire"), broker.open)


def test_journal(four_ranks: Start) -> None:
    broker = four_ranks("test[0-3]")
    with broker.open() as handle:
        handle.rpc("resource.drain", {"targets": "1", "reason": "hist"}).get()
    replay(records("resource-journal"), broker.open)


def test_drain_commands(four_ranks: Start) -> None:
    broker = four_ranks("vm,vm,vm,vm")
    with broker.open() as handle:
        handle.rpc("resource.drain", {"targets": "1"}).get()
    replay(records("resource-drain-cli"), broker.open, lambda topic: topic.startswith("job-manager."))


def test_status(start_broker: Callable[..., BrokerThread]) -> None:
    """What of the recording of the scheduler is the resource module's."""
    config = {
        "resource": {
            "noverify": True,
            "config": [
                {"hosts": "test[0-3]", "cores": "0-3"},
                {"hosts": "test[2-3]", "gpus": "0-1", "properties": ["big", "gpu"]},
                {"hosts": "test0", "properties": ["+local", "small"]},
            ],
        }
    }
    broker = start_broker({"size": "4", "hostlist": "test[0-3]"}, config)
    with broker.open() as handle:
        handle.rpc("groups.update", {"update": {"broker.online": [{"ranks": "1-3", "set": True}]}}).get()
        until(lambda: handle.rpc("resource.status").get()["online"] == "0-3")
    lines = records("sched-feasibility-status")
    answers = [n for n, line in enumerate(lines, 1) if line["topic"] == "resource.sched-status"]
    number = answers[1]
    empty = {"version": 1, "execution": {"R_lite": [], "starttime": 0.0, "expiration": 0.0, "nodelist": [""]}}
    payload = {**lines[number - 1]["payload"], "allocated": empty}
    replay(
        lines,
        broker.open,
        lambda topic: not topic.startswith("resource."),
        {number: Deviation("there is no job manager here, whose answer `allocated` is", payload=payload)},
    )
