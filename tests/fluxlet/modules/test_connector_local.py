"""The module `connector-local`: clients, and who may be one (spec 01, 7.2 and 7.7)."""

from __future__ import annotations

import errno
import os

import pytest
from in_process import GUEST, BrokerThread, ask, error_of, outcome

import flux
from fluxlet.broker import local_server

SOMEBODY = 4711


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The uid that the kernel shall have said of the next connections."""
    uid = [os.getuid()]
    monkeypatch.setattr(local_server, "peer_credentials", lambda sock: (os.getpid(), uid[0]))
    return uid


def test_statistics(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    with broker_thread.open() as other:
        other.attr_get("rank")
        answer = handle.rpc("connector-local.stats-get").get()
    server = answer.pop("server")
    assert answer == {"allow_guest_user": False, "allow_root_owner": False}
    assert server["connects"] == 2
    mine, others = server["clients"]
    assert set(mine) == {"uuid", "userid", "pid", "txcount", "rxcount", "rxbacklog"}
    assert (mine["pid"], mine["userid"], len(mine["uuid"])) == (os.getpid(), os.getuid(), 36)
    assert (mine["txcount"], mine["rxcount"]) == (1, 0)
    assert (others["txcount"], others["rxcount"]) == (1, 1)


def test_strangers_are_refused(broker_thread: BrokerThread, play: list[int]) -> None:
    play[0] = SOMEBODY
    errnum, text = error_of(broker_thread.open)
    assert (errnum, text) == (errno.EPERM, "Unable to connect to Flux: Operation not permitted")


def test_guests_connect_once_the_configuration_says_so(
    broker_thread: BrokerThread, handle: flux.Flux, play: list[int]
) -> None:
    handle.rpc("config.load", {"access": {"allow-guest-user": True}}).get()
    assert handle.rpc("connector-local.stats-get").get()["allow_guest_user"] is True
    play[0] = SOMEBODY
    with broker_thread.open() as guest:
        answer = guest.rpc("broker.ping", {}).get()
        assert (answer["userid"], answer["rolemask"]) == (SOMEBODY, 6)
        assert error_of(lambda: guest.attr_set("test.a", "1"))[0] == errno.EPERM
        # Connections keep their roles; those to come get others.
        handle.rpc("config.load", {}).get()
        assert guest.rpc("broker.ping", {}).get()["rolemask"] == 6
        error_of(broker_thread.open)


def test_the_debug_flag_refuses_one_connection(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    assert handle.rpc("connector-local.debug", {"op": "setbit", "flags": 1}).get() == {"flags": 1}
    assert error_of(broker_thread.open)[0] == errno.EPERM
    with broker_thread.open() as other:
        assert other.get_rank() == 0


def test_its_unknown_methods_are_unknown_without_text(handle: flux.Flux) -> None:
    assert outcome(ask(handle, "connector-local")) == (errno.ENOSYS, None)
    assert outcome(ask(handle, "connector-local.nosuch")) == (errno.ENOSYS, None)
    assert ask(handle, "connector-local.ping", {}).aux1 == 0


def test_roles(handle: flux.Flux) -> None:
    text = "Request requires owner credentials"
    assert outcome(ask(handle, "connector-local.stats-get", **GUEST)) == (errno.EPERM, text)
