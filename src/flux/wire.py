"""Messages to bytes and back: flux-core 0.88's message encoding and its socket framing (spec 01, section 1).

Rules of this file:

- Pure functions and one pure object: no sockets, no clock.
- `encode` and `Framer.next` are on the path of every message, so each has a fast way for frames as they
  nearly always are, and falls back to `decode_body`, which follows the rules of spec 01 1.5 to the letter.
  The two never disagree on a frame that both accept (a property test holds them to it).
- What a peer sends is never trusted: a frame's size is checked before anything is kept for it, and only
  what has been received takes memory, whatever length was announced.
- A payload's bytes are copied once between what the socket returned and `Message.raw`.
"""

from __future__ import annotations

import errno
import sys
from struct import Struct
from struct import error as StructError
from typing import TypeAlias

from flux.message import Message
from flux.wrapper import local_error

#: First four bytes of a socket frame: 0xffee0012 in host byte order (RFC 3 says otherwise: spec 01, 1.3).
MAGIC = (0xFFEE0012).to_bytes(4, sys.byteorder)

#: Bytes in front of a frame's body: magic and length.
PREFIX_SIZE = 8

#: The shortest body: one part, the header.
MIN_BODY = 21

#: The longest body a `Framer` accepts unless told otherwise, in bytes.
DEFAULT_LIMIT = 1 << 30

_FLAG_TOPIC, _FLAG_PAYLOAD, _FLAG_ROUTE = 0x01, 0x02, 0x08
_HEADER = Struct(">BBBBIIII")
_HEADER_AND_SIZE = Struct(">BBBBBIIII")
_LENGTH = Struct(">I")
_PREFIX = Struct(">II")
_pack_header = _HEADER_AND_SIZE.pack
_unpack_header = _HEADER.unpack_from
_pack_length = _LENGTH.pack
_unpack_length = _LENGTH.unpack_from
_unpack_prefix = _PREFIX.unpack_from
_MAGIC_NUMBER = int.from_bytes(MAGIC, "big")
_new = object.__new__
_TYPES = frozenset((1, 2, 4, 8))

#: The one-byte size that precedes a part of up to 254 bytes.
_SIZE = [bytes([n]) for n in range(255)]

Buffer: TypeAlias = bytes | bytearray | memoryview


def _four(length: int) -> bytes:
    """A length as four bytes; OverflowError where they do not hold it."""
    try:
        return _pack_length(length)
    except StructError:
        raise OverflowError(f"{length} bytes are too many for one message") from None


def _size(length: int) -> bytes:
    """The size field of a part: one byte, or 0xff and four bytes for parts longer than 254."""
    return _SIZE[length] if length < 255 else b"\xff" + _four(length)


def encode_body(message: Message) -> bytes:
    """A message's parts, each with its size, without the socket framing (spec 01, 1.2)."""
    return encode(message)[PREFIX_SIZE:]


def encode(message: Message) -> bytes:
    """A message as one socket frame: magic, length, parts (spec 01, 1.3).

    Raises OSError(EPROTO) for a message that has no valid type, and OverflowError for one too long to frame.
    """
    flags = message.flags
    kind = message._type
    if kind not in _TYPES:
        raise local_error(errno.EPROTO)
    payload = b""
    if flags & _FLAG_PAYLOAD:
        payload = message.raw or b""
        size = len(payload)
        size_field = _SIZE[size] if size < 255 else b"\xff" + _four(size)
    else:
        size_field = b""
    topic = message.topic_bytes
    if flags & _FLAG_TOPIC and topic is not None:
        size = len(topic)
        topic = (_SIZE[size] if size < 255 else b"\xff" + _four(size)) + topic
    else:
        topic = b""
    if flags & _FLAG_ROUTE:
        routes = message.routes
        stack = b"".join([_size(len(route)) + route for route in routes]) + b"\0" if routes else b"\0"
    else:
        stack = b""
    try:
        length = _pack_length(len(stack) + len(topic) + len(size_field) + len(payload) + MIN_BODY)
    except StructError:
        raise OverflowError("the message is too long to frame") from None
    return b"".join(
        (
            MAGIC,
            length,
            stack,
            topic,
            size_field,
            payload,
            _pack_header(20, 0x8E, 1, kind, flags, message._userid, message._rolemask, message.aux1, message.aux2),
        )
    )


