"""What rc1 loads, and modules that take time to start and to end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from in_process import BrokerThread, error_of

import flux
from flux.brokermod import request_handler
from flux.message import Message
from fluxlet.broker.builtins import FIRST, LISTED, ONLY_RANK_0
from fluxlet.broker.rc import Load, plan
from fluxlet.service import Service

DEFAULT = [name for name in LISTED if name not in FIRST]


def names(rank: int = 0, config: Any = None, attributes: Any = None, environ: Any = None) -> list[str]:
    return [load.module for load in plan(rank, config or {}, attributes or {}, environ or {})]


def test_rc1_loads_what_the_broker_has_not_in_the_order_of_the_table() -> None:
    assert names() == DEFAULT
    assert names(rank=3) == [name for name in DEFAULT if name not in ONLY_RANK_0]


def test_configuration_gives_arguments_and_leaves_modules_out() -> None:
    config = {"modules": {"heartbeat": {"args": ["period=9s"]}, "barrier": {"disabled": True}}}
    assert Load("heartbeat", ["period=9s"]) in plan(0, config, {}, {})
    assert names(config=config) == [name for name in DEFAULT if name != "barrier"]


def test_alternative_takes_the_place_of_a_module() -> None:
    config = {"modules": {"alternatives": {"heartbeat": "mine"}}}
    assert names(config=config) == ["mine" if name == "heartbeat" else name for name in DEFAULT]


def test_environment_leaves_modules_out() -> None:
    environ = {"FLUX_MODPROBE_DISABLE": "heartbeat,,barrier"}
    assert names(environ=environ) == [name for name in DEFAULT if name not in ("heartbeat", "barrier")]


@pytest.mark.parametrize(
    ("modules", "text"),
    [
        (3, "[modules]: expected a table"),
        ({"alternatives": {"sched": 3}}, "[modules.alternatives]: expected a table of module names, by service"),
        ({"heartbeat": []}, "[modules.heartbeat]: expected a table"),
        ({"heartbeat": {"args": "x"}}, "[modules.heartbeat]: args: expected an array of strings"),
        ({"heartbeat": {"disabled": 1}}, "[modules.heartbeat]: disabled: expected true or false"),
    ],
)
def test_what_the_table_must_be(modules: Any, text: str) -> None:
    with pytest.raises(ValueError, match=r"^") as error:
        plan(0, {"modules": modules}, {}, {})
    assert str(error.value) == text


# Modules that take time.


class Slow(Service):
    """Starts and ends when another service says so."""

    async def start_service(self) -> None:
        await self.handle.rpc("gate.start")

    async def finish_service(self) -> None:
        await self.handle.rpc("gate.finish")


class Gate(Service):
    """Keeps requests until it is told to let them go, or to refuse them."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.kept: list[Message] = []

    @request_handler("start")
    def start(self, msg: Message) -> None:
        self.kept.append(msg)

    @request_handler("finish")
    def finish(self, msg: Message) -> None:
        self.kept.append(msg)

    @request_handler("open")
    def open(self, msg: Message) -> None:
        for request in self.kept:
            self.answer(request)
        self.kept.clear()
        self.answer(msg)

    @request_handler("refuse")
    def refuse(self, msg: Message) -> None:
        for request in self.kept:
            self.handle.respond_error(request, errno.EBUSY, "not today")
        self.kept.clear()
        self.answer(msg)


def status(handle: flux.Flux, name: str) -> int | None:
    mods = handle.rpc("module.list").get()["mods"]
    return next((mod["status"] for mod in mods if mod["name"] == name), None)


@pytest.fixture
def slow(broker_thread: BrokerThread, handle: flux.Flux, monkeypatch: pytest.MonkeyPatch) -> flux.Flux:
    """A handle to a broker that has the module `gate`, and `slow` to load."""
    sys.modules["slow_module_for_tests"] = sys.modules[__name__]
    monkeypatch.setitem(LISTED, "slow", "slow_module_for_tests:Slow")
    broker_thread.call(lambda: broker_thread.broker.load("gate", Gate))
    return handle


def load(handle: flux.Flux) -> Any:
    loading = handle.rpc("module.load", {"path": "slow", "args": []})
    handle.rpc("broker.ping", {}).get()
    return loading


def test_module_is_loaded_when_it_has_started(slow: flux.Flux) -> None:
    loading = load(slow)
    assert (status(slow, "slow"), loading.is_ready()) == (0, False)
    slow.rpc("gate.open").get()
    loading.get()
    assert status(slow, "slow") == 1


