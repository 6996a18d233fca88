"""flux.wire: the golden encodings, hostile input, and streams cut anywhere (spec 01, 1.2 to 1.6)."""

from __future__ import annotations

import errno
import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flux.message import Message
from flux.wire import (
    DEFAULT_LIMIT,
    MAGIC,
    PREFIX_SIZE,
    Framer,
    decode_body,
    encode,
    encode_body,
    encode_request,
    encode_stream,
)

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "wire-messages.json").read_text())
TYPES = {"request": 1, "response": 2, "event": 4, "control": 8}
WORDS = {
    "request": ("nodeid", "matchtag"),
    "response": ("errnum", "matchtag"),
    "event": ("sequence", None),
    "control": ("control_type", "control_status"),
}
UNSIGNED = 0xFFFFFFFF


def named(table: str) -> list[Any]:
    return [pytest.param(entry, id=entry["name"]) for entry in VECTORS[table]]


def opaque(text: str) -> bytes:
    """Topic or route bytes; those that are not UTF-8 are shown with backslash escapes."""
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1") if "\\x" in text else text.encode()


def payload_of(fields: dict[str, Any]) -> bytes | None:
    if "payload_repeat" in fields:
        text, times = fields["payload_repeat"]
        return text.encode() * times
    payload = fields["payload"]
    if payload is None:
        return None
    if "b64" in payload:
        import base64

        return base64.b64decode(payload["b64"])
    return payload["text"].encode()


def message_of(fields: dict[str, Any], aux2: int = 0) -> Message:
    """The message that a vector's fields describe; `aux2` for an event, whose second word is not shown."""
    first, second = WORDS[fields["type"]]
    routes = fields["routes"]
    topic = fields["topic"]
    return Message._make(
        TYPES[fields["type"]],
        fields["flags_byte"],
        fields["userid"],
        fields["rolemask"],
        fields[first] & UNSIGNED,
        aux2 if second is None else fields[second] & UNSIGNED,
        None if routes is None else tuple(opaque(route) for route in routes),
        None if topic is None else opaque(topic),
        payload_of(fields),
    )


def slots(message: Message | None) -> tuple[Any, ...] | None:
    if message is None:
        return None
    return (
        message._type,
        message.flags,
        message._userid,
        message._rolemask,
        message.aux1,
        message.aux2,
        message.routes,
        message.topic_bytes,
        message.raw,
    )


def outcome(call: Any, *args: Any) -> Any:
    """What a call gives: the message's slots, or the errno it raises."""
    try:
        return slots(call(*args))
    except OSError as exc:
        return exc.errno


def one(frame: bytes) -> Message | None:
    framer = Framer()
    framer.feed(frame)
    return framer.next()


def frame_of(body: bytes) -> bytes:
    return MAGIC + len(body).to_bytes(4, "big") + body


# Golden encodings.


@pytest.mark.parametrize("entry", named("messages"))
def test_message_encodes_to_the_recorded_frame(entry: dict[str, Any]) -> None:
    frame = encode(message_of(entry["fields"]))
    if "frame_hex" in entry:
        assert frame.hex() == entry["frame_hex"]
    else:
        assert len(frame) == entry["frame_len"]
        assert frame[:64].hex() == entry["frame_head_hex"]
        assert frame[-32:].hex() == entry["frame_tail_hex"]
        assert hashlib.sha256(frame).hexdigest() == entry["frame_sha256"]


@pytest.mark.parametrize("entry", named("messages"))
def test_recorded_frame_decodes_to_the_message(entry: dict[str, Any]) -> None:
    wanted = message_of(entry["fields"])
    frame = bytes.fromhex(entry["frame_hex"]) if "frame_hex" in entry else encode(wanted)
    assert slots(one(frame)) == slots(wanted)
    assert slots(decode_body(frame[PREFIX_SIZE:])) == slots(wanted)
    assert encode_body(wanted) == frame[PREFIX_SIZE:]


@pytest.mark.parametrize("entry", named("lenient"))
def test_unusual_frame_is_accepted_and_reencoded_canonically(entry: dict[str, Any]) -> None:
    message = one(bytes.fromhex(entry["hex"]))
    assert message is not None
    assert encode(message).hex() == entry["reencoded_hex"]
    assert slots(message) == slots(message_of(entry["fields"], message.aux2))


