"""SchedResourceList, ResourceStatus, and the journal, of a running instance and of given data (spec 07, 8.3)."""

from __future__ import annotations

from typing import Any

import pytest

import flux
import flux.resource
from flux.resource import ResourceJournalConsumer, ResourceStatus, SchedResourceList, resource_list, resource_status


def r(ranks: str) -> dict[str, Any]:
    nodes = len(flux.idset.IDset(ranks))
    execution = {
        "R_lite": [{"rank": ranks, "children": {"core": "0-1"}}] if ranks else [],
        "nodelist": [f"n[{ranks}]" if nodes else ""],
        "properties": {"odd": "1,3"},
    }
    return {"version": 1, "execution": execution}


LISTED = {"all": r("0-3"), "down": r("3"), "allocated": r("0")}


def test_states_of_a_list() -> None:
    listed = SchedResourceList(LISTED)
    states = ("all", "down", "allocated", "up", "free")
    assert {state: str(listed[state].ranks) for state in states} == {
        "all": "0-3",
        "down": "3",
        "allocated": "0",
        "up": "0-2",
        "free": "1-2",
    }
    assert [listed[state].state for state in states] == list(states)
    for wrong in ("bogus", "_private"):
        with pytest.raises(AttributeError):
            listed[wrong]


def test_missing_members_are_empty() -> None:
    listed = SchedResourceList({"all": r("0-1"), "down": None})
    assert (listed.down.nnodes, listed.allocated.nnodes, listed.free.nnodes) == (0, 0, 2)


@pytest.mark.parametrize(("include", "free"), [("0-1", "1"), ("n[2-3]", "2"), ("n2,nosuch", "2"), ("nosuch", "")])
def test_a_filter_leaves_some_ranks_also_of_what_was_asked_before(include: str, free: str) -> None:
    listed = SchedResourceList(LISTED)
    assert str(listed.free.ranks) == "1-2"
    assert listed.filter(include) is None  # type: ignore[func-returns-value]
    assert str(listed.free.ranks) == free


def test_a_list_by_constraint() -> None:
    odd = SchedResourceList(LISTED).copy_constraint({"properties": ["odd"]})
    assert (str(odd.all.ranks), str(odd.free.ranks), str(odd.down.ranks)) == ("1,3", "1", "3")
    with pytest.raises(ValueError, match="bogus"):
        SchedResourceList(LISTED).copy_constraint({"bogus": []})


STATUS = {
    "R": r("0-3"),
    "drain": {"1-2": {"timestamp": 5.0, "reason": "why"}},
    "online": "0-2",
    "offline": "3",
    "exclude": "",
    "torpid": "0",
}


def test_states_of_nodes() -> None:
    status = ResourceStatus(STATUS, allocated_ranks=flux.idset.IDset("2"))
    found = {state: str(status[state]) for state in ("all", "avail", "offline", "drained", "draining", "torpid")}
    assert found == {"all": "0-3", "avail": "0", "offline": "3", "drained": "1", "draining": "2", "torpid": "0"}
    assert str(status.get_idset("drained", "offline")) == "1,3"
    assert str(status.nodelist) == "n[0-3]"
    info = status.get_drain_info(1)
    assert info is not None
    assert (str(info.ranks), info.timestamp, info.reason) == ("1-2", 5.0, "why")
    assert status.get_drain_info(0) is None
    with pytest.raises(AttributeError):
        status["bogus"]
    status.filter("n[0-1]")
    assert (str(status.all), str(status.drained), str(status.draining)) == ("0-1", "1", "")
    assert ResourceStatus().all.count() == 0


def test_a_node_that_is_cleaned_up_is_draining() -> None:
    status = ResourceStatus(STATUS, housekeeping_ranks=flux.idset.IDset("1"))
    assert (str(status.draining), str(status.drained), str(status.housekeeping)) == ("1", "2", "1")


def test_the_instance_says_how_it_does(instance_handle: flux.Flux, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = resource_list(instance_handle).get()
    assert str(listed.all.ranks) == "0"
    assert listed.free.ncores == listed.all.ncores > 0
    assert str(resource_status(instance_handle).get().avail) == "0"
    for topic in ("nosuch.service", "sched.resource-status"):
        monkeypatch.setenv("FLUX_RESOURCE_LIST_RPC", topic)
        assert str(resource_list(instance_handle).get().all.ranks) == "0"
    seen: list[SchedResourceList] = []
    resource_list(instance_handle).then(lambda future: seen.append(future.get()))
    instance_handle.reactor_run()
    assert seen[0].all.ncores == listed.all.ncores


def test_the_journal(instance_handle: flux.Flux) -> None:
    consumer = ResourceJournalConsumer(instance_handle, include_sentinel=True).start()
    events = []
    while not (event := consumer.poll(10.0)).is_empty():
        events.append(event)
    assert str(event) == f"{event.timestamp:.5f} End of historical data stream"
    names = [event.name for event in events]
    assert {"restart", "online", "resource-define"} <= set(names)
    define = events[names.index("resource-define")]
    assert define.R["version"] == 1
    assert str(define) == f'{define.timestamp:.5f} resource-define {{"method":"dynamic-discovery"}}'
    with pytest.raises(TimeoutError):
        consumer.poll(0.01)
    consumer.stop()
    assert consumer.poll(10.0) is None