def encode_around(message: Message, size: int) -> tuple[bytes, bytes]:
    """What comes before and behind a payload of `size` bytes, more than 254, in the frame of a message.

    For payloads that are not in one piece. Raises as `encode`.
    """
    empty = message.copy(payload=False)
    empty.raw, empty.flags = b"", empty.flags | _FLAG_PAYLOAD
    frame = encode(empty)
    (length,) = _unpack_length(frame, 4)
    # The size of an empty payload is one byte, a long one's are five.
    head = (MAGIC, _four(length + 4 + size), frame[PREFIX_SIZE : -MIN_BODY - 1], b"\xff", _four(size))
    return b"".join(head), frame[-MIN_BODY:]


def encode_request(topic: bytes, raw: bytes | None, nodeid: int, matchtag: int, flags: int) -> bytes:
    """``encode(Message.request(topic, raw, nodeid, matchtag, flags))``, without the message."""
    head = _SIZE[len(topic)] if len(topic) < 255 else _size(len(topic))
    if raw is None:
        return b"".join(
            (
                MAGIC,
                _pack_length(len(head) + len(topic) + 1 + MIN_BODY),
                b"\0",
                head,
                topic,
                _pack_header(20, 0x8E, 1, 1, flags | 0x09, 0xFFFFFFFF, 0, nodeid, matchtag),
            )
        )
    size = _SIZE[len(raw)] if len(raw) < 255 else _size(len(raw))
    return b"".join(
        (
            MAGIC,
            _pack_length(len(head) + len(topic) + len(size) + len(raw) + 1 + MIN_BODY),
            b"\0",
            head,
            topic,
            size,
            raw,
            _pack_header(20, 0x8E, 1, 1, flags | 0x0B, 0xFFFFFFFF, 0, nodeid, matchtag),
        )
    )


def encode_stream(message: Message, raws: list[bytes]) -> list[bytes]:
    """The frames of a message with one payload after the other: what `encode` would give, but for `message.raw`."""
    kind = message._type
    if kind not in _TYPES:
        raise local_error(errno.EPROTO)
    flags = message.flags | _FLAG_PAYLOAD
    head = b""
    if flags & _FLAG_ROUTE:
        head = b"".join([_size(len(route)) + route for route in message.routes or ()]) + b"\0"
    topic = message.topic_bytes
    if flags & _FLAG_TOPIC and topic is not None:
        head += _size(len(topic)) + topic
    tail = _pack_header(20, 0x8E, 1, kind, flags, message._userid, message._rolemask, message.aux1, message.aux2)
    around = len(head) + MIN_BODY
    frames = []
    for raw in raws:
        size = len(raw)
        field = _SIZE[size] if size < 255 else b"\xff" + _four(size)
        try:
            length = _pack_length(around + len(field) + size)
        except StructError:
            raise OverflowError("the message is too long to frame") from None
        frames.append(b"".join((MAGIC, length, head, field, raw, tail)))
    return frames


def _split(body: Buffer) -> list[bytes]:
    """The parts of an encoded message; a size that runs past the end is EINVAL (spec 01, 1.5 rule 1)."""
    parts = []
    pos, end = 0, len(body)
    while pos < end:
        size = body[pos]
        pos += 1
        if size == 255:
            if pos + 4 > end:
                raise local_error(errno.EINVAL)
            (size,) = _unpack_length(body, pos)
            pos += 4
        if pos + size > end:
            raise local_error(errno.EINVAL)
        parts.append(bytes(body[pos : pos + size]))
        pos += size
    return parts


def _decode_parts(parts: list[bytes]) -> Message:
    """Rules 2 to 6 of spec 01, 1.5."""
    if not parts or len(parts[-1]) != 20:
        raise local_error(errno.EPROTO)
    magic, version, kind, flags, userid, rolemask, aux1, aux2 = _unpack_header(parts.pop())
    if magic != 0x8E or version != 1 or kind not in _TYPES:
        raise local_error(errno.EPROTO)
    left = iter(parts)
    routes: tuple[bytes, ...] | None = None
    topic: bytes | None = None
    raw: bytes | None = None
    try:
        if flags & _FLAG_ROUTE:
            stack = []
            while route := next(left):
                route = route.partition(b"\0")[0]
                if not route:
                    # Sent on, it would be the delimiter: the next hop would read another message than we did.
                    raise local_error(errno.EPROTO)
                stack.append(route)
            routes = tuple(stack)
        if flags & _FLAG_TOPIC:
            topic = next(left).partition(b"\0")[0]
        if flags & _FLAG_PAYLOAD:
            raw = next(left)
    except StopIteration:
        raise local_error(errno.EPROTO) from None
    return Message._make(kind, flags, userid, rolemask, aux1, aux2, routes, topic, raw)


def decode_body(body: Buffer) -> Message:
    """The message that a frame's body (what follows its 8 prefix bytes) encodes.

    Raises OSError EINVAL where a part runs past the end, EPROTO for every other defect (spec 01, 1.5).
    """
    return _decode_parts(_split(body))


