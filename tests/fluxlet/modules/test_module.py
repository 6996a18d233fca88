"""The service `module`, and the built-in services as a whole."""

from __future__ import annotations

import errno

from in_process import GUEST, BrokerThread, ask, error_of

import flux
from flux.constants import FLUX_RPC_STREAMING
from fluxlet.broker.builtins import INTERNAL, LISTED


def test_listed_modules_are_running_and_sorted(handle: flux.Flux) -> None:
    modules = handle.rpc("module.list").get()["mods"]
    names = [module["name"] for module in modules]
    assert names == sorted(names)
    assert set(names) == set(LISTED)
    assert {module["status"] for module in modules} == {1}
    assert {**modules[0], "idle": 0} == {
        "name": "barrier",
        "path": "barrier",
        "idle": 0,
        "status": 1,
        "services": ["barrier"],
        "sendqueue": 0,
        "recvqueue": 0,
    }


def test_a_module_can_be_loaded_again_by_the_path_that_it_was_listed_with(handle: flux.Flux) -> None:
    paths = {module["name"]: module["path"] for module in handle.rpc("module.list").get()["mods"]}
    handle.rpc("module.remove", {"name": "barrier"}).get()
    handle.rpc("module.load", {"path": paths["barrier"], "args": []}).get()
    assert handle.rpc("barrier.ping", {"seq": 1}).get()["seq"] == 1
    assert paths["config"] == "builtin"  # which cannot be loaded again, as there is no broker without it


def test_guests_may_see_them(handle: flux.Flux) -> None:
    assert ask(handle, "module.list", None, **GUEST).aux1 == 0


def test_only_modules_in_the_list_have_the_standard_methods(handle: flux.Flux) -> None:
    for name in (*LISTED, "broker"):
        assert handle.rpc(f"{name}.ping", {"seq": 1}).get()["seq"] == 1
    for name in INTERNAL:
        if name != "broker":
            text = f"Unknown service method '{name}.ping'"
            assert error_of(lambda name=name: handle.rpc(f"{name}.ping", {}).get()) == (errno.ENOSYS, text)


def test_every_service_ends_cleanly(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    waiting = handle.rpc("barrier.enter", {"name": "b", "nprocs": 2})
    watching = [
        handle.rpc("config.get", flags=FLUX_RPC_STREAMING),
        handle.rpc("groups.get", {"name": "g"}, flags=FLUX_RPC_STREAMING),
        handle.rpc("log.dmesg", {"follow": True, "nobacklog": True}, flags=FLUX_RPC_STREAMING),
        handle.rpc("state-machine.monitor", flags=FLUX_RPC_STREAMING),
    ]
    handle.attr_get("log-stderr-level")
    for name in (*reversed(LISTED), "state-machine", "log"):
        broker_thread.call(lambda name=name: broker_thread.broker.unload(name))
        assert error_of(lambda name=name: handle.rpc(f"{name}.ping", {}).get())[0] == errno.ENOSYS
    assert error_of(waiting.get) == (errno.EHOSTUNREACH, "module disconnect")
    for future in watching:
        while not future.wait_for().error_string():
            future.reset()
        assert error_of(future.get) == (errno.EHOSTUNREACH, "module disconnect")
