"""The module cron in a broker: its requests, and what makes it run commands.

`Rexec` stands for the service that runs them, and does what the test says. With the real one: test_cron_instance.
"""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from in_process import GUEST, BrokerThread, ask, error_of, outcome, until

from flux.brokermod import request_handler
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.modules.cron.service import Cron
from fluxlet.payload import read_object
from fluxlet.service import Service

RECORDING = Path(__file__).parents[3] / "vectors" / "broker-cron.jsonl"
SYNC = "test.sync"


class Rexec(Service):
    """Keeps what it is asked to run, and what it is told about that."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        super().__init__(handle, broker)
        self.requests: list[Message] = []
        self.told: list[tuple[str, dict[str, Any]]] = []

    @request_handler("exec")
    def exec(self, msg: Message) -> None:
        self.requests.append(msg)

    @request_handler("write")
    def write(self, msg: Message) -> None:
        self.told.append(("write", read_object(msg)))

    @request_handler("kill")
    def kill(self, msg: Message) -> None:
        self.told.append(("kill", read_object(msg)))

    def say(self, *answers: dict[str, Any], errnum: int = 0, text: str | None = None) -> None:
        """Answers the last request."""
        for answer in answers:
            self.handle.respond(self.requests[-1], answer)
        if errnum:
            self.handle.respond_error(self.requests[-1], errnum, text)


def load(broker: BrokerThread, *args: str) -> None:
    """Loads cron, in the place of that which is there."""

    def change() -> None:
        if "cron" in broker.broker.modules:
            broker.broker.unload("cron")
        broker.broker.load("cron", Cron, args=args)

    broker.call(change)


class Stage:
    """A broker with cron, and its `Rexec`."""

    def __init__(self, broker: BrokerThread, *args: str) -> None:
        self.broker = broker
        self.broker.call(lambda: broker.broker.unload("rexec"))
        self.broker.call(lambda: broker.broker.load("rexec", Rexec))
        load(broker, *args)
        self.rexec: Rexec = broker.broker.modules["rexec"].instance
        self.handle = broker.open()

    def create(self, kind: str = "interval", command: str = "do it", **fields: Any) -> dict[str, Any]:
        args = fields.pop("args", {"interval": 0.001} if kind == "interval" else {"topic": "test.go"})
        request = {"type": kind, "name": command.split()[0], "command": command, "args": args, **fields}
        return self.handle.rpc("cron.create", request).get()  # type: ignore[no-any-return]

    def entry(self, number: int = 1) -> dict[str, Any]:
        entries = self.handle.rpc("cron.list", {}).get()["entries"]
        found: dict[str, Any] = next(entry for entry in entries if entry["id"] == number)
        return found

    def event(self, topic: str = "test.go") -> None:
        # What comes after it on this connection finds it handled.
        self.handle.rpc("event.publish", {"topic": topic, "flags": 0}).get()

    def say(self, *answers: dict[str, Any], errnum: int = 0, text: str | None = None) -> None:
        self.broker.call(lambda: self.rexec.say(*answers, errnum=errnum, text=text))

    def finish(self, status: int = 0) -> None:
        self.say({"type": "started", "pid": 4711}, {"type": "finished", "status": status}, errnum=errno.ENODATA)

    def started(self, number: int) -> None:
        until(lambda: len(self.rexec.requests) == number)

    def log(self) -> list[str]:
        """What cron has logged: severity and text."""
        raw = self.broker.call(lambda: list(self.broker.broker.log.ring))
        lines = [line.decode().split(" ", 7) for line in raw]
        return [f"{int(line[0][1:-2]) >> 3} {line[7]}" for line in lines if line[3] == "cron"]


@pytest.fixture
def stage(broker_thread: BrokerThread) -> Iterator[Stage]:
    made = Stage(broker_thread)
    with made.handle:
        yield made


@pytest.fixture
def in_step(broker_thread: BrokerThread) -> Iterator[Stage]:
    made = Stage(broker_thread, f"sync={SYNC}", "sync_epsilon=0s")
    with made.handle:
        yield made


# What clients of the reference said and heard.


def comparable(value: Any) -> Any:
    """A payload, times of the clock aside: whether there is one is compared."""
    if isinstance(value, dict):
        return {key: comparable(member) for key, member in value.items()}
    if isinstance(value, list):
        return [comparable(member) for member in value]
    if isinstance(value, float) and value > 1e9:
        return "a time"
    return value


def test_answers_are_those_of_the_reference(broker_thread: BrokerThread) -> None:
    # As it was recorded; nothing runs before the first heartbeat that is none.
    broker_thread.call(lambda: broker_thread.broker.unload("heartbeat"))
    load(broker_thread, "sync=heartbeat.pulse")
    lines = [json.loads(line) for line in RECORDING.read_text().splitlines()]
    assert len(lines) == 24
    with broker_thread.open() as handle:
        for request, response in zip(lines[::2], lines[1::2], strict=True):
            ours = ask(handle, request["topic"], request["payload"])
            assert (ours.topic, ours.aux1) == (response["topic"], response["errnum"])
            if "payload" in response:
                assert comparable(ours.payload) == comparable(response["payload"])
                assert list(ours.payload) == list(response["payload"])


# Requests.


@pytest.mark.parametrize("method", ["create", "list", "start", "stop", "delete", "sync"])
def test_guests_have_no_business_here(stage: Stage, method: str) -> None:
    denied = (errno.EPERM, "Request requires owner credentials")
    assert outcome(ask(stage.handle, f"cron.{method}", {"id": 1}, **GUEST)) == denied


GOOD = {"type": "interval", "name": "x", "command": "x", "args": {"interval": 1}}


@pytest.mark.parametrize(
    ("topic", "payload", "errnum", "text"),
    [
        ("create", {}, errno.EPROTO, "missing required field `type`"),
        ("create", {**GOOD, "args": 3}, errno.EPROTO, "Expected `object`, got `int` - at `$.args`"),
        ("create", {**GOOD, "environ": {"A": 1}}, errno.EPROTO, "Expected `str`, got `int` - at `$.environ[...]`"),
        ("create", {**GOOD, "type": "weekly"}, errno.ENOSYS, "unknown type of cron entry 'weekly'"),
        ("create", {**GOOD, "type": "datetime", "args": {"year": 100}}, errno.EINVAL, "that date is in the past"),
        ("stop", {"id": 1}, errno.ENOENT, ""),
        ("start", {"id": 1}, errno.ENOENT, ""),
        ("delete", {"id": 1}, errno.ENOENT, ""),
        ("delete", {}, errno.EPROTO, "missing required field `id`"),
        ("sync", {"topic": ""}, errno.EINVAL, "topic is empty"),
        ("sync", {"sync_epsilon": -1}, errno.EINVAL, "sync_epsilon must not be negative"),
    ],
)
def test_bad_requests(stage: Stage, topic: str, payload: object, errnum: int, text: str) -> None:
    number, found = error_of(stage.handle.rpc(f"cron.{topic}", payload).get)
    assert number == errnum
    assert text in found
    assert stage.handle.rpc("cron.list").get() == {"entries": []}


def test_what_is_started_or_stopped_cannot_be_so_again(stage: Stage) -> None:
    stage.create("event")
    again = error_of(stage.handle.rpc("cron.start", {"id": 1}).get)
    assert again == (errno.EINVAL, "cron-1 is not stopped")
    assert stage.handle.rpc("cron.stop", {"id": 1}).get()["stopped"]
    again = error_of(stage.handle.rpc("cron.stop", {"id": 1}).get)
    assert again == (errno.EINVAL, "cron-1 is stopped already")


def test_sync_tells_and_sets_what_entries_wait_for(stage: Stage) -> None:
    def sync(**payload: Any) -> Any:
        return stage.handle.rpc("cron.sync", payload).get()

    assert sync() == {"sync_disabled": True}
    assert sync(topic="foo") == {"sync_event": "foo", "sync_epsilon": 0.015}
    assert sync(topic="bar", sync_epsilon=0.5) == {"sync_event": "bar", "sync_epsilon": 0.5}
    assert sync(disable=True) == {"sync_disabled": True}
    assert sync(topic="foo") == {"sync_event": "foo", "sync_epsilon": 0.5}


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("foo",), "unknown argument 'foo'"),
        (("sync=",), "unknown argument 'sync='"),
        (("sync=a", "sync_epsilon=x"), "sync_epsilon=x: 'x' is no duration"),
    ],
)
def test_bad_arguments(broker_thread: BrokerThread, args: tuple[str, ...], text: str) -> None:
    assert error_of(lambda: load(broker_thread, *args)) == (errno.EINVAL, text)


# What runs.


def test_a_command_is_run_by_rexec_with_its_input_closed(stage: Stage) -> None:
    stage.create(command="do it", rank=0, cwd="/tmp", environ={"A": "b"}, repeat=1)
    stage.started(1)
    request = stage.rexec.requests[0]
    cmd = {"cmdline": ["/bin/sh", "-c", "do it"], "env": {"A": "b"}, "opts": {}, "channels": [], "cwd": "/tmp"}
    assert request.payload == {"cmd": cmd, "flags": 3, "local_flags": 0}
    stage.say({"type": "started", "pid": 4711})
    until(lambda: stage.entry()["tasks"][0]["state"] == "Running")
    end_of_file = {"stream": "stdin", "rank": "0", "eof": True}
    assert stage.rexec.told == [("write", {"matchtag": request.aux2, "io": end_of_file})]
    stage.say({"type": "finished", "status": 0}, errnum=errno.ENODATA)
    until(lambda: stage.entry()["stopped"])
    entry = stage.entry()
    assert (entry["tasks"][0]["state"], entry["tasks"][0]["pid"], entry["stats"]["success"]) == ("Exited", 4711, 1)
    assert entry["typedata"]["next_wakeup"] == 0.0
    assert stage.log() == ["6 cron-1: has run 1 times: stopped"]


def test_output_is_logged(stage: Stage) -> None:
    stage.create(command="do it", repeat=1)
    stage.started(1)
    stage.say(
        {"type": "started", "pid": 4711},
        {"type": "output", "pid": 4711, "io": {"stream": "stdout", "rank": "0", "data": "one\n"}},
        {"type": "output", "pid": 4711, "io": {"stream": "stderr", "rank": "0", "data": "two"}},
        {"type": "output", "pid": 4711, "io": {"stream": "stderr", "rank": "0", "data": "/w==", "encoding": "base64"}},
        {"type": "output", "pid": 4711, "io": {"stream": "stdout", "rank": "0", "eof": True}},
        {"type": "finished", "status": 768},
        errnum=errno.ENODATA,
    )
    until(lambda: stage.entry()["stopped"])
    assert stage.log() == [
        '6 cron-1[do]: rank=0: command="do it": "one"',
        '3 cron-1[do]: rank=0: command="do it": "two"',
        '3 cron-1[do]: rank=0: command="do it": "\ufffd"',
        '3 cron-1: "do it": Failed: Exit 3',
        "6 cron-1: has run 1 times: stopped",
    ]


@pytest.mark.parametrize(
    ("errnum", "text", "code"),
    [(errno.ENOENT, "error launching process: No such file or directory", 127), (errno.ENOSYS, "no such service", 1)],
)
def test_a_command_that_cannot_be_started_has_failed(stage: Stage, errnum: int, text: str, code: int) -> None:
    once: dict[str, Any] = {"stop-on-failure": 1}
    stage.create("event", **once)
    stage.event()
    stage.started(1)
    stage.say(errnum=errnum, text=text)
    until(lambda: stage.entry()["stopped"])
    task = stage.entry()["tasks"][0]
    assert (task["state"], task["code"], "running-time" in task) == ("Exec Failed", code, False)
    assert stage.log() == [f'3 cron-1: "do it": Exec Failed: {text}', "6 cron-1: failed 1 times: stopped"]


def test_without_rexec_entries_fail(broker_thread: BrokerThread, stage: Stage) -> None:
    broker_thread.call(lambda: broker_thread.broker.unload("rexec"))
    stage.create(repeat=1)
    until(lambda: stage.entry()["stopped"])
    assert stage.log()[0] == '3 cron-1: "do it": Exec Failed: No service matching rexec.exec is registered'


def test_an_entry_that_is_due_while_its_task_runs_is_left_out(stage: Stage) -> None:
    stage.create("event")
    for _ in range(3):
        stage.event()
    stage.started(1)
    stage.finish()
    until(lambda: stage.entry()["stats"]["success"] == 1)
    assert stage.log() == ['6 cron-1: "do it": due again, and its task still runs']
    stage.event()
    stage.started(2)
    assert stage.entry()["typedata"]["counter"] == 4
    assert stage.entry()["stats"]["count"] == 2


def test_intervals_go_on(stage: Stage) -> None:
    stage.create(repeat=3)
    for number in (1, 2, 3):
        stage.started(number)
        stage.finish()
    until(lambda: stage.entry()["stopped"])
    assert stage.entry()["stats"]["count"] == 3


def test_the_first_run_may_come_earlier(stage: Stage) -> None:
    entry = stage.create(args={"interval": 3600, "after": 0})
    assert entry["typedata"]["after"] == 0
    stage.started(1)
    stage.finish()
    wakeup = stage.entry()["typedata"]["next_wakeup"]
    assert 0 < wakeup - time.time() <= 3600


def test_events_are_matched_as_a_pattern(stage: Stage) -> None:
    stage.create("event", args={"topic": "test.*.go"})
    for topic in ("test.go", "test.a.going", "test.a.go"):
        stage.event(topic)
    stage.started(1)
    assert stage.entry()["typedata"]["counter"] == 1


@pytest.mark.parametrize("interval", [3600, 0.05])
def test_events_that_come_too_early_wait(stage: Stage, interval: float) -> None:
    stage.create("event", args={"topic": "test.go", "min_interval": interval})
    stage.event()
    stage.started(1)
    stage.finish()
    until(lambda: stage.entry()["stats"]["success"] == 1)
    for _ in range(3):
        stage.event()
    if interval == 3600:
        assert (stage.entry()["stats"]["deferred"], stage.entry()["stats"]["count"]) == (1, 1)
    else:
        stage.started(2)
        stage.finish()
        until(lambda: stage.entry()["stats"]["success"] == 2)


def test_dates_come(stage: Stage) -> None:
    # Every second; the next one is never far.
    entry = stage.create("datetime", args={}, repeat=1)
    assert 0 < entry["typedata"]["next_wakeup"] - entry["stats"]["ctime"] <= 1.0
    stage.started(1)
    assert time.time() >= entry["typedata"]["next_wakeup"]
    stage.finish()
    until(lambda: stage.entry()["stopped"])


def test_an_entry_whose_dates_are_over_stops(stage: Stage) -> None:
    then = time.localtime(time.time() + 2)
    args = {"second": then.tm_sec, "minute": then.tm_min, "hour": then.tm_hour, "mday": then.tm_mday}
    stage.create("datetime", args={**args, "month": then.tm_mon - 1, "year": then.tm_year - 1900})
    stage.started(1)
    assert not stage.entry()["stopped"]
    stage.finish()
    until(lambda: stage.entry()["stopped"])
    assert stage.log() == ["6 cron-1: there are no more dates: stopped"]
    again = error_of(stage.handle.rpc("cron.start", {"id": 1}).get)
    assert again == (errno.EINVAL, "that date is in the past")


# With a sync event.


def test_entries_wait_for_the_sync_event(in_step: Stage) -> None:
    for number in (1, 2):
        in_step.create("event")
        assert in_step.entry(number)["tasks"] == []
    in_step.event()
    for number in (1, 2):
        entry = in_step.entry(number)
        assert (entry["tasks"][0]["state"], entry["stats"]["deferred"]) == ("Deferred", 1)
        assert entry["stats"]["lastrun"] == 0.0
    in_step.event()  # is no second run
    assert in_step.rexec.requests == []
    in_step.event(SYNC)
    in_step.started(2)
    assert [in_step.entry(number)["stats"]["count"] for number in (1, 2)] == [1, 1]
    assert [in_step.entry(number)["stats"]["deferred"] for number in (1, 2)] == [1, 1]
    assert in_step.log() == []


def test_soon_after_the_sync_event_they_run_at_once(in_step: Stage) -> None:
    in_step.handle.rpc("cron.sync", {"sync_epsilon": 3600.0}).get()
    in_step.create("event")
    in_step.event(SYNC)
    in_step.event()
    in_step.started(1)
    assert in_step.entry()["stats"]["deferred"] == 0


def test_those_that_wait_run_when_they_need_not_any_more(in_step: Stage) -> None:
    in_step.create("event")
    in_step.event()
    assert in_step.handle.rpc("cron.sync", {"disable": True}).get() == {"sync_disabled": True}
    in_step.started(1)


@pytest.mark.parametrize("method", ["stop", "delete"])
def test_a_stopped_entry_does_not_run_although_it_was_due(in_step: Stage, method: str) -> None:
    in_step.create("event")
    in_step.create("event", repeat=1)
    in_step.event()
    assert in_step.handle.rpc(f"cron.{method}", {"id": 1}).get()["stopped"] == (method == "stop")
    in_step.event(SYNC)
    in_step.started(1)
    in_step.finish()
    until(lambda: in_step.entry(2)["stopped"])
    assert len(in_step.rexec.requests) == 1
    if method == "stop":
        assert in_step.entry()["tasks"] == []
        assert in_step.handle.rpc("cron.start", {"id": 1}).get()["typedata"]["counter"] == 0
        in_step.event()
        in_step.event(SYNC)
        in_step.started(2)


# How tasks are ended.


def test_a_task_that_takes_too_long_is_ended(stage: Stage) -> None:
    stage.create(timeout=0.001, repeat=1)
    stage.started(1)
    stage.say({"type": "started", "pid": 4711})
    until(lambda: ("kill", {"pid": 4711, "signum": 15}) in stage.rexec.told)
    stage.say({"type": "finished", "status": 15}, errnum=errno.ENODATA)
    until(lambda: stage.entry()["stopped"])
    task = stage.entry()["tasks"][0]
    assert (task["state"], task["code"], task["status"]) == ("Timeout", 143, 15)
    assert stage.log()[0] == '3 cron-1: "do it": Timeout: Terminated'


@pytest.mark.parametrize("started", [True, False])
@pytest.mark.parametrize("kill", [True, False])
def test_deleting_an_entry_may_end_its_task(stage: Stage, started: bool, kill: bool) -> None:
    stage.create("event")
    stage.event()
    stage.started(1)
    running = {"type": "started", "pid": 4711}
    if started:
        stage.say(running)
        until(lambda: stage.entry()["tasks"][0]["state"] == "Running")
    stage.handle.rpc("cron.delete", {"id": 1, "kill": kill}).get()
    if not started:
        stage.say(running)
        until(lambda: len(stage.rexec.told) > 0)
    stage.say({"type": "finished", "status": 256}, errnum=errno.ENODATA)
    until(lambda: len(stage.log()) == 1)
    assert (("kill", {"pid": 4711, "signum": 15}) in stage.rexec.told) == kill
    assert stage.log() == ['3 cron-1: "do it": Failed: Exit 1']


def test_a_task_whose_rank_has_gone_has_failed(stage: Stage) -> None:
    stage.create(repeat=1)
    stage.started(1)
    stage.say({"type": "started", "pid": 4711}, errnum=errno.EHOSTUNREACH, text="overlay disconnect")
    until(lambda: stage.entry()["stopped"])
    task = stage.entry()["tasks"][0]
    assert (task["state"], task["code"]) == ("Failed", 68)


# Crontabs of the system.


def test_crontabs_of_a_directory_are_there_from_the_start(
    start_broker: Callable[..., BrokerThread], tmp_path: Path
) -> None:
    (tmp_path / "b").write_text("# Mondays\n\n0 3 * * 1 two\n")
    (tmp_path / "a").write_text("*/5 * * * *  one  and all \n")
    (tmp_path / "dir").mkdir()
    broker = start_broker()
    broker.broker.attributes.set_internal("cron.directory", str(tmp_path))
    load(broker)
    with broker.open() as handle:
        entries = handle.rpc("cron.list").get()["entries"]
    shown = [(entry["name"], entry["command"], entry["typedata"]["minute"]) for entry in entries]
    assert shown == [("one", "one  and all", "0,5,10,15,20,25,30,35,40,45,50,55"), ("two", "two", "0")]
    assert [entry["typedata"]["second"] for entry in entries] == ["0", "0"]


@pytest.mark.parametrize(
    ("text", "errnum", "error"),
    [
        ("* * * * *\n", errno.EINVAL, "line 1: minute, hour, day, month, weekday and a command are needed: * * * * *"),
        ("\n99 * * * * x\n", errno.EINVAL, "line 2: minute: '99' is not within 0-59"),
    ],
)
def test_a_bad_crontab_is_an_error_at_the_start(
    start_broker: Callable[..., BrokerThread], tmp_path: Path, text: str, errnum: int, error: str
) -> None:
    path = tmp_path / "tab"
    path.write_text("* * * * * true\n" + text)
    error = error.replace("line 1", "line 2") if text[0] != "\n" else error.replace("line 2", "line 3")
    broker = start_broker()
    broker.broker.attributes.set_internal("cron.directory", str(tmp_path))
    found = error_of(lambda: load(broker))
    assert found == (errnum, f"cron.directory: {path}: {error}")
    assert "cron" not in broker.broker.modules


def test_a_directory_that_is_not_there_is_an_error(start_broker: Callable[..., BrokerThread]) -> None:
    broker = start_broker()
    broker.broker.attributes.set_internal("cron.directory", "/nonexistent")
    found = error_of(lambda: load(broker))
    assert found == (errno.ENOENT, "cron.directory: /nonexistent: No such file or directory")
