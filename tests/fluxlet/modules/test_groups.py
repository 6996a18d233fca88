"""The module `groups` (spec 04, 4.1)."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import GUEST, BrokerThread, ask, error_of, outcome, receive, tell, until
from linked import LinkedInstance

import flux
from flux.constants import FLUX_MSGFLAG_STREAMING

G = {"name": "g"}


def members(handle: flux.Flux, name: str = "g") -> str:
    return handle.rpc("groups.get", {"name": name}, nodeid=0).get()["members"]


def test_joining_and_leaving(handle: flux.Flux) -> None:
    assert members(handle) == ""
    assert handle.rpc("groups.join", G).get() is None
    assert members(handle) == "0"
    error = error_of(lambda: handle.rpc("groups.join", G).get())
    assert error == (errno.EEXIST, "rank 0 is already a member of g")
    assert handle.rpc("groups.leave", G).get() is None
    assert members(handle) == ""
    assert error_of(lambda: handle.rpc("groups.leave", G).get()) == (errno.ENOENT, "rank 0 is not a member of g")


def test_groups_that_are_always_there(handle: flux.Flux) -> None:
    assert handle.rpc("groups.stats-get").get() == {"subtree": {"broker.online": "0", "broker.torpid": ""}}


def test_a_watcher_hears_of_every_change_and_of_no_other_group(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    with broker_thread.open() as watcher:
        tell(watcher, "groups.get", G, matchtag=3, flags=FLUX_MSGFLAG_STREAMING)
        heard = [receive(watcher).payload["members"]]
        for method, name in (("join", "g"), ("join", "other"), ("leave", "g")):
            handle.rpc(f"groups.{method}", {"name": name}).get()
        heard += [receive(watcher).payload["members"] for _ in range(2)]
    assert heard == ["", "0", ""]


def test_the_answer_comes_before_the_change(handle: flux.Flux) -> None:
    tell(handle, "groups.get", G, matchtag=3, flags=FLUX_MSGFLAG_STREAMING)
    receive(handle)
    tell(handle, "groups.join", G, matchtag=4)
    assert [receive(handle).aux2, receive(handle).aux2] == [4, 3]


def test_groups_are_left_when_the_client_that_joined_goes(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    with broker_thread.open() as other:
        other.rpc("groups.join", G).get()
        handle.rpc("groups.join", {"name": "mine"}).get()
        tell(handle, "groups.get", G, matchtag=3, flags=FLUX_MSGFLAG_STREAMING)
        assert receive(handle).payload == {"members": "0"}
    assert receive(handle).payload == {"members": ""}
    assert members(handle, "mine") == "0"


def test_anybody_of_the_rank_may_leave_for_it(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    with broker_thread.open() as other:
        other.rpc("groups.join", G).get()
        handle.rpc("groups.leave", G).get()
    until(lambda: broker_thread.call(lambda: len(broker_thread.broker.clients.all)) == 1)
    assert members(handle) == ""


@pytest.mark.parametrize("payload", [None, {}, {"name": 1}, "x"])
@pytest.mark.parametrize("method", ["get", "join", "leave"])
def test_bad_requests(handle: flux.Flux, method: str, payload: Any) -> None:
    assert outcome(ask(handle, f"groups.{method}", payload)) == (errno.EPROTO, None)


@pytest.mark.parametrize(("method", "errnum"), [("get", 0), ("stats-get", 0), ("join", 1), ("leave", 1), ("update", 1)])
def test_roles(handle: flux.Flux, method: str, errnum: int) -> None:
    assert ask(handle, f"groups.{method}", G, **GUEST).aux1 == errnum


@pytest.mark.parametrize(
    "update", [{}, {"update": 1}, {"update": {"g": [{"ranks": "x", "set": True}]}}, {"update": {"g": [{"ranks": "1"}]}}]
)
def test_a_bad_update_changes_nothing(handle: flux.Flux, update: Any) -> None:
    assert ask(handle, "groups.update", update).aux1 == errno.EPROTO
    assert members(handle) == ""


def test_updates_are_applied_in_order(handle: flux.Flux) -> None:
    changes = [{"ranks": "1-5", "set": True}, {"ranks": "2-3", "set": False}, {"ranks": "3,9", "set": True}]
    assert ask(handle, "groups.update", {"update": {"g": changes}}).aux1 == 0
    assert members(handle) == "1,3-5,9"


@pytest.fixture
def chain(tmp_path: Path) -> Iterator[list[flux.Flux]]:
    """Handles on the ranks of a chain 0 - 1 - 2."""
    instance = LinkedInstance(str(tmp_path), 0, 1)
    instance.start()
    handles = [flux.Flux(f"local://{tmp_path}/local-{rank}") for rank in range(3)]
    yield handles
    for handle in handles:
        handle.handle = None
    instance.stop()


def test_members_below_come_up_to_rank_0(chain: list[flux.Flux]) -> None:
    tell(chain[0], "groups.get", G, matchtag=3, flags=FLUX_MSGFLAG_STREAMING)
    heard = [receive(chain[0]).payload["members"]]
    for handle in chain:
        handle.rpc("groups.join", G).get()
    while heard[-1] != "0-2":
        heard.append(receive(chain[0]).payload["members"])
    chain[2].handle = None
    while heard[-1] != "0-1":
        heard.append(receive(chain[0]).payload["members"])


def test_each_rank_knows_its_subtree(chain: list[flux.Flux]) -> None:
    until(lambda: members(chain[0], "broker.online") == "0-2")
    subtrees = [handle.rpc("groups.stats-get").get()["subtree"] for handle in chain]
    assert subtrees == [
        {"broker.online": "0-2", "broker.torpid": ""},
        {"broker.online": "1-2"},
        {"broker.online": "2"},
    ]


def test_what_comes_together_goes_up_as_one(chain: list[flux.Flux]) -> None:
    tell(chain[0], "groups.get", G, matchtag=3, flags=FLUX_MSGFLAG_STREAMING)
    receive(chain[0])
    for method in ("join", "leave", "join"):
        tell(chain[1], f"groups.{method}", G)
    # Three changes in one message, of which rank 0 tells each.
    assert [receive(chain[0]).payload["members"] for _ in range(3)] == ["1", "", "1"]


def test_other_ranks_are_for_their_own_clients(chain: list[flux.Flux]) -> None:
    for method in ("join", "leave"):
        error = error_of(lambda method=method: chain[0].rpc(f"groups.{method}", G, nodeid=1).get())
        assert error == (errno.EPROTO, f"groups.{method} is restricted to the local broker")
    error = error_of(lambda: chain[1].rpc("groups.get", G).get())
    assert error == (errno.EPROTO, "this RPC is only available on rank 0")
