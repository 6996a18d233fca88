"""flux event — publishes events and shows those of the instance (spec 03, 14.3; spec 01, section 5)."""

from __future__ import annotations

import base64

from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import Failure, connect, run, show, text_of
from flux.constants import FLUX_MSGFLAG_PRIVATE, FLUX_MSGTYPE_EVENT
from flux.core.handle import Flux
from flux.message import Message

COMMAND = Command(
    "event",
    "Send and receive Flux events",
    description="Publishes events, and prints those that are published. Everybody in the instance who has subscribed "
    "to the beginning of an event's topic gets it.",
    examples=(
        ("flux event sub --count=1 my.", "Wait for an event whose topic begins with my."),
        ("flux event pub my.news '{\"number\": 1}'", "Publish one."),
    ),
    see_also=("ping", "logger"),
    subcommands=[
        Command(
            "event pub",
            "Publish an event",
            [
                Option("r", "raw", "Send the payload as it is, without a terminating NUL."),
                Option("s", "synchronous", "Wait until the event has its sequence number, and print that."),
                Option("l", "loopback", "Wait until the event has been received back."),
                Option("p", "private", "Show the event only to the instance owner and to yourself."),
            ],
            arguments="topic [payload]",
            words=(1, None),
        ),
        Command(
            "event sub",
            "Print events as they come",
            [Option("c", "count", "Exit after N events.", "N")],
            arguments="[topic...]",
            words=(0, None),
        ),
    ],
)


def _publish(parsed: Parsed, handle: Flux) -> None:
    topic, *words = parsed.words
    raw: bytes | None = None
    if words:
        raw = " ".join(words).encode("utf-8", "surrogateescape")
        if not parsed.has("raw"):
            raw += b"\0"
    flags = FLUX_MSGFLAG_PRIVATE if parsed.has("private") else 0
    if parsed.has("loopback"):
        handle.event_subscribe(topic)
    if parsed.has("synchronous"):
        payload = {"topic": topic, "flags": flags}
        if raw:
            payload["payload"] = base64.b64encode(raw).decode()
        show(f"seq={handle.rpc('event.publish', payload, nodeid=0).get()['seq']}")
    else:
        handle.send(Message.event(topic.encode("utf-8", "surrogateescape"), raw or None, flags))
    if parsed.has("loopback"):
        # The subscription is to a prefix: others may publish what it matches, too.
        while True:
            event = handle.recv(FLUX_MSGTYPE_EVENT)
            if event.topic == topic and event.raw == (raw or None):
                return


def payload_text(event: Message) -> str:
    """The payload as it is shown: text as it is, other bytes as far as they can be printed."""
    raw = event.raw or b""
    if raw.endswith(b"\0"):
        return raw[: raw.index(b"\0")].decode("utf-8", "replace")
    return "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in raw)


def _subscribe(parsed: Parsed, handle: Flux) -> None:
    count = parsed.value("count")
    left = 0
    if count is not None:
        if not (count.isascii() and count.isdigit()):
            raise Failure(f"invalid count '{count}': it must be a whole number")
        left = int(count)
    for topic in parsed.words or [""]:
        handle.event_subscribe(topic)
    while True:
        event = handle.recv(FLUX_MSGTYPE_EVENT)
        show(f"{event.topic}\t{payload_text(event)}")
        left -= 1
        if left == 0:
            return


def _body(parsed: Parsed) -> int:
    action = _publish if parsed.command.name == "event pub" else _subscribe
    with connect(COMMAND) as handle:
        try:
            action(parsed, handle)
        except OSError as exc:
            raise Failure(text_of(exc)) from None
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