@pytest.mark.parametrize("entry", named("malformed"))
def test_malformed_frame_is_refused_with_the_recorded_errno(entry: dict[str, Any]) -> None:
    framer = Framer()
    framer.feed(bytes.fromhex(entry["hex"]))
    if entry["errno"] in ("EAGAIN", "ECONNRESET"):
        # Incomplete; the end of the stream is the connection's business (test of the local connector).
        assert framer.next() is None
        assert framer.buffered == len(entry["hex"]) // 2
    else:
        with pytest.raises(OSError, match=r".") as caught:
            framer.next()
        assert errno.errorcode[caught.value.errno] == entry["errno"]


@pytest.mark.parametrize("entry", [entry for entry in VECTORS["malformed"] if entry["errno"] == "EINVAL"])
def test_bad_body_costs_that_frame_only(entry: dict[str, Any]) -> None:
    framer = Framer()
    good = encode(Message.request(b"x.y"))
    body = bytes.fromhex(entry["hex"])[PREFIX_SIZE:]
    framer.feed(frame_of(body) + good)
    with pytest.raises(OSError, match="Invalid argument"):
        framer.next()
    assert slots(framer.next()) == slots(Message.request(b"x.y"))


@pytest.mark.parametrize(
    "prefix", [b"\0" * 8, MAGIC + b"\0\0\0\0", MAGIC + b"\xff\xff\xff\xff", MAGIC[::-1] + b"\0\0\0\x15"]
)
def test_bad_prefix_raises_on_every_further_call(prefix: bytes) -> None:
    framer = Framer()
    for piece in (prefix[:5], prefix[5:], encode(Message.request(b"x"))):
        framer.feed(piece)
    for _ in range(3):
        assert framer.has_message()
        with pytest.raises(OSError, match=r".") as caught:
            framer.next()
        assert caught.value.errno == errno.EPROTO


def test_message_without_a_valid_type_does_not_encode() -> None:
    message = Message.request(b"x")
    message._type = 3
    with pytest.raises(OSError, match="Protocol error"):
        encode(message)


@pytest.mark.parametrize("topic", [b"a.b", b"", b"t" * 254, b"t" * 255])
@pytest.mark.parametrize("raw", [None, b"{}\0", b"p" * 254, b"p" * 255, b"p" * 70_000])
@pytest.mark.parametrize("flags", [0, 0x04, 0x50])
def test_request_encodes_alike_without_a_message(topic: bytes, raw: bytes | None, flags: int) -> None:
    assert encode_request(topic, raw, 3, 7, flags) == encode(Message.request(topic, raw, 3, 7, flags))


def test_part_too_long_for_its_size_field_is_an_overflow() -> None:
    class Huge(bytes):
        def __len__(self) -> int:
            return 1 << 32

    with pytest.raises(OverflowError):
        encode(Message.request(b"x", Huge()))


# Streams cut anywhere.

_short = st.binary(max_size=12)
_route = st.binary(min_size=1, max_size=40).filter(lambda route: b"\0" not in route) | st.just(b"r" * 255)
_topic = st.binary(max_size=20).filter(lambda topic: b"\0" not in topic) | st.just(b"t" * 300)
_payload = _short | st.sampled_from([253, 254, 255, 256, 70_000, 140_000]).map(lambda size: b"p" * size)
_word = st.integers(0, UNSIGNED)


@st.composite
def messages(draw: Any) -> Message:
    flags = draw(st.integers(0, 0xFF))
    return Message._make(
        draw(st.sampled_from([1, 2, 4, 8])),
        flags,
        draw(_word),
        draw(_word),
        draw(_word),
        draw(_word),
        tuple(draw(st.lists(_route, max_size=4))) if flags & 8 else None,
        draw(_topic) if flags & 1 else None,
        draw(_payload) if flags & 2 else None,
    )


@given(messages())
def test_encoding_round_trips(message: Message) -> None:
    assert slots(one(encode(message))) == slots(message)
    assert slots(decode_body(encode_body(message))) == slots(message)


