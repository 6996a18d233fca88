"""The engine that replays recordings of services of the reference, against brokers of ours.

Requests are sent as recorded, and what the broker sends back must be what it sent then, but for what differs from run
to run (FREE), and where we mean to do better: that is in the caller's table of deviations, with the reason.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from in_process import receive

import flux
from flux.constants import FLUX_MSGTYPE_EVENT, FLUX_MSGTYPE_REQUEST, FLUX_MSGTYPE_RESPONSE
from flux.message import Message

RECORDINGS = Path(__file__).parent / "vectors"
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

#: Whole exchanges whose content is another in every run.
FREE_TOPICS = {
    "module.list",
    "attr.list",
    "broker.rusage",
    "broker.stats-get",
    "log.stats-get",
    "connector-local.stats-get",
    "resource.status",
}
#: Keys of payloads with another value in every run.
FREE_KEYS = {"duration", "route", "seq", "count", "timestamp"}


@dataclass(frozen=True)
class Deviation:
    """Where we differ on purpose from a recorded line, by its number (from 1).

    Args:
        why: the reason.
        payload: what comes instead of the recorded payload.
        absent: the recorded message does not come.
        extra: the payload of a response to the same request that comes behind the recorded line.
        request: the number of that request's line.
    """

    why: str
    payload: dict[str, Any] | None = None
    absent: bool = False
    extra: dict[str, Any] | None = None
    request: int = 0


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
        return {key: None if key in FREE_KEYS else _owner(key, comparable(value)) for key, value in payload.items()}
    return [comparable(item) for item in payload] if isinstance(payload, list) else payload


def _owner(key: str, value: Any) -> Any:
    """The recordings were made by root."""
    return os.getuid() if key == "userid" and value == 0 else value


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


def replay(
    lines: list[dict[str, Any]],
    connect: Callable[[], flux.Flux],
    skipped: Callable[[str], bool] = lambda topic: False,
    deviations: Mapping[int, Deviation] | None = None,
) -> None:
    """Replays a recording.

    Args:
        lines: of the recording.
        connect: opens a connection.
        skipped: tells by a topic what is not sent, and not expected.
        deviations: by the number of the line.

    Raises AssertionError with the number of the line that differs.
    """
    deviations = deviations or {}
    last = {record["conn"]: number for number, record in enumerate(lines)}
    handles: dict[int, flux.Flux] = {}
    routes: dict[int, tuple[bytes, ...]] = {}
    for number, record in enumerate(lines):
        conn = record["conn"]
        if conn not in handles:
            handles[conn] = connect()
        handle = handles[conn]
        deviation = deviations.get(number + 1, Deviation(""))
        if skipped(record["topic"]):
            pass
        elif record["dir"] == "c>b":
            is_answer = record["type"] == "response"
            handle.send(message_of(record, routes[conn] if is_answer else ()))
        elif not deviation.absent:
            message = receive(handle)
            if record["type"] == "request":
                assert len(message.routes or ()) == len(record["routes"])
                routes[conn] = message.routes or ()
            try:
                check(message, record if deviation.payload is None else {**record, "payload": deviation.payload})
            except AssertionError as exc:
                exc.add_note(f"line {number + 1}: {message!r}")
                raise
        if deviation.extra is not None:
            request = lines[deviation.request - 1]
            message = receive(handle)
            assert (message.aux2, message.payload) == (request["matchtag"], deviation.extra), f"behind {number + 1}"
        if last[conn] == number:
            handles.pop(conn).handle = None
