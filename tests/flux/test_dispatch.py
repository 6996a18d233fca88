"""flux.core.dispatch.Match: which messages a match accepts (spec 01, 6.1)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flux.core.dispatch import Match
from flux.message import Message

TABLE = json.loads((Path(__file__).parents[1] / "vectors" / "wire-semantics.json").read_text())["topic_glob"]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: f"{case['topic']}~{case['glob']}")
def test_glob_accepts_topics_as_recorded(case: dict[str, Any]) -> None:
    glob = case["glob"]
    match = Match(glob=None if glob is None else glob.encode())
    assert match.accepts(Message.request(case["topic"].encode())) is case["match"]


@pytest.mark.parametrize(("glob", "accepted"), [(None, True), (b"", True), (b"*", True), (b"**", False), (b"x", False)])
def test_message_without_topic_is_accepted_by_the_widest_globs_only(glob: bytes | None, accepted: bool) -> None:
    assert Match(glob=glob).accepts(Message()) is accepted


def test_topic_that_is_not_utf8_matches_by_bytes() -> None:
    message = Message.request(b"x.\xff\xfe")
    assert Match(glob=b"x.*").accepts(message)
    assert Match(glob=b"?.\xff*").accepts(message)
    assert Match(glob=b"x.\xff\xfe").accepts(message)
    assert not Match(glob=b"?.\xfe*").accepts(message)


@pytest.mark.parametrize(
    ("typemask", "kinds"), [(0, (1, 2, 4, 8)), (0x0F, (1, 2, 4, 8)), (3, (1, 2)), (4, (4,)), (8, (8,))]
)
def test_typemask(typemask: int, kinds: tuple[int, ...]) -> None:
    assert tuple(kind for kind in (1, 2, 4, 8) if Match(typemask).accepts(Message(kind))) == kinds


def tagged(kind: int, tag: int, routes: tuple[bytes, ...] | None) -> Message:
    return Message._make(kind, 1 | (0 if routes is None else 8), 0, 1, 0, tag, routes, b"x", None)


@pytest.mark.parametrize(
    ("message", "accepted"),
    [
        (tagged(2, 7, ()), True),
        (tagged(2, 7, None), True),
        (tagged(1, 7, ()), True),
        (tagged(2, 8, ()), False),
        (tagged(2, 7, (b"r",)), False),
        (tagged(4, 7, ()), False),
        (tagged(8, 7, ()), False),
    ],
)
def test_matchtag_accepts_messages_at_their_destination(message: Message, accepted: bool) -> None:
    assert Match(matchtag=7).accepts(message) is accepted