def _decode_pieces(pieces: list[bytes | bytearray], size: int) -> Message | None:
    """The large message whose frame of `size` bytes the pieces hold, its payload joined in one copy.

    None where the frame is not laid out as large frames are: all that precedes the payload within the first
    piece, header and its size byte within the last; then the pieces have to be joined first.
    """
    first, last = memoryview(pieces[0]), memoryview(pieces[-1])
    tail = len(last) - (sum(map(len, pieces)) - size)
    if len(pieces) < 2 or tail < MIN_BODY or last[tail - MIN_BODY] != 20:
        return None
    magic, version, kind, flags = _unpack_header(last, tail - 20)[:4]
    if magic != 0x8E or version != 1 or kind not in _TYPES or not flags & _FLAG_PAYLOAD:
        return None
    heads: list[bytes] = []
    pos = PREFIX_SIZE
    delimited = not flags & _FLAG_ROUTE
    topics = 1 if flags & _FLAG_TOPIC else 0
    try:
        while not delimited or topics:
            length = first[pos]
            if length == 255 or pos + 1 + length >= len(first):
                return None
            heads.append(bytes(first[pos + 1 : pos + 1 + length]))
            pos += 1 + length
            if delimited:
                topics -= 1
            else:
                delimited = length == 0
        if first[pos] != 255:
            return None
        (length,) = _unpack_length(first, pos + 1)
    except (IndexError, StructError):
        return None
    pos += 5
    if pos > len(first) or pos + length + MIN_BODY != size:
        return None
    raw = b"".join([first[pos:], *pieces[1:-1], last[: tail - MIN_BODY]])
    # The rules for what precedes the payload are those of every frame: apply them to a message of these parts.
    heads += [raw, bytes(last[tail - 20 : tail])]
    return _decode_parts(heads)


#: Received pieces shorter than this are gathered in one buffer, so that a peer that sends a frame byte by
#: byte costs memory in proportion to the bytes and not to their number.
_SMALL = 4096

#: More routes than this are collected in a list, as every addition to a tuple copies what it has.
_MANY_ROUTES = 64

#: Frames longer than this are worth decoding without joining their pieces first.
_LARGE = 65536


