"""Messages as parts (spec 04, 2.2)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from flux.message import Message
from fluxlet.overlay.framing import DISCONNECT, HEARTBEAT, STATUS, Unpacker, control, from_parts, pack, to_parts

VECTORS = Path(__file__).parents[2] / "vectors"
HEADER_SIZE = 20


def recorded(name: str) -> list[dict[str, Any]]:
    lines = (VECTORS / name).read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if "header" in entry]


@pytest.mark.parametrize("name", ["overlay-tbon-lifecycle.jsonl", "overlay-tbon-child-crash.jsonl"])
def test_headers_of_the_reference_are_read_and_written(name: str) -> None:
    entries = recorded(name)
    assert len(entries) > 10
    for entry in entries:
        parts = [route.encode() for route in entry["routes"]] + [b""]
        if "topic" in entry["flags"]:
            parts.append(entry["topic"].encode())
        if "payload" in entry["flags"]:
            parts.append(json.dumps(entry.get("payload", {})).encode() + b"\0")
        parts.append(bytes.fromhex(entry["header"]))
        assert len(parts) == len(entry["frame_sizes"])
        message = from_parts(parts)
        assert (message.userid, message.rolemask) == (entry["userid"], entry["rolemask"])
        assert to_parts(message) == parts


@pytest.mark.parametrize(
    ("message", "header"),
    [
        (control(HEARTBEAT), "8e010808ffffffff000000000000000000000000"),
        (control(STATUS, 1), "8e010808ffffffff000000000000000100000001"),
        (control(DISCONNECT), "8e010808ffffffff000000000000000200000000"),
    ],
)
def test_control_messages(message: Message, header: str) -> None:
    assert to_parts(message) == [b"", bytes.fromhex(header)]


GOOD = to_parts(Message.request(b"a.b", b"{}\0", 3, 1))


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b""],
        [b"", b"x" * HEADER_SIZE],
        GOOD[:-1],
        GOOD[1:],
        [*GOOD, GOOD[-1]],
        [b"route", *GOOD[2:]],
        [*GOOD[:1], b"extra", *GOOD[1:]],
        [*GOOD[:-1], GOOD[-1] + b"x"],
    ],
)
def test_what_is_no_message(parts: list[bytes]) -> None:
    with pytest.raises(OSError, match=r"header|routes|parts"):
        from_parts(parts)


def test_garbage_is_refused_or_read_but_never_fails_otherwise() -> None:
    dice = random.Random(5)
    for _ in range(3000):
        parts = [
            bytes(dice.randrange(256) for _ in range(dice.choice((0, 1, 3, 20, 36)))) for _ in range(dice.randrange(6))
        ]
        if dice.random() < 0.7:
            parts.append(bytes((0x8E, 1, dice.choice((1, 2, 4, 8)), dice.randrange(256))) + dice.randbytes(16))
        try:
            message = from_parts(parts)
        except OSError:
            continue
        to_parts(message)


@pytest.mark.parametrize("size", [0, 10, 254, 255, 100_000])
def test_a_message_in_one_part_is_the_same_message(size: int) -> None:
    unpacker = Unpacker()
    for kind in (1, 2, 4, 8):
        message = Message._make(kind, 0x0B, 1, 2, 3, 4, (b"r" * 36, b"s"), b"a.b", b"x" * size)
        again = unpacker.unpack(pack(message))
        assert to_parts(again) == to_parts(message)
    plain = Message._make(8, 0, 1, 2, 3, 4, None, None, None)
    assert to_parts(unpacker.unpack(pack(plain))) == to_parts(plain)


def test_what_is_no_message_in_one_part_harms_none_that_follows() -> None:
    unpacker = Unpacker()
    good = pack(Message.request(b"a.b", b"{}\0", 3, 1))
    dice = random.Random(9)
    bad = [b"", b"x", good[:-1], good + good, good + b"x", good[:8], b"x" * 100, dice.randbytes(1000)]
    bad += [bytes((*good[:place], good[place] ^ 0xFF, *good[place + 1 :])) for place in range(8)]
    for part in bad:
        with pytest.raises(OSError, match=r"."):
            unpacker.unpack(part)
        assert to_parts(unpacker.unpack(good)) == to_parts(Message.request(b"a.b", b"{}\0", 3, 1))