def test_module_that_cannot_start_is_gone_and_the_instance_goes_on(slow: flux.Flux) -> None:
    loading = load(slow)
    slow.rpc("gate.refuse").get()
    assert error_of(loading.get) == (errno.EBUSY, "not today")
    assert status(slow, "slow") is None


def test_module_that_is_removed_while_it_starts(slow: flux.Flux) -> None:
    loading = load(slow)
    slow.rpc("module.remove", {"name": "slow"}).get()
    assert error_of(loading.get) == (errno.ECONNRESET, "the module has ended before it ran")


@pytest.mark.parametrize("end", ["open", "refuse"])
def test_module_is_removed_when_it_has_finished(slow: flux.Flux, end: str) -> None:
    loading = load(slow)
    slow.rpc("gate.open").get()
    loading.get()
    removals = [slow.rpc("module.remove", {"name": "slow"}) for _ in range(2)]
    slow.rpc("broker.ping", {}).get()
    assert (status(slow, "slow"), removals[0].is_ready()) == (2, False)
    slow.rpc(f"gate.{end}").get()
    for removal in removals:
        removal.get()
    assert status(slow, "slow") is None


def test_removal_with_cancel_waits_for_nothing(slow: flux.Flux) -> None:
    loading = load(slow)
    slow.rpc("gate.open").get()
    loading.get()
    slow.rpc("module.remove", {"name": "slow", "cancel": True}).get()
    assert status(slow, "slow") is None


# In an instance.


def start(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fluxlet", "start", *words]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FLUX_")}
    return subprocess.run(command, env={**clean, **environ}, capture_output=True, text=True, timeout=60, check=False)


def test_module_that_cannot_be_loaded_fails_rc1() -> None:
    done = start("--conf=heartbeat.period=0s", "echo", "never")
    assert (done.returncode, done.stdout) == (1, "")
    lines = [line.partition(": ")[2] for line in done.stderr.splitlines()]
    assert lines[0].startswith("rc1.0: flux-modprobe: load heartbeat: heartbeat.period must be")
    assert lines[1].startswith("rc1.0: flux modprobe rc1 Exited (rc=1)")


def test_recovery_mode_goes_on_all_the_same() -> None:
    done = start("-Sbroker.recovery-mode=1", "--conf=heartbeat.period=0s", "echo", "anyway")
    assert (done.returncode, done.stdout) == (0, "anyway\n")


@pytest.mark.parametrize("line", ["", "true"])
def test_without_our_rc1_there_are_only_the_first_modules(line: str) -> None:
    command = "flux module list | tail -n +2 | cut -d' ' -f1"
    done = start(f"-Sbroker.rc1_path={line}", command, PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert done.stdout.split() == sorted(name for name in FIRST if name in LISTED)


@pytest.mark.parametrize("replaced", ["content", DEFAULT[-1]])
def test_signal_while_modules_are_loaded_ends_it_in_good_order(tmp_path: Path, replaced: str) -> None:
    # The module that is being loaded waits for us to have sent it.
    module = tmp_path / "slow.py"
    os.mkfifo(tmp_path / "pipe")
    module.write_text(
        "from flux.brokermod import BrokerModule\nclass Slow(BrokerModule):\n    def __init__(self, h, *args):\n"
        f"        h.log(3, 'loading')\n        open('{tmp_path}/pipe').read()\n        super().__init__(h, *args)\n"
    )
    words = ["start", f"--conf=modules.alternatives.{replaced}={module}", "-o-v", "true"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FLUX_")}
    command = [sys.executable, "-m", "fluxlet", *words]
    with subprocess.Popen(command, env=clean, stderr=subprocess.PIPE, text=True) as instance:
        assert instance.stderr is not None
        lines = []
        for line in instance.stderr:
            lines.append(line)
            if "loading" in line:
                instance.send_signal(signal.SIGTERM)
            if "signal 15" in line:
                (tmp_path / "pipe").write_text("")
        assert instance.wait(60) == 128 + signal.SIGHUP
    errors = [line for line in lines if line.startswith("<3>broker")]
    assert len(errors) == 1, errors
    assert "rc1.0: flux modprobe rc1 Exited (rc=129)" in errors[0]
    assert not [line for line in lines if "not properly shut down" in line]