@given(messages(), st.lists(_payload, min_size=1, max_size=4))
def test_messages_that_differ_in_their_payloads_encode_as_one_by_one(message: Message, raws: list[bytes]) -> None:
    for raw, frame in zip(raws, encode_stream(message, raws), strict=True):
        alone = message.copy()
        alone.flags |= 2
        alone.raw = raw
        assert frame == encode(alone)


@settings(deadline=None)
@given(st.lists(messages(), min_size=1, max_size=6), st.data())
def test_stream_gives_the_same_messages_however_it_is_cut(sent: list[Message], data: st.DataObject) -> None:
    stream = b"".join(map(encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    greedy = data.draw(st.booleans(), label="take messages after every piece")
    framer = Framer()
    got = []
    fed = taken = 0
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        framer.feed(stream[start:end])
        fed = end
        while greedy and (message := framer.next()) is not None:
            got.append(slots(message))
            taken += len(encode(message))
            assert framer.buffered == fed - taken
    while framer.has_message():
        got.append(slots(framer.next()))
    assert framer.next() is None
    assert got == [slots(message) for message in sent]
    assert framer.buffered == 0


@settings(max_examples=25, deadline=None)
@given(st.lists(messages().filter(lambda message: len(message.raw or b"") < 1000), min_size=1, max_size=3))
def test_stream_byte_by_byte(sent: list[Message]) -> None:
    framer = Framer()
    got = []
    for byte in b"".join(map(encode, sent)):
        framer.feed(bytes([byte]))
        while (message := framer.next()) is not None:
            got.append(slots(message))
    assert got == [slots(message) for message in sent]


def test_large_frames_completed_before_the_first_is_taken_come_in_order() -> None:
    sent = [Message.request(b"x", bytes([65 + n]) * 200_000) for n in range(3)]
    stream = b"".join(map(encode, sent))
    framer = Framer()
    for start in range(0, len(stream), 65536):
        framer.feed(stream[start : start + 65536])
    assert framer.buffered == len(stream)
    assert [slots(framer.next()) for _ in sent] == [slots(message) for message in sent]
    assert framer.next() is None
    assert framer.buffered == 0


def test_wanted_tells_what_is_missing_of_a_frame() -> None:
    frame = encode(Message.request(b"x", b"p" * 1000))
    framer = Framer()
    assert framer.wanted == 0
    framer.feed(frame[:3])
    assert framer.next() is None
    framer.feed(frame[3:100])
    assert framer.next() is None
    assert framer.wanted == len(frame) - 100
    framer.feed(frame[100:])
    assert framer.wanted == 0
    assert framer.next() is not None


# The fast path and the rules to the letter agree.


def part(data: bytes, long_form: bool) -> bytes:
    size = b"\xff" + len(data).to_bytes(4, "big") if long_form or len(data) > 254 else bytes([len(data)])
    return size + data


_piece = st.one_of(
    st.binary(max_size=6), st.sampled_from([b"", b"\0", b"a\0b", b"\0a", b"x" * 254, b"x" * 255, b"x" * 300])
)
_header = st.builds(
    lambda kind, flags, aux2: bytes([0x8E, 1, kind, flags]) + b"\0" * 12 + aux2.to_bytes(4, "big"),
    st.sampled_from([1, 2, 4, 8, 3, 0]),
    st.integers(0, 15),
    st.integers(0, 300),
)


@st.composite
def bodies(draw: Any) -> bytes:
    """Encodings put together from parts, right and wrong, with a few bytes changed in some of them."""
    parts = draw(st.lists(st.tuples(_piece, st.booleans()), max_size=5))
    body = bytearray(b"".join(part(data, long) for data, long in parts) + part(draw(_header), draw(st.booleans())))
    for position, byte in draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=2)):
        body[position % len(body)] = byte
    return bytes(body[: draw(st.integers(1, len(body)))]) if draw(st.integers(0, 9)) == 0 else bytes(body)


def misleading() -> bytes:
    """A long-form route, and a matchtag that names the header's place in the frame."""
    body = part(b"a", True) + b"\0" + part(b"xyz", False)
    where = PREFIX_SIZE + len(body)
    return body + part(bytes([0x8E, 1, 1, 0x0A]) + b"\0" * 15 + bytes([where]), False)


