"""The engine that replays recordings of conversations about jobs (`vectors/jobs-*.jsonl`) against brokers of ours.

What recorded clients sent is sent again, be they users, a scheduler or an execution service; what comes back must be
what came then, in the order of each kind. Rules:

- Job ids map one to one, and grow as theirs did. In what is sent, and in what comes, ours stand for theirs in every
  spelling.
- Times differ, and so do hosts. uid 0 is the instance owner. An errno without a text may have one.
- A kind is the type and topic of a message, and for responses the matchtag: what a connection gets of one kind is in
  order; between kinds the order is the broker's business, but for events before the answers that tell of them.
- Where we differ on purpose is in the caller's table, with the reason.
"""

from __future__ import annotations

import base64
import json
import os
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from in_process import receive
from service_recordings import FLAGS, TYPES

import flux
from flux.core import fluid
from flux.message import Message

Record = dict[str, Any]

#: Keys whose values are times, count what else the instance has done, or tell which job has ended first.
_FREE = {"resource_summary", "timestamp", "t_submit", "starttime", "expiration", "seq", "t_start", "t_estimate", "pid"}
_F58 = re.compile(r"[fƒ][1-9A-HJ-NP-Za-km-z]{5,12}")
_BEGIN = re.compile(r'("scheme": "begin-time", "value": ")[0-9.]+')
_NUMBER = re.compile(r"\b[0-9]{7,}\b")


#: Stands for whatever payload there is.
ANY = object()


class Ids:
    """Recorded job ids, and ours."""

    def __init__(self) -> None:
        self.ours: dict[int, int] = {}
        self.theirs: dict[int, int] = {}

    def pair(self, theirs: int, ours: int) -> None:
        assert self.ours.setdefault(theirs, ours) == ours, f"job {theirs} was {self.ours[theirs]}, and is {ours} now"
        self.theirs[ours] = theirs
        assert [self.ours[i] for i in sorted(self.ours)] == sorted(self.ours.values()), "ids are not in order"

    def translate(self, value: Any, table: dict[int, int]) -> Any:
        """A value with all ids in it replaced."""
        if isinstance(value, dict):
            return {key: self.translate(item, table) for key, item in value.items()}
        if isinstance(value, list):
            return [self.translate(item, table) for item in value]
        if isinstance(value, int) and not isinstance(value, bool):
            return table.get(value, value)
        if isinstance(value, str):
            return self.in_text(value, table)
        return value

    def in_text(self, text: str, table: dict[int, int]) -> str:
        def word(match: re.Match[str]) -> str:
            number = table.get(fluid.parse(match[0]))
            if number is None:
                return match[0]
            return match[0][0] + fluid.f58plain(number)[1:]

        text = _F58.sub(word, text)
        return _NUMBER.sub(lambda match: str(table.get(int(match[0]), match[0])), text)


def signed_again(J: str, ids: Ids) -> str:
    """A signed request of the recorded owner as one of ours, about our jobs."""
    head, payload, signature = J.split(".")
    theirs = b"userid\0i0\0"
    ours = b"userid\0i%d\0" % os.getuid()
    header = base64.b64decode(head).replace(theirs, ours)
    jobspec = ids.in_text(base64.b64decode(payload).decode(), ids.ours)
    # What was soon then is long over.
    jobspec = _BEGIN.sub(lambda match: f"{match[1]}{time.time() + 0.2}", jobspec)
    return ".".join((base64.b64encode(header).decode(), base64.b64encode(jobspec.encode()).decode(), signature))


def _plain(value: Any, owner: int, free: frozenset[str]) -> Any:
    """A value without what differs from run to run."""
    if isinstance(value, dict):
        return {key: None if key in free else _plain_at(key, item, owner, free) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, owner, free) for item in value]
    return value


def _plain_at(key: str, value: Any, owner: int, free: frozenset[str]) -> Any:
    if key == "userid" and value == owner:
        return "owner"
    if key == "description" and value.startswith("begin-time="):
        return "begin-time"
    if key == "event" and isinstance(value, str):
        return _plain(json.loads(value), owner, free)
    return _plain(value, owner, free)


class Connection:
    """A recorded connection, and ours."""

    def __init__(self, handle: flux.Flux) -> None:
        self.handle = handle
        self.early: list[Message] = []
        self.asked: dict[str, Message] = {}  # the last request of each topic


