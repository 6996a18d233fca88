"""What clients of the reference said and heard, said again to our services.

Each file in VECTORS is one recording of several connections: requests are sent as recorded, and what the broker
sends back must be what it sent then, but for what differs from run to run (FREE) and where we mean to do better.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from in_process import receive

import flux
from flux.constants import FLUX_MSGTYPE_EVENT, FLUX_MSGTYPE_REQUEST, FLUX_MSGTYPE_RESPONSE
from flux.message import Message
from fluxlet.service import Service

RECORDINGS = Path(__file__).parents[2] / "vectors"
TYPES = {"request": FLUX_MSGTYPE_REQUEST, "response": FLUX_MSGTYPE_RESPONSE, "event": FLUX_MSGTYPE_EVENT}
FLAGS = {
    "topic": 1,
    "payload": 2,
    "noresponse": 4,
    "route": 8,
    "upstream": 16,
    "private": 32,
    "streaming": 64,
    "user1": 128,
}

#: Services that other parts bring, or that the broker of these tests is without.
ABSENT = ("kvs", "overlay", "rexec", "shutdown", "resource", "job-manager", "cron", "content")

#: Whole exchanges whose content is another in every run.
FREE_TOPICS = {
    "module.list",
    "attr.list",
    "broker.rusage",
    "broker.stats-get",
    "log.stats-get",
    "connector-local.stats-get",
}
#: Of what other services get and send, which these are without: see test_module_load.
ELSEWHERE = {"module.trace"}
#: Keys of payloads with another value in every run.
FREE_KEYS = {"duration", "route", "seq", "count"}

CONFIG = {"heartbeat": {"period": "3s"}, "foo": {"i": 42, "dt": {"iso-8601-ts": "1979-05-27T07:32:00Z"}}}

VECTORS: dict[str, dict[str, Any]] = {
    "broker-attr": {},
    "broker-log": {},
    "broker-event": {},
    "broker-state": {},
    "broker-service": {},
    "broker-guest": {},
    "broker-misc": {},
    "broker-module": {},
    "broker-config": {"config": CONFIG},
}


def records(name: str) -> list[dict[str, Any]]:
    lines = (RECORDINGS / f"{name}.jsonl").read_text().splitlines()
    return [record for record in map(json.loads, lines) if "dir" in record]


def encoded(payload: Any) -> bytes:
    if isinstance(payload, dict) and set(payload) == {"b64"}:
        return base64.b64decode(payload["b64"])
    if isinstance(payload, dict) and set(payload) == {"text"}:
        return payload["text"].encode() + b"\0"
    return json.dumps(payload).encode() + b"\0"


def message_of(record: dict[str, Any], routes: tuple[bytes, ...]) -> Message:
    message = Message(TYPES[record["type"]])
    message.topic = record["topic"]
    if "payload" in record:
        message.set_raw(encoded(record["payload"]))
    message.flags = sum(FLAGS[flag] for flag in record["flags"])
    message.userid, message.rolemask = record["userid"], record["rolemask"]
    message.routes = routes
    message.aux1 = record.get("nodeid", record.get("errnum", record.get("sequence", 0)))
    message.aux2 = record.get("matchtag", 0)
    return message


def comparable(payload: Any) -> Any:
    """A payload without what differs from run to run."""
    if isinstance(payload, dict):
        return {key: None if key in FREE_KEYS else comparable(value) for key, value in payload.items()}
    return payload


def heard(message: Message, record: dict[str, Any]) -> Any:
    """The payload of a message, in the form of the recording."""
    if message.raw is None:
        return None
    payload = record.get("payload")
    if isinstance(payload, dict) and set(payload) == {"b64"}:
        return {"b64": base64.b64encode(message.raw).decode()}
    try:
        return json.loads(message.raw[:-1])
    except ValueError:
        return {"text": message.payload_str}


def check(message: Message, record: dict[str, Any]) -> None:
    topic = record["topic"]
    assert (message.type_str, message.topic) == (record["type"], topic)
    errnum = record.get("errnum", 0)
    if record["type"] == "response":
        assert (message.aux1, message.aux2) == (errnum, record["matchtag"])
    if topic in FREE_TOPICS:
        return
    told = heard(message, record)
    if "payload" in record:
        wanted = record["payload"]
        if topic == "attr.get" and wanted.get("value") == "vm":
            wanted = {**wanted, "value": "testhost"}
        if topic == "broker.conf-builtin" or (topic == "broker.getenv" and "HOME" in wanted.get("env", {})):
            told = {key: dict.fromkeys(value) for key, value in told.items()} if not errnum else told
            wanted = {key: dict.fromkeys(value) for key, value in wanted.items()} if not errnum else wanted
        assert comparable(told) == comparable(wanted)
    elif not errnum:
        # An error without a text may have one.
        assert told is None
    owner = record["userid"] if record["userid"] not in (0,) else os.getuid()
    assert (message.userid, message.rolemask) == (owner, record["rolemask"])
    wanted_flags = sum(FLAGS[flag] for flag in record["flags"])
    if errnum and "payload" not in record:
        assert message.flags & ~FLAGS["payload"] == wanted_flags
    else:
        assert message.flags == wanted_flags


def answers(record: dict[str, Any]) -> bool:
    """False for what belongs to a request that we do not send."""
    service = record["topic"].partition(".")[0]
    return service not in ABSENT and record["topic"] not in ELSEWHERE


@pytest.mark.parametrize("name", VECTORS)
def test_clients_hear_what_the_reference_said(
    name: str, start_broker: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Recorded by root.
    settings = {"broker.starttime": "1795313779.38", "security.owner": "0"}
    if name == "broker-config":
        path = tmp_path / "config.json"
        path.write_text(json.dumps(CONFIG))
        settings["config.path"] = str(path)
    broker = start_broker(settings, **VECTORS[name])
    # Somebody who has the name, as in an instance with everything.
    broker.call(lambda: broker.broker.load("kvs", Service))
    with ExitStack() as stack:
        replay(records(name), lambda: stack.enter_context(broker.open()))


def replay(lines: list[dict[str, Any]], connect: Callable[[], flux.Flux]) -> None:
    last = {record["conn"]: number for number, record in enumerate(lines)}
    handles: dict[int, flux.Flux] = {}
    routes: dict[int, tuple[bytes, ...]] = {}
    for number, record in enumerate(lines):
        conn = record["conn"]
        if conn not in handles:
            handles[conn] = connect()
        handle = handles[conn]
        if not answers(record):
            pass
        elif record["dir"] == "c>b":
            is_answer = record["type"] == "response"
            handle.send(message_of(record, routes[conn] if is_answer else ()))
        else:
            message = receive(handle)
            if record["type"] == "request":
                assert len(message.routes or ()) == len(record["routes"])
                routes[conn] = message.routes or ()
            check(message, record)
        if last[conn] == number:
            handles.pop(conn).handle = None


def test_all_recordings_are_about_services_that_answer() -> None:
    # A recording of which nothing is left would test nothing.
    for name in VECTORS:
        assert sum(answers(record) for record in records(name)) >= 10, name


@pytest.fixture(autouse=True)
def clean_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
