"""The service `service`: additional names of modules."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from in_process import BrokerThread, ask, error_of, until

import flux
from flux.brokermod import request_handler
from flux.message import Message
from fluxlet.broker.host import Module
from fluxlet.service import Service


class Twofold(Service):
    """Serves a name besides its own."""

    @request_handler("extra.hello", prefix=False)
    def hello(self, msg: Message) -> None:
        self.handle.respond(msg, {"by": self.name})


@pytest.fixture
def module(broker_thread: BrokerThread) -> Module:
    return broker_thread.call(lambda: broker_thread.broker.load("twofold", Twofold))


@pytest.fixture
def change(broker_thread: BrokerThread, module: Module, handle: flux.Flux) -> Callable[[str, str], int]:
    """Has the module send `service.METHOD` for a name; returns the errno of the answer."""

    def send(method: str, name: str) -> int:
        answers: list[int] = []

        def answered(future: Any) -> None:
            try:
                future.get()
                answers.append(0)
            except OSError as exc:
                answers.append(exc.errno or -1)

        broker_thread.call(lambda: module.flux.rpc(f"service.{method}", {"service": name}).then(answered))
        until(lambda: bool(broker_thread.call(lambda: answers)))
        return answers[0]

    return send


def test_requests_for_an_added_name_go_to_the_module(handle: flux.Flux, change: Callable[[str, str], int]) -> None:
    assert change("add", "extra") == 0
    assert handle.rpc("extra.hello").get() == {"by": "twofold"}
    assert error_of(lambda: handle.rpc("extra.ping", {}).get())[0] == errno.ENOSYS
    listed = {module["name"]: module["services"] for module in handle.rpc("module.list").get()["mods"]}
    assert listed["twofold"] == ["twofold", "extra"]
    assert change("remove", "extra") == 0
    text = "No service matching extra.hello is registered"
    assert error_of(lambda: handle.rpc("extra.hello").get()) == (errno.ENOSYS, text)


def test_names_end_with_their_module(
    broker_thread: BrokerThread, handle: flux.Flux, change: Callable[[str, str], int]
) -> None:
    change("add", "extra")
    broker_thread.call(lambda: broker_thread.broker.unload("twofold"))
    assert error_of(lambda: handle.rpc("extra.hello").get())[0] == errno.ENOSYS


@pytest.mark.parametrize(
    ("method", "name", "errnum"),
    [
        ("add", "attr", errno.EEXIST),
        ("add", "twofold", errno.EEXIST),
        ("add", "a.b", errno.EINVAL),
        ("remove", "extra", errno.ENOENT),
        ("remove", "attr", errno.ENOENT),
        ("remove", "twofold", errno.ENOENT),
    ],
)
def test_refusals(change: Callable[[str, str], int], method: str, name: str, errnum: int) -> None:
    assert change(method, name) == errnum


def test_a_client_has_the_name_to_itself(
    broker_thread: BrokerThread, handle: flux.Flux, change: Callable[[str, str], int]
) -> None:
    handle.service_register("extra").get()
    assert change("add", "extra") == errno.EEXIST
    assert change("remove", "extra") == errno.ENOENT
    assert ask(handle, "service.remove", {"service": "extra"}).aux1 == 0
