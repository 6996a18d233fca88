"""Replays recordings of the reference (`tests/vectors/wire-*.jsonl`, fluxtap's format) against something of ours.

What the recorded clients sent is sent again, and what comes back is compared with what came back then. Rules:

- A `World` carries messages: connections to a broker's socket, or routers linked in memory.
- Identities differ from run to run: each recorded uuid stands for one of ours, always the same, and no two for
  the same. Routes are compared by that; those of events mean nothing (spec 01, 5.5).
- So do sequence numbers, which heartbeats use up too: they map one to one, and grow.
- uid 0 is the instance owner. Where the reference gave an errno without text, ours may add one (DESIGN.md).
- Notices of one disconnect come in any order; heartbeats are nobody's answer.
- What we mean to do better than the reference is in the caller's table of deviations, with the reason.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from flux.message import Message
from flux.wire import PREFIX_SIZE, decode_body

VECTORS = Path(__file__).parent / "vectors"
TYPES = {"request": 1, "response": 2, "event": 4, "control": 8}
FLAGS = {
    "topic": 0x01,
    "payload": 0x02,
    "noresponse": 0x04,
    "route": 0x08,
    "upstream": 0x10,
    "private": 0x20,
    "streaming": 0x40,
    "user1": 0x80,
}
WORDS = {
    "request": ("nodeid", "matchtag"),
    "response": ("errnum", "matchtag"),
    "event": ("sequence", "unused"),
    "control": ("ctype", "status"),
}
PAYLOAD = FLAGS["payload"]
HEARTBEAT = b"heartbeat.pulse"

Entry = dict[str, Any]


def load(name: str) -> list[Entry]:
    """The lines of a recording."""
    return [json.loads(line) for line in (VECTORS / f"{name}.jsonl").read_text().splitlines()]


class World(Protocol):
    """What a recording is replayed on."""

    def open(self, conn: int, uid: int) -> None:
        """Connects; `uid` 0 for the instance owner."""

    def close(self, conn: int) -> None:
        """Disconnects."""

    def send(self, conn: int, message: Message, frame: bytes | None) -> None:
        """Sends a message; `frame` is its encoding where the recording has it."""

    def receive(self, conn: int) -> Message:
        """The next message of a connection; waits for it, and raises AssertionError if there is none."""

    def break_off(self, conn: int) -> None:
        """Sends a malformed frame, and waits for the end of the stream that this leads to."""

    def rest(self, conn: int) -> list[Message]:
        """All that is left to receive on a connection when nothing more is to come."""


@dataclass
class Deviation:
    """Where we differ on purpose from a recorded line, by its number (from 1).

    Args:
        why: the reason; "do better" numbers are those of spec 01, section 9.
        absent: the recorded message does not come.
        extra: (connection, fields) of a message that comes besides, before what follows the line.
    """

    why: str
    absent: bool = False
    extra: tuple[int, Entry] | None = None


class Names:
    """Recorded identities and numbers, and ours."""

    def __init__(self) -> None:
        self.ours: dict[str, str] = {}  # by the first 8 characters
        self.whole: dict[str, bytes] = {}  # recorded uuid to our uuid
        self.numbers: dict[int, int] = {}

    def same_name(self, recorded: str, ours: str) -> bool:
        recorded, ours = recorded[:8], ours[:8]
        if recorded not in self.ours and ours in self.ours.values():
            return False
        return self.ours.setdefault(recorded, ours) == ours

    def same_routes(self, recorded: list[str], ours: tuple[bytes, ...]) -> bool:
        if len(recorded) != len(ours):
            return False
        for theirs, mine in zip(recorded, ours, strict=True):
            if len(theirs) < 36:
                if theirs.encode() != mine:  # a client's own choice
                    return False
            elif not self.same_name(theirs, mine.decode()):
                return False
            self.whole[theirs] = mine
        return True

    def same_number(self, recorded: int, ours: int) -> bool:
        known = self.numbers.setdefault(recorded, ours)
        by_recorded = [self.numbers[number] for number in sorted(self.numbers)]
        return known == ours and by_recorded == sorted(set(by_recorded))


def unsigned_owner(uid: int) -> int:
    return os.getuid() if uid == 0 else uid


def raw_payload(payload: Any) -> bytes | None:
    """A recorded payload as it was on the wire."""
    if payload is None:
        return None
    if isinstance(payload, dict) and len(payload) == 1:
        key, value = next(iter(payload.items()))
        if key == "b64":
            return base64.b64decode(value)
        if key == "text":
            return value.encode() + b"\0"
    return json.dumps(payload, separators=(",", ":")).encode() + b"\0"


def flag_bits(names: list[str]) -> int:
    return sum(FLAGS[name] for name in names)


def build(entry: Entry, names: Names) -> Message:
    """The message that a recorded client sent."""
    if "hex" in entry:
        return decode_body(bytes.fromhex(entry["hex"])[PREFIX_SIZE:])
    first, second = WORDS[entry["type"]]
    routes = entry.get("routes")
    topic = entry.get("topic")
    return Message._make(
        TYPES[entry["type"]],
        flag_bits(entry["flags"]),
        unsigned_owner(entry["userid"]),
        entry["rolemask"],
        entry[first],
        entry[second],
        None if routes is None else tuple(names.whole.get(route, route.encode()) for route in routes),
        None if topic is None else topic.encode(),
        raw_payload(entry.get("payload")),
    )


def same_payload(recorded: Any, raw: bytes | None, names: Names) -> bool:
    if recorded is None or raw is None:
        return recorded is raw is None
    if not isinstance(recorded, dict) or raw == raw_payload(recorded):
        return raw == raw_payload(recorded)
    try:
        ours = json.loads(raw.rstrip(b"\0"))
    except ValueError:
        return False
    if not isinstance(ours, dict) or ours.keys() != recorded.keys():
        return False
    for key, value in recorded.items():
        mine = ours[key]
        if key == "route" and "!" in str(value):
            pairs = list(zip(value.split("!"), mine.split("!"), strict=False))
            if value.count("!") != mine.count("!") or not all(
                theirs == my if len(theirs) < 8 else names.same_name(theirs, my) for theirs, my in pairs
            ):
                return False
        elif key == "seq" and "route" not in recorded:
            if not names.same_number(value, mine):
                return False
        elif key == "userid":
            if unsigned_owner(value) != mine:
                return False
        elif value != mine:
            return False
    return True


def difference(entry: Entry, message: Message, names: Names) -> str | None:
    """How a message differs from the recorded one; None if it does not."""
    kind = entry["type"]
    first, second = WORDS[kind]
    payload = entry.get("payload")
    flags = flag_bits(entry["flags"])
    if entry.get("errnum") and payload is None and message.flags & PAYLOAD and message._type == 2:
        flags |= PAYLOAD  # a text that the reference does not have
    elif not same_payload(payload, message.raw, names):
        return f"payload {message.raw!r}, recorded {payload!r}"
    topic = message.topic_bytes
    wanted = {
        "type": (TYPES[kind], message._type),
        "topic": (entry.get("topic"), None if topic is None else topic.decode()),
        "flags": (flags, message.flags),
        "userid": (unsigned_owner(entry["userid"]), message._userid),
        "rolemask": (entry["rolemask"], message._rolemask),
        second: (entry[second], message.aux2),
    }
    if kind != "event":
        wanted[first] = (entry[first], message.aux1)
    for name, (recorded, ours) in wanted.items():
        if recorded != ours:
            return f"{name} {ours!r}, recorded {recorded!r}"
    if kind == "event":
        if not message.routes:
            return "event without a route"
        if not names.same_number(entry["sequence"], message.aux1):
            return f"sequence {message.aux1}, recorded {entry['sequence']}, so far {names.numbers}"
    elif not names.same_routes(entry["routes"], message.routes or ()):
        return f"routes {message.routes}, recorded {entry['routes']}"
    return None


def replay(entries: list[Entry], world: World, deviations: dict[int, Deviation] | None = None) -> None:
    """Replays a recording; raises AssertionError naming the line and what is wrong there."""
    deviations = deviations or {}
    names = Names()
    opened: set[int] = set()
    notices: dict[int, list[Message]] = {}

    def receive(conn: int) -> Message:
        while (message := world.receive(conn)).topic_bytes == HEARTBEAT:
            pass
        return message

    def check(number: int, entry: Entry) -> None:
        conn = entry["conn"]
        if entry.get("topic", "").endswith(".disconnect"):
            # Any of those that come from one client's end: take all that are recorded in a row.
            waiting = notices.setdefault(conn, [])
            if not waiting:
                following = [e for e in entries[number - 1 :] if e.get("conn") == conn]
                while following and following[0].get("topic", "").endswith(".disconnect"):
                    waiting.append(receive(conn))
                    following.pop(0)
            wrong = [difference(entry, message, names) for message in waiting]
            assert None in wrong, f"line {number}: no notice like {entry}: {wrong}"
            waiting.pop(wrong.index(None))
            return
        message = receive(conn)
        wrong_field = difference(entry, message, names)
        assert wrong_field is None, f"line {number}: {message!r}: {wrong_field}"

    for number, entry in enumerate(entries, 1):
        deviation = deviations.get(number)
        conn = entry.get("conn")
        if conn is not None and conn not in opened:
            opened.add(conn)
            world.open(conn, entry.get("uid", 0))
        if entry.get("event") == "close":
            world.close(conn)
            opened.discard(conn)
        elif entry.get("event") == "eof":
            world.break_off(conn)
            opened.discard(conn)
        elif entry.get("dir") == "c>b":
            frame = bytes.fromhex(entry["hex"]) if "hex" in entry else None
            world.send(conn, build(entry, names), frame)
        elif entry.get("dir") == "b>c":
            absent = deviation is not None and deviation.absent
            if not absent and entry["topic"] != HEARTBEAT.decode():
                check(number, entry)
        if deviation is not None and deviation.extra is not None:
            other, fields = deviation.extra
            message = receive(other)
            wrong_field = difference(fields, message, names)
            assert wrong_field is None, f"after line {number}: {message!r}: {wrong_field}"
    for conn in sorted(opened):
        left = [message for message in world.rest(conn) if message.topic_bytes != HEARTBEAT]
        assert not left, f"connection {conn} got more than was recorded: {left}"
        world.close(conn)
