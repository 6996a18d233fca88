"""The module `config`: changes are made everywhere or nowhere (spec 03, 10.3)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_process import GUEST, BrokerThread, ask, error_of, receive, tell, until

import flux
from flux.brokermod import request_handler
from flux.constants import FLUX_MSGFLAG_STREAMING
from flux.message import Message
from fluxlet.service import Service


class Picky(Service):
    """A module with a configuration: it wants `picky.ok` to be true where there is `picky`."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.taken: list[Any] = []

    @request_handler("config-reload")
    def reload(self, msg: Message) -> None:
        config = msg.payload
        if not config.get("picky", {}).get("ok", True):
            raise OSError(errno.EDOM, "not to my taste")
        self.taken.append(config)
        self.handle.respond(msg)


@pytest.fixture
def picky(broker_thread: BrokerThread) -> list[list[Any]]:
    """What two such modules have taken; they are asked in this order."""

    def load() -> list[list[Any]]:
        first = broker_thread.broker.load("easy", type("Easy", (Picky,), {"reload": easy_reload}))
        second = broker_thread.broker.load("picky", Picky)
        return [first.instance.taken, second.instance.taken]  # type: ignore[union-attr]

    return broker_thread.call(load)


@request_handler("config-reload")
def easy_reload(self: Picky, msg: Message) -> None:
    """Takes everything."""
    self.taken.append(msg.payload)
    self.handle.respond(msg)


def test_a_change_reaches_every_module(handle: flux.Flux, picky: list[list[Any]]) -> None:
    handle.rpc("config.load", {"a": 1}).get()
    assert picky == [[{"a": 1}], [{"a": 1}]]
    assert handle.rpc("config.get").get() == {"a": 1}


def test_a_refused_change_is_taken_back(handle: flux.Flux, picky: list[list[Any]]) -> None:
    handle.rpc("config.load", {"a": 1}).get()
    future = handle.rpc("config.load", {"a": 2, "picky": {"ok": False}})
    assert error_of(future.get) == (errno.EDOM, "error updating picky: not to my taste")
    assert [config.get("a") for config in picky[0]] == [1, 2, 1]
    assert picky[1] == [{"a": 1}]
    assert handle.rpc("config.get").get() == {"a": 1}


def test_an_unchanged_configuration_bothers_nobody(handle: flux.Flux, picky: list[list[Any]]) -> None:
    handle.rpc("config.load", {"a": True}).get()
    handle.rpc("config.load", {"a": True}).get()
    assert picky[0] == [{"a": True}]
    handle.rpc("config.load", {"a": 1}).get()  # equal, to Python
    assert len(picky[0]) == 2
    assert handle.rpc("config.get").get()["a"] is not True


def test_changes_asked_for_at_once_are_made_one_after_the_other(handle: flux.Flux, picky: list[list[Any]]) -> None:
    futures = [handle.rpc("config.load", {"a": a, "picky": {"ok": a != 1}}) for a in range(4)]
    failed = [a for a, future in enumerate(futures) if future.wait_for() and future.error_string()]
    assert failed == [1]
    assert [config["a"] for config in picky[0]] == [0, 1, 0, 2, 3]
    assert [config["a"] for config in picky[1]] == [0, 2, 3]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (
            {"access": {"foo": 1}},
            "error updating connector-local: error parsing [access] configuration: 1 object item(s) left unpacked: foo",
        ),
        (
            {"heartbeat": {"foo": 1}},
            "error updating heartbeat: error reading [heartbeat] config table: 1 object item(s) left unpacked: foo",
        ),
        ({"heartbeat": {"period": "x"}}, "error updating heartbeat: error parsing heartbeat.period FSD value"),
    ],
)
def test_texts_of_refusals(handle: flux.Flux, config: Any, text: str) -> None:
    assert error_of(lambda: handle.rpc("config.load", config).get()) == (errno.EINVAL, text)
    assert handle.rpc("config.get").get() == {}


@pytest.mark.parametrize("payload", [None, "x", [1], "1"])
def test_what_is_no_object(handle: flux.Flux, payload: Any) -> None:
    error = error_of(lambda: handle.rpc("config.load", payload).get())
    assert error == (errno.EPROTO, "error decoding config.load request")


def test_watchers_hear_of_accepted_changes(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    with broker_thread.open() as other:
        tell(other, "config.get", matchtag=3, flags=FLUX_MSGFLAG_STREAMING, **GUEST)
        assert receive(other).payload == {}
        handle.rpc("config.load", {"a": 1}).get()
        error_of(lambda: handle.rpc("config.load", {"access": 1}).get())
        handle.rpc("config.load", {"a": 2}).get()
        assert [receive(other).payload for _ in range(2)] == [{"a": 1}, {"a": 2}]
        handle.rpc("config.load", {"a": 2}).get()
        assert other.attr_get("rank") == "0"
        assert not other.core.link.queue
    until(lambda: broker_thread.call(lambda: len(broker_thread.broker.clients.all)) == 1)
    service = broker_thread.broker.modules["config"].instance
    assert broker_thread.call(lambda: service.watchers) == []  # type: ignore[union-attr]


def test_only_the_owner_changes_it(handle: flux.Flux) -> None:
    assert ask(handle, "config.get", None, **GUEST).aux1 == 0
    assert ask(handle, "config.load", {}, **GUEST).aux1 == errno.EPERM
    assert ask(handle, "config.reload", None, **GUEST).aux1 == errno.EPERM


def test_reload_reads_the_file_again(start_broker: Callable[..., BrokerThread], tmp_path: Path) -> None:
    path = tmp_path / "flux.toml"
    path.write_text("[a]\nb = 1\n")
    broker = start_broker({"config.path": str(path)}, {"a": {"b": 1}})
    with broker.open() as handle:
        handle.rpc("config.reload").get()
        path.write_text("[a]\nb = 2\n")
        assert handle.rpc("config.get").get() == {"a": {"b": 1}}
        handle.rpc("config.reload").get()
        assert handle.rpc("config.get").get() == {"a": {"b": 2}}
        path.write_text("[a]\nb =\n")
        errnum, text = error_of(lambda: handle.rpc("config.reload").get())
        assert errnum == errno.EINVAL
        assert text.startswith(f"Config file error: {path}:2: ")
        path.unlink()
        errnum, text = error_of(lambda: handle.rpc("config.reload").get())
        assert (errnum, text) == (errno.EINVAL, f"Config file error: stat: {path}: No such file or directory")
        assert handle.rpc("config.get").get() == {"a": {"b": 2}}


def test_reload_without_a_path_is_nothing(handle: flux.Flux) -> None:
    handle.rpc("config.load", {"a": 1}).get()
    assert handle.rpc("config.reload").get() is None
    assert handle.rpc("config.get").get() == {"a": 1}
