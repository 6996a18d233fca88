"""Built-in modules that wake when somebody asks them for something."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from in_process import BrokerThread, error_of

import flux
from flux.brokermod import request_handler
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.broker.builtins import LISTED, SLEEPING
from fluxlet.service import Service
from fluxlet.testing import Instance


class Sleeper(Service):
    """Says with which arguments it was made, and how often."""

    made = 0

    def __init__(self, handle: flux.Flux, broker: Broker, *args: str) -> None:
        type(self).made += 1
        if args == ("bad",):
            raise OSError(errno.EINVAL, "bad dreams")
        super().__init__(handle, broker, *args)

    @request_handler("args")
    def tell(self, msg: Message) -> None:
        self.handle.respond(msg, {"args": list(self.args), "made": self.made})

    @request_handler("slowly")
    async def slowly(self, msg: Message) -> None:
        answer = await self.handle.rpc("attr.get", {"name": "rank"})
        self.handle.respond(msg, answer)


def load(broker_thread: BrokerThread, *args: str) -> None:
    Sleeper.made = 0
    broker = broker_thread.broker
    broker_thread.call(lambda: broker.load("sleeper", Sleeper, args=args, sleeping=True))


def test_it_is_made_when_somebody_asks(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    load(broker_thread, "a", "b")
    mods = {mod["name"]: mod for mod in handle.rpc("module.list").get()["mods"]}
    assert (mods["sleeper"]["status"], mods["sleeper"]["services"], Sleeper.made) == (1, ["sleeper"], 0)
    for _ in range(2):
        assert handle.rpc("sleeper.args").get() == {"args": ["a", "b"], "made": 1}
    assert handle.rpc("sleeper.slowly").get()["value"] == "0"
    assert handle.rpc("sleeper.ping", {}).get()["rank"] == 0


@pytest.mark.parametrize(("method", "answer"), [("ping", "rank"), ("stats-get", "rx")])
def test_what_all_modules_answer_wakes_it_too(
    broker_thread: BrokerThread, handle: flux.Flux, method: str, answer: str
) -> None:
    load(broker_thread)
    assert answer in handle.rpc(f"sleeper.{method}", {}).get()


def test_module_that_cannot_be_made_has_failed(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    failed: list[Any] = []
    broker_thread.broker.on_failure = lambda module: failed.append(module.name)
    load(broker_thread, "bad")
    assert error_of(handle.rpc("sleeper.args").get) == (errno.EINVAL, "bad dreams")
    assert failed == ["sleeper"]
    assert error_of(handle.rpc("sleeper.args").get)[0] == errno.ENOSYS


def test_it_can_be_removed_in_its_sleep_and_loaded_again(handle: flux.Flux) -> None:
    with Instance() as instance, instance.handle() as h:
        for _ in range(2):
            h.rpc("module.remove", {"name": "cron"}).get()
            assert error_of(h.rpc("cron.list", {}).get)[0] == errno.ENOSYS
            h.rpc("module.load", {"path": "cron", "args": []}).get()
        assert h.rpc("cron.list", {}).get() == {"entries": []}


def test_traced_module_wakes(broker_thread: BrokerThread, handle: flux.Flux) -> None:
    load(broker_thread)
    broker_thread.call(lambda: broker_thread.broker.modules["sleeper"].hold(True))
    waiting = handle.rpc("sleeper.args")
    handle.rpc("broker.ping", {}).get()
    assert not waiting.is_ready()
    broker_thread.call(lambda: broker_thread.broker.modules["sleeper"].hold(False))
    assert waiting.get()["made"] == 1


def test_sleepers_are_modules_that_there_are() -> None:
    assert set(LISTED) >= set(SLEEPING)