class Replay:
    """One replay.

    Args:
        connect: opens a connection.
        records: the lines of the recording.
        skipped: tells by a topic what is neither sent nor expected.
        absent: lines, from 1, that do not come, or are not sent; with the reason.
        instead: payloads that come in place of those of lines, or ANY; a number: those of that line.
        succeed: lines whose errors are none with us.
        more: topics of messages that may come besides.
        without: names of events of eventlogs that are left out on both sides.
        free: keys whose values differ from run to run in this one.
        unordered: keys of payloads whose lists are in no order.
    """

    def __init__(
        self,
        connect: Callable[[], flux.Flux],
        records: list[Record],
        skipped: Callable[[str], bool] = lambda topic: False,
        absent: dict[int, str] | None = None,
        instead: dict[int, Any] | None = None,
        succeed: Iterable[int] = (),
        more: Iterable[str] = (),
        free: Iterable[str] = (),
        without: Iterable[str] = (),
        unordered: Iterable[str] = ("jobs", "queues"),
    ) -> None:
        self.connect = connect
        self.records = records
        self.skipped = skipped
        self.absent = absent or {}
        self.instead = instead or {}
        self.succeed = frozenset(succeed)
        self.more = frozenset(more)
        self.without = tuple(f'"name":"{name}"' for name in without)
        self.free = frozenset(_FREE).union(free)
        self.unordered = frozenset(unordered)
        self.ids = Ids()
        self.connections: dict[int, Connection] = {}

    def run(self) -> None:
        """Raises AssertionError with the number of the line that differs."""
        last = {record["conn"]: number for number, record in enumerate(self.records)}
        for number, record in enumerate(self.records, 1):
            conn = record["conn"]
            if conn not in self.connections:
                self.connections[conn] = Connection(self.connect())
            try:
                self._line(number, record, self.connections[conn])
            except AssertionError as exc:
                exc.add_note(f"line {number}: {record['dir']} {record['type']} {record['topic']}")
                raise
            if last[conn] == number - 1:
                self._close(conn)

    def _close(self, conn: int) -> None:
        connection = self.connections.pop(conn)
        left = [message for message in connection.early if message.topic not in self.more]
        connection.handle.handle = None
        assert not left, f"connection {conn} got more than was recorded: {left}"

    def _line(self, number: int, record: Record, connection: Connection) -> None:
        if self.skipped(record["topic"]) or number in self.absent:
            return
        if record["dir"] == "c>b":
            self._send(record, connection)
        elif not self._left_out(record.get("payload")):
            self._expect(number, record, connection)

    def _left_out(self, payload: Any) -> bool:
        event = payload.get("event", "") if isinstance(payload, dict) else ""
        return any(name in event for name in self.without)

    def _send(self, record: Record, connection: Connection) -> None:
        message = Message(TYPES[record["type"]])
        message.topic = record["topic"]
        payload = record.get("payload")
        if payload is not None:
            if "J" in payload:
                payload = {**payload, "J": signed_again(payload["J"], self.ids)}
            else:
                payload = self.ids.translate(payload, self.ids.ours)
            if "R" in payload:
                # What was allocated then has long expired.
                payload["R"]["execution"]["starttime"] = time.time()
            message.set_raw(json.dumps(payload).encode() + b"\0")
        message.flags = sum(FLAGS[flag] for flag in record["flags"])
        message.userid, message.rolemask = record["userid"], record["rolemask"]
        message.routes = ()
        message.aux1 = record.get("nodeid", record.get("errnum", record.get("sequence", 0)))
        message.aux2 = record.get("matchtag", 0)
        if record["type"] == "response":
            asked = connection.asked[record["topic"]]
            message.routes, message.aux2 = asked.routes, asked.aux2
        connection.handle.send(message)

    def _matches(self, record: Record, message: Message) -> bool:
        topic = self.ids.in_text(message.topic, self.ids.theirs)
        if (message.type_str, topic) != (record["type"], record["topic"]):
            return False
        return record["type"] != "response" or message.aux2 == record["matchtag"]

    def _next(self, record: Record, connection: Connection) -> Message:
        for message in connection.early:
            if self._matches(record, message):
                connection.early.remove(message)
                return message
        while True:
            message = receive(connection.handle)
            assert message is not None, f"nothing has come; earlier: {connection.early}"
            if self._left_out(message.payload if message.raw and not message.aux1 else None):
                continue
            if self._matches(record, message):
                return message
            connection.early.append(message)

    def _expect(self, number: int, record: Record, connection: Connection) -> None:
        message = self._next(record, connection)
        if record["type"] == "request":
            connection.asked[record["topic"]] = message
        errnum = 0 if number in self.succeed else record.get("errnum", 0)
        if record["type"] == "response":
            assert message.aux1 == errnum, message.payload_str
        wanted = self.instead.get(number, record.get("payload"))
        if isinstance(wanted, int):
            wanted = self.records[wanted - 1]["payload"]
        if wanted is ANY:
            return
        if errnum:
            if wanted is not None:
                text = self.ids.in_text(message.payload_str or "", self.ids.theirs)
                assert text == wanted["text"], text
            return
        text = message.payload_str
        if wanted is None:
            assert text is None, text
            return
        found = json.loads(text or "null")
        if record["topic"] == "job-manager.events-journal":
            found = self._split(message, found, len(wanted["events"]), connection)
        if "id" in wanted and isinstance(wanted["id"], int) and wanted["id"] != -1:
            self.ids.pair(wanted["id"], found["id"])
        ours = self._comparable(self.ids.translate(found, self.ids.theirs), os.getuid())
        theirs = self._comparable(wanted, 0)
        assert ours == theirs, f"{ours} is not {theirs}"

    def _split(self, message: Message, found: Any, count: int, connection: Connection) -> Any:
        """The first events of a journal response; the others are for the next one. Ours may carry several."""
        events = found["events"]
        if len(events) <= count:
            return found
        first, rest = {**found, "events": events[:count]}, {**found, "events": events[count:]}
        for key, name in (("jobspec", "submit"), ("R", "alloc")):
            # They go with one event each.
            goes = {event["name"] for event in events[:count]}
            (rest if name in goes else first).pop(key, None)
        other = message.copy()
        other.set_raw(json.dumps(rest).encode() + b"\0")
        connection.early.insert(0, other)
        return first

    def _comparable(self, payload: Any, owner: int) -> Any:
        plain = _plain(payload, owner, self.free)
        if isinstance(plain, dict):
            for key in self.unordered & plain.keys():
                if isinstance(plain[key], list):
                    plain[key] = sorted(plain[key], key=str)
        return plain


def eventually(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Waits for a condition, and returns what it gives. Raises AssertionError."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.005)
    raise AssertionError("it has not become true")