@settings(max_examples=400)
@example(misleading(), b"")
@given(bodies(), st.sampled_from([b"", MAGIC, encode(Message.request(b"next", b"\0" * 30))]))
def test_fast_path_agrees_with_the_rules(body: bytes, behind: bytes) -> None:
    wanted = outcome(decode_body, body)
    framer = Framer()
    framer.feed(frame_of(body) + behind)
    assert outcome(framer.next) == wanted
    assert framer.buffered == len(behind)


@settings(max_examples=100)
@given(bodies(), st.binary(max_size=3))
def test_what_is_accepted_means_the_same_when_forwarded(body: bytes, behind: bytes) -> None:
    """No frame reads one way here and another way at the next hop."""
    accepted = outcome(one, frame_of(body) + behind)
    if isinstance(accepted, tuple):
        assert outcome(one, encode(one(frame_of(body)) or Message())) == accepted


def test_route_that_is_empty_up_to_its_nul_is_refused() -> None:
    body = part(b"\0a", False) + b"\0" + part(b"x", False) + part(bytes([0x8E, 1, 1, 9]) + b"\0" * 16, False)
    assert outcome(one, frame_of(body)) == errno.EPROTO


def test_very_long_route_stack_decodes() -> None:
    """In time in proportion to its length: this never ends if each route copies those before it."""
    message = Message.request(b"x")
    message.routes = (b"r",) * 300_000
    decoded = one(encode(message))
    assert decoded is not None
    assert decoded.routes == message.routes


# Memory.


@pytest.mark.parametrize("size", [DEFAULT_LIMIT, DEFAULT_LIMIT - 1])
def test_announced_length_takes_no_memory(size: int) -> None:
    framer = Framer()
    tracemalloc.start()
    try:
        framer.feed(MAGIC + size.to_bytes(4, "big"))
        for _ in range(100):
            framer.feed(b"x")
            assert framer.next() is None
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert framer.buffered == PREFIX_SIZE + 100
    assert framer.wanted == size - 100
    assert peak < 50_000


@pytest.mark.parametrize(("limit", "size"), [(DEFAULT_LIMIT, DEFAULT_LIMIT + 1), (1000, 1001), (1000, UNSIGNED)])
def test_length_above_the_limit_is_refused_at_the_prefix(limit: int, size: int) -> None:
    framer = Framer(limit)
    framer.feed(MAGIC + size.to_bytes(4, "big"))
    with pytest.raises(OSError, match="Protocol error"):
        framer.next()


def test_length_at_the_limit_is_accepted() -> None:
    frame = encode(Message.request(b"x", b"p" * 1000))
    framer = Framer(len(frame) - PREFIX_SIZE)
    framer.feed(frame)
    assert framer.next() is not None


def test_many_small_pieces_take_memory_by_their_bytes() -> None:
    framer = Framer()
    tracemalloc.start()
    try:
        framer.feed(MAGIC + (1 << 20).to_bytes(4, "big"))
        for _ in range(20_000):
            framer.feed(b"xy")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * framer.buffered


def peak_of_receiving(frame: bytes, cut: int) -> int:
    """Peak of memory taken in decoding a frame whose pieces are there already, the last of them `cut` bytes."""
    end = len(frame) - cut
    pieces = [frame[start : min(start + 65536, end)] for start in range(0, end, 65536)] + [frame[end:]]
    framer = Framer()
    tracemalloc.start()
    try:
        for piece in pieces:
            framer.feed(piece)
        del pieces
        message = framer.next()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message is not None
    assert message.raw == b"p" * len(message.raw or b"")
    return peak


def test_large_payload_is_copied_once() -> None:
    frame = encode(Message.request(b"x", b"p" * 20_000_000))
    assert peak_of_receiving(frame, 5000) < 1.1 * len(frame)


def test_large_payload_with_a_divided_header_is_copied_twice_at_most() -> None:
    frame = encode(Message.request(b"x", b"p" * 8_000_000))
    assert peak_of_receiving(frame, 7) < 2.2 * len(frame)
