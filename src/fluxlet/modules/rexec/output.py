"""What a process writes, cut into the pieces that are passed on (spec 04, 5.2). Pure.

Rules:
- In lines: a piece is a line with its end. One that is longer than the buffer comes in pieces of the buffer's size;
  what has no end by the end of the stream is the last piece.
- Else a piece is whatever was there to read.
- A byte is searched for a line's end once, however slowly a line comes.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque

import msgspec

_text = msgspec.json.Encoder().encode


class Pieces:
    """The pieces of one stream.

    Args:
        size: of the buffer, in bytes: the longest piece.
        lines: cut into lines.
    """

    def __init__(self, size: int, lines: bool) -> None:
        self.size = size
        self.lines = lines
        self.ready: deque[bytes] = deque()
        """What is to be passed on."""
        self._rest = bytearray()  # the beginning of a line

    def feed(self, data: bytes) -> None:
        """Takes what was read."""
        if not self.lines:
            self.ready.extend(data[at : at + self.size] for at in range(0, len(data), self.size))
            return
        *lines, rest = data.split(b"\n")
        for line in lines:
            if self._rest:
                self._rest += line
                line = bytes(self._rest)
                self._rest.clear()
            self._cut(line + b"\n")
        self._rest += rest
        while len(self._rest) >= self.size:
            self.ready.append(bytes(self._rest[: self.size]))
            del self._rest[: self.size]

    def finish(self) -> None:
        """The stream has ended."""
        if self._rest:
            self.ready.append(bytes(self._rest))
            self._rest.clear()

    def _cut(self, line: bytes) -> None:
        if len(line) <= self.size:
            self.ready.append(line)
        else:
            self.ready.extend(line[at : at + self.size] for at in range(0, len(line), self.size))


def io_text(stream: str, rank: int, data: bytes) -> bytes:
    """The IO object of a piece, as JSON text: its text if it is UTF-8, else base64."""
    try:
        encoded = _text(data.decode())
        return b'{"stream":%b,"rank":"%d","data":%b}' % (_text(stream), rank, encoded)
    except UnicodeDecodeError:
        encoded = b64encode(data)
        return b'{"stream":%b,"rank":"%d","encoding":"base64","data":"%b"}' % (_text(stream), rank, encoded)


def eof_text(stream: str, rank: int) -> bytes:
    """The IO object of a stream's end."""
    return b'{"stream":%b,"rank":"%d","eof":true}' % (_text(stream), rank)
