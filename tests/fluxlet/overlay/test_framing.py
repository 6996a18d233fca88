"""Messages as parts (spec 04, 2.2)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from flux.message import Message
from fluxlet.overlay.framing import DISCONNECT, HEARTBEAT, STATUS, control, from_parts, to_parts

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
