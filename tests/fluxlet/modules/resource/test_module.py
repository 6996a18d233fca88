"""The module resource, over a socket (spec 07, section 2)."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest
from in_process import GUEST, BrokerThread, ask, error_of, outcome, receive, tell, until

import flux
from flux.constants import FLUX_RPC_STREAMING
from flux.eventlog import EventLogEvent
from fluxlet.modules.resource import discovery
from fluxlet.modules.resource.settings import Settings

CONFIG = {"noverify": True, "config": [{"hosts": "n[0-3]", "cores": "0-1"}]}
Start = Callable[..., BrokerThread]


@pytest.fixture
def start(start_broker: Start) -> Start:
    """A function that starts rank 0 of four nodes; it takes keys of [resource], and modules to be left out."""

    def start(without: str = "sched-simple", **table: Any) -> BrokerThread:
        settings: dict[str, str | None] = {"size": "4", "hostlist": "n[0-3]", "hostname": "n0"}
        broker = start_broker(settings, {"resource": {**CONFIG, **table}})
        if without:
            broker.call(lambda: broker.broker.unload(without))
        return broker

    return start


def status(handle: flux.Flux) -> dict[str, Any]:
    payload: dict[str, Any] = handle.rpc("resource.status").get()
    return payload


def eventlog(handle: flux.Flux) -> list[EventLogEvent]:
    """What is in the KVS."""
    value = handle.rpc("kvs.lookup", {"key": "resource.eventlog", "namespace": "primary", "flags": 0}).get()["val"]
    return [EventLogEvent(line) for line in b64decode(value["data"]).decode().splitlines()]


@pytest.mark.parametrize(
    ("topic", "payload", "error"),
    [
        ("drain", {}, 71),
        ("drain", {"targets": ""}, (22, "idset is empty")),
        ("drain", {"targets": "9"}, (22, "idset is out of range")),
        ("drain", {"targets": "0-2147483647"}, (22, "idset is out of range")),
        ("drain", {"targets": "n9"}, (22, "invalid targets: invalid hosts: n9")),
        ("drain", {"targets": "["}, (22, "invalid targets: Invalid hostlist: '['")),
        ("drain", {"targets": "0", "mode": "x"}, (22, "Invalid mode specified")),
        ("drain", {"targets": "3"}, (22, "rank 3 excluded")),
        ("undrain", {"targets": "0"}, (17, "rank 0 not drained")),
        ("undrain", {"targets": "0", "mode": "x"}, (22, "invalid undrain mode 'x' specified")),
        ("journal", None, (71, "journal requires streaming RPC flag")),
        ("acquire", None, 71),
        ("monitor-waitup", {"up": 5}, (71, "up value is out of range")),
        ("monitor-waitup", {"up": -1}, (71, "up value is out of range")),
        ("monitor-force-down", {"ranks": "x"}, 71),
        ("reload", {"path": "/nosuch"}, (22, "/nosuch: No such file or directory")),
        ("reload", {"path": "/nosuch", "xml": True}, (22, "/nosuch: No such file or directory")),
        ("expiration-update", {}, 71),
        ("bogus", None, (38, "Unknown service method 'resource.bogus'")),
    ],
)
def test_what_is_refused(start: Start, topic: str, payload: Any, error: Any) -> None:
    with start(exclude="3").open() as handle:
        found = error_of(lambda: handle.rpc(f"resource.{topic}", payload).get())
    assert found == error or found[0] == error


def test_guests_may_look_and_no_more(start: Start) -> None:
    with start().open() as handle:
        for topic in ("status", "sched-status", "topo-get"):
            assert ask(handle, f"resource.{topic}", **GUEST).aux1 == 0  # type: ignore[arg-type]
        for topic in ("drain", "undrain", "get", "reload", "journal", "acquire"):
            assert outcome(ask(handle, f"resource.{topic}", {"targets": "0"}, **GUEST))[0] == 1  # type: ignore[arg-type]


def test_drained_by_host_and_excluded_are_not_up(start: Start) -> None:
    with start(exclude="n3").open() as handle:
        handle.rpc("groups.update", {"update": {"broker.online": [{"ranks": "1-3", "set": True}]}}).get()
        until(lambda: status(handle)["online"] == "0-3")
        handle.rpc("resource.drain", {"targets": "n1,n2", "reason": "x"}).get()
        found = status(handle)
        assert list(found["drain"]) == ["1-2"]
        assert found["exclude"] == "3"
        acquired = handle.rpc("resource.acquire", flags=FLUX_RPC_STREAMING).get()
        assert acquired["up"] == "0"
        assert acquired["resources"]["execution"]["R_lite"][0]["rank"] == "0-2"
        down = handle.rpc("resource.sched-status").get()["down"]
        assert down["execution"]["nodelist"] == ["n[1-2]"]


def test_torpid_ranks_are_not_up(start: Start) -> None:
    with start().open() as handle:
        stream = handle.rpc("resource.acquire", flags=FLUX_RPC_STREAMING)
        assert stream.get()["up"] == "0"
        for ranks, told in [(True, {"down": "0"}), (False, {"up": "0"})]:
            stream.reset()
            handle.rpc("groups.update", {"update": {"broker.torpid": [{"ranks": "0", "set": ranks}]}}).get()
            assert stream.get() == told


def test_who_waits_for_ranks_is_told_when_there_are_enough(start: Start) -> None:
    with start().open() as handle:
        handle.rpc("resource.monitor-waitup", {"up": 1}).get()
        waiting = handle.rpc("resource.monitor-waitup", {"up": 2})
        handle.rpc("groups.update", {"update": {"broker.online": [{"ranks": "1-3", "set": True}]}}).get()
        waiting.get()  # more than that came at once


def test_configured_ranks_that_go_offline_may_come_back(start: Start) -> None:
    with start().open() as handle:
        stream = handle.rpc("resource.acquire", flags=FLUX_RPC_STREAMING)
        stream.get()
        stream.reset()
        handle.rpc("resource.monitor-force-down", {"ranks": "0"}).get()
        assert stream.get() == {"down": "0"}  # and no shrink


def test_the_end_of_the_module_and_of_its_client(start: Start) -> None:
    broker = start()
    with broker.open() as handle:
        handle.rpc("resource.acquire", flags=FLUX_RPC_STREAMING).get()
    with broker.open() as handle:
        until(lambda: ask(handle, "resource.acquire", flags=64).aux1 == 0)
        handle.rpc("module.remove", {"name": "resource"}).get()
        assert outcome(receive(handle)) == (125, "the resource module was unloaded")


def test_drains_survive_a_reload(start: Start) -> None:
    with start().open() as handle:
        handle.rpc("resource.drain", {"targets": "1", "reason": "bad disk"}).get()
        handle.rpc("resource.drain", {"targets": "2"}).get()
        handle.rpc("resource.undrain", {"targets": "2"}).get()
        before = status(handle)["drain"]
        handle.rpc("module.remove", {"name": "resource"}).get()
        checkpoint = flux.kvs.get(handle, "checkpoint.resource")
        assert [drain["reason"] for drain in checkpoint["drain_state"].values()] == ["bad disk"]
        handle.rpc("module.load", {"path": "resource", "args": []}).get()
        until(lambda: status(handle)["drain"] == before)
        handle.rpc("resource.undrain", {"targets": "n1", "reason": "repaired"}).get()
        assert [event.name for event in eventlog(handle)] == [
            "drain",
            "drain",
            "undrain",
            "resource-define",
            "undrain",
        ]


def test_events_before_the_history_are_forgotten_and_hosts_that_moved_are_found(start: Start) -> None:
    broker = start(history="0")
    with broker.open() as handle:
        handle.rpc("module.remove", {"name": "resource"}).get()
        old = {"timestamp": 5.0, "name": "drain", "context": {"idset": "0", "nodelist": "n0", "overwrite": 0}}
        moved = {"timestamp": 2e9, "name": "drain", "context": {"idset": "1", "nodelist": "n3", "overwrite": 0}}
        gone = {"timestamp": 2e9, "name": "drain", "context": {"idset": "2", "nodelist": "x", "overwrite": 0}}
        lines = "".join(json.dumps(event) + "\n" for event in (old, moved, gone))
        flux.kvs.put(handle, "resource.eventlog", lines, raw=True)
        flux.kvs.commit(handle)
        handle.rpc("module.load", {"path": "resource", "args": []}).get()
        until(lambda: list(status(handle)["drain"]) == ["3"])
        until(lambda: 5.0 not in [event.timestamp for event in eventlog(handle)])


def test_what_differs_from_the_configuration_is_drained(start_broker: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "discover", lambda restrict: (0b11, 0))
    config = {"resource": {"config": [{"hosts": "testhost", "cores": "0-3"}]}}
    with start_broker({}, config).open() as handle:
        until(lambda: status(handle)["drain"] != {})
        assert status(handle)["drain"]["0"]["reason"] == "rank 0 (testhost) missing resources: core[2-3]"


def test_other_ranks_tell_rank_0_what_they_have(start_broker: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "discover", lambda restrict: (0b11, 0b1))
    settings: dict[str, str | None] = {"rank": "1", "size": "2", "hostname": "n1", "hostlist": "n[0-1]"}
    with start_broker(settings).open() as handle:
        for topic, error in [
            ("status", (71, "this RPC only works on rank 0")),
            ("sched-status", (71, "this RPC only works on rank 0")),
            ("reload", (38, "resource.reload is only available on rank 0")),
            ("drain", (38, "Unknown service method 'resource.drain'")),
            ("undrain", (38, "Unknown service method 'resource.undrain'")),
            ("journal", (38, "Unknown service method 'resource.journal'")),
            ("acquire", (38, "Unknown service method 'resource.acquire'")),
        ]:
            found = outcome(ask(handle, f"resource.{topic}", {"targets": "0", "path": "x"}))
            assert (found[0], found[1]) == error
        assert ask(handle, "resource.topo-get").raw is not None


def test_a_configuration_that_will_not_do_is_refused(start: Start) -> None:
    with start().open() as handle:
        text = error_of(lambda: handle.rpc("resource.config-reload", {"resource": {"bogus": 1}}).get())
        assert text == (22, "error parsing [resource] configuration: 1 object item(s) left unpacked: bogus")
        handle.rpc("resource.config-reload", {"resource": {**CONFIG, "exclude": "1", "journal-max": 1}}).get()
        assert status(handle)["exclude"] == "1"
        error = error_of(lambda: handle.rpc("resource.config-reload", {"resource": {"exclude": "zz"}}).get())
        assert error == (22, "resource.exclude: invalid hosts: zz")
        tell(handle, "resource.journal", flags=64, matchtag=1)
        assert receive(handle).payload["events"][0]["name"] == "truncate"


def test_fake_resources_are_all_there(start_broker: Start) -> None:
    config = {"fake-resources": {"nnodes": 1000, "cores-per-node": 4}}
    with start_broker({}, config).open() as handle:
        listed = flux.resource.resource_list(handle).get()
        assert (listed.up.nnodes, listed.up.ncores) == (1000, 4000)
        handle.rpc("resource.drain", {"targets": "fake[500-999]"}).get()
        assert flux.resource.resource_list(handle).get().up.nnodes == 500


def test_arguments(start: Start) -> None:
    with start().open() as handle:
        handle.rpc("module.remove", {"name": "resource"}).get()
        load = {"path": "resource", "args": ["colour"]}
        assert error_of(lambda: handle.rpc("module.load", load).get()) == (22, "unknown argument 'colour'")
        handle.rpc("module.load", {**load, "args": ["monitor-force-up", "noverify", "notruncate"]}).get()
        until(lambda: status(handle)["online"] == "0-3")


def test_a_stored_R_may_be_of_more_nodes_than_there_are_brokers_if_all_are_declared_up(start_broker: Start) -> None:
    lite = [{"rank": "0-99", "children": {"core": "0-7"}}]
    execution = {"R_lite": lite, "starttime": 0, "expiration": 0, "nodelist": ["node[0-99]"]}
    with start_broker({}, {}).open() as handle:
        flux.kvs.put(handle, "resource.R", {"version": 1, "execution": execution})
        flux.kvs.commit(handle)
        handle.rpc("module.remove", {"name": "resource"}).get()
        handle.rpc("module.load", {"path": "resource", "args": ["noverify", "monitor-force-up"]}).get()
        until(lambda: flux.resource.resource_list(handle).get().up.ncores == 800)
        handle.rpc("resource.drain", {"targets": "node[50-99]"}).get()
        assert flux.resource.resource_list(handle).get().up.nnodes == 50


def test_defaults_of_settings_are_those_of_an_empty_table() -> None:
    assert vars(Settings({})) == vars(Settings({"resource": {}}))
