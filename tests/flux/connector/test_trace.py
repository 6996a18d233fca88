"""flux.connector.trace: what FLUX_O_TRACE writes (spec 01, section 2.7)."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest

import flux
from flux.connector.loop import LoopConnector
from flux.connector.trace import TraceConnector, describe
from flux.constants import FLUX_O_TEST_NOSUB, FLUX_O_TRACE, FLUX_RPC_STREAMING
from flux.message import Message


def message(kind: int, **fields: Any) -> Message:
    made = Message(kind)
    pimpl: Any = made.pimpl
    if "routes" in fields:
        pimpl.route_enable()
        for route in fields.pop("routes"):
            pimpl.route_push(route)
    raw = fields.pop("raw", None)
    if raw is not None:
        made.set_raw(raw)
    for name, value in fields.items():
        if isinstance(getattr(Message, name, None), property):
            setattr(made, name, value)
        else:
            getattr(pimpl, f"set_{name}")(value)
    return made


RULE = "-" * 38
CASES: dict[str, tuple[Message, list[str]]] = {
    "request": (
        message(1, topic="a.b", payload={"x": 1}, matchtag=3),
        [
            "> 1.50000",
            "> a.b",
            "> flags=topic,payload userid=unknown rolemask=none nodeid=any matchtag=3",
            '> {"x": 1}',
        ],
    ),
    "request to a rank": (
        message(1, topic="a", nodeid=2, userid=1000, rolemask=3),
        ["> 1.50000", "> a", "> flags=topic userid=1000 rolemask=owner,user nodeid=2 matchtag=0"],
    ),
    "response": (
        message(2, topic="a", errnum=22, rolemask=0xFFFFFFFF, routes=["0123456789", "b"]),
        [
            "< 1.50000",
            "< a",
            "< flags=topic,route userid=unknown rolemask=all errnum=22 matchtag=0",
            "< |01234567!b|",
        ],
    ),
    "event": (
        message(4, topic="e", seq=7, rolemask=0x21),
        ["e 1.50000", "e e", "e flags=topic userid=unknown rolemask=owner,0x20 sequence=7"],
    ),
    "control": (message(8), ["c 1.50000", "c flags= userid=unknown rolemask=none type=0 status=0"]),
    "bytes": (
        message(1, topic="a", raw=b"\x01\xab"),
        [
            "> 1.50000",
            "> a",
            "> flags=topic,payload userid=unknown rolemask=none nodeid=any matchtag=0",
            "> 01AB",
        ],
    ),
    "many bytes": (
        message(1, topic="a", raw=b"\xff" * 100),
        [
            "> 1.50000",
            "> a",
            "> flags=topic,payload userid=unknown rolemask=none nodeid=any matchtag=0",
            "> " + "F" * 75 + "...",
        ],
    ),
}


@pytest.mark.parametrize(("shown", "lines"), CASES.values(), ids=CASES.keys())
def test_message_is_described(shown: Message, lines: list[str]) -> None:
    assert describe(shown, 1.5).splitlines() == [RULE, *lines]


def test_connector_shows_what_is_sent_and_received_and_passes_it_on() -> None:
    out = io.StringIO()
    connector = TraceConnector(LoopConnector(), out)
    sent = message(4, topic="e.x")
    connector.send(sent, False)
    received = connector.next_message()
    assert received is not None
    assert received.topic == "e.x"
    assert connector.recv(0) is None
    lines = out.getvalue().splitlines()
    assert lines.count(RULE) == 2
    assert lines[1] == "e 0.00000"  # counted from the first message
    assert lines.count("e e.x") == 2


def test_handle_opened_with_trace_writes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    handle = flux.Flux("loop://", flags=FLUX_O_TEST_NOSUB | FLUX_O_TRACE)
    handle.rpc("x.y", {"a": 1}, flags=FLUX_RPC_STREAMING)
    assert handle.recv().topic == "x.y"
    written = capsys.readouterr().err
    assert len(re.findall(r"^> x\.y$", written, re.MULTILINE)) == 2
    assert "flags=topic,payload,route,streaming" in written


def test_environment_turns_tracing_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FLUX_HANDLE_TRACE", "")
    flux.Flux("loop://", flags=FLUX_O_TEST_NOSUB).event_send("some.event")
    assert "e some.event" in capsys.readouterr().err


def test_flags_turn_tracing_on_and_off(capsys: pytest.CaptureFixture[str]) -> None:
    handle: Any = flux.Flux("loop://", flags=FLUX_O_TEST_NOSUB)
    handle.event_send("before")
    handle.flags_set(FLUX_O_TRACE)
    assert handle.flags_get() == FLUX_O_TEST_NOSUB | FLUX_O_TRACE
    handle.event_send("during")
    handle.flags_unset(FLUX_O_TRACE)
    handle.event_send("after")
    written = capsys.readouterr().err
    assert "e during" in written
    assert "before" not in written
    assert "after" not in written
    assert [handle.recv().topic for _ in range(3)] == ["before", "during", "after"]