class Framer:
    """Splits a byte stream into messages, whatever pieces it arrives in.

    `feed` takes what was received; `next` returns the messages one by one, None when the next one is not
    complete. A frame whose *body* is bad raises OSError and is gone: the next call goes on with the frame
    behind it. A bad *prefix* (wrong magic; length 0 or above `limit`: EPROTO) raises on every
    further call, since nothing says where the next frame begins (spec 01, 1.5 and 1.6).

    Args:
        limit: longest body accepted, in bytes.
    """

    __slots__ = ("_buf", "_need", "_parts", "end", "held", "large", "large_size", "limit", "pos")

    def __init__(self, limit: int = DEFAULT_LIMIT) -> None:
        self.limit = limit
        self._buf = b""  # what `next` reads from, [pos:end] still to be taken
        self.pos = 0
        self.end = 0  # pos == end: `next` would return None (or a large message: see has_message)
        # A frame that did not fit into one piece: its pieces so far, their total, and the whole frame's size
        # (0 while not even the prefix is complete).
        self._parts: list[bytes | bytearray] = []
        self.held = 0
        self._need = 0
        self.large: Message | None = None  # decoded from its pieces, for `next` to return first
        self.large_size = 0

    @property
    def buffered(self) -> int:
        """Bytes received and not yet returned in a message."""
        large = 0 if self.large is None else self.large_size
        return large + self.end - self.pos + self.held

    @property
    def wanted(self) -> int:
        """Bytes still missing of the frame under way, where its length is known; else 0."""
        return max(0, self._need - self.held)

    def feed(self, data: bytes) -> None:
        """Takes bytes received from the peer."""
        if not self.held:
            if self.pos == self.end:
                self._buf = data
                self.pos = 0
                self.end = len(data)
                return
            self._hold()
        self.held += len(data)
        parts = self._parts
        if len(data) >= _SMALL:
            parts.append(data)
        elif parts and isinstance(parts[-1], bytearray):
            parts[-1] += data
        else:
            parts.append(bytearray(data))
        if not self._need:
            head = b"".join(parts)
            if len(head) < PREFIX_SIZE:
                return
            self._need = self._frame_size(head, 0)
        if self.held >= self._need:
            self._release()

    def clear(self) -> None:
        """Forgets what was received and not returned."""
        self._buf, self.pos, self.end = b"", 0, 0
        self._parts, self.held, self._need = [], 0, 0
        self.large = None

    def has_message(self) -> bool:
        """True if `next` would return a message or raise."""
        left = self.end - self.pos
        if self.large is not None:
            return True
        if left < PREFIX_SIZE:
            return False
        return left >= self._frame_size(self._buf, self.pos)

    def next(self, data: bytes = b"") -> Message | None:
        """The next message, or None if none is complete. Raises OSError EPROTO or EINVAL for a bad frame.

        Args:
            data: to be fed first.
        """
        pos = self.pos
        if data:
            if pos == self.end and not self.held and self.large is None:
                self._buf = data
                self.pos = pos = 0
                self.end = len(data)
            else:
                self.feed(data)
                pos = self.pos
        if self.large is not None:
            large, self.large = self.large, None
            return large
        left = self.end - pos
        if left < PREFIX_SIZE:
            return None
        buf = self._buf
        magic, size = _unpack_prefix(buf, pos)
        if magic != _MAGIC_NUMBER or not 0 < size <= self.limit:
            raise local_error(errno.EPROTO)
        if left < size + PREFIX_SIZE:
            return None
        pos += PREFIX_SIZE
        self.pos = end = pos + size
        # The fast way: a frame as they nearly always are. Whatever is unusual about it, `decode_body` decides.
        if size >= MIN_BODY:
            header = end - 20
            magic, version, kind, flags, userid, rolemask, aux1, aux2 = _unpack_header(buf, header)
            try:
                topic: bytes | None = None
                raw: bytes | None = None
                routes: tuple[bytes, ...] | None = None
                if flags & _FLAG_ROUTE:
                    length = buf[pos]
                    pos += 1
                    routes = ()
                    while length:
                        if length == 255 or len(routes) == _MANY_ROUTES:
                            pos = end  # never the header's place: not the fast way
                            break
                        routes += (buf[pos : pos + length],)
                        pos += length
                        length = buf[pos]
                        pos += 1
                if flags & _FLAG_TOPIC:
                    length = buf[pos] + pos + 1
                    topic = buf[pos + 1 : length]
                    pos = length
                if flags & _FLAG_PAYLOAD:
                    length = buf[pos]
                    pos += 1
                    if length == 255:
                        (length,) = _unpack_length(buf, pos)
                        pos += 4
                    raw = buf[pos : pos + length]
                    pos += length
                # Sizes that were read wrong (of parts over 254 bytes, or from behind the frame's end) do not
                # end where the header's size byte stands.
                if (
                    pos == header - 1
                    and buf[pos] == 20
                    and magic == 0x8E
                    and version == 1
                    and kind in _TYPES
                    and (topic is None or (b"\0" not in topic and len(topic) < 255))
                    and (not routes or b"\0" not in b"".join(routes))
                ):
                    message = _new(Message)
                    message._type = kind
                    message.flags = flags
                    message._userid = userid
                    message._rolemask = rolemask
                    message.aux1 = aux1
                    message.aux2 = aux2
                    message.routes = routes
                    message.topic_bytes = topic
                    message.raw = raw
                    return message
            except (IndexError, StructError):
                pass
        return decode_body(memoryview(buf)[self.pos - size : end])

    def _frame_size(self, buf: bytes, pos: int) -> int:
        """Size of the frame whose prefix is at `pos`; a bad prefix counts as complete, for `next` to refuse."""
        magic, size = _unpack_prefix(buf, pos)
        if magic != _MAGIC_NUMBER or not 0 < size <= self.limit:
            return PREFIX_SIZE
        return int(size) + PREFIX_SIZE

    def _hold(self) -> None:
        """Moves the incomplete frame at the end of the buffer to where pieces are gathered."""
        rest = self._buf[self.pos : self.end]
        self._parts = [bytearray(rest)]
        self.held = len(rest)
        self._need = self._frame_size(rest, 0) if len(rest) >= PREFIX_SIZE else 0
        self._buf = b""
        self.pos = self.end = 0

    def _release(self) -> None:
        """The held frame is complete: make it, and what came behind it, readable for `next`."""
        parts, self._parts = self._parts, []
        held, self.held = self.held, 0
        need, self._need = self._need, 0
        # One at a time: where `next` has not yet been asked for the last one, this one is joined.
        if need > _LARGE and self.large is None:
            self.large = _decode_pieces(parts, need)
            if self.large is not None:
                self.large_size = need
                rest = len(parts[-1]) - (held - need)
                parts, held = [parts[-1][rest:]], held - need
        self._buf = b"".join(parts)
        self.pos, self.end = 0, held
