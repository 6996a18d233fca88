"""LongResponse: a response with a payload in pieces, which a client's connection sends as they are.

A payload of hundreds of megabytes would be copied twice before it is in a socket's buffer, in one go. To all others
than connections of clients it is a message as any.
"""

from __future__ import annotations

from flux.message import Message
from flux.wire import encode_around


class LongResponse(Message):
    """A response.

    Args:
        request: that it answers.
        pieces: of the payload as it goes on the wire, 255 bytes or more in all.
    """

    __slots__ = ("pieces",)

    pieces: list[bytes | memoryview]

    def __new__(cls, request: Message, pieces: list[bytes | memoryview]) -> LongResponse:
        message = object.__new__(cls)
        plain = request.response(b"")
        for name in ("_type", "flags", "_userid", "_rolemask", "aux1", "aux2", "routes", "topic_bytes"):
            setattr(message, name, getattr(plain, name))
        message.pieces = pieces
        return message

    @property
    def raw(self) -> bytes:  # type: ignore[override]  # to be read only
        """The payload in one piece."""
        return b"".join(self.pieces)

    def frame(self) -> list[bytes | memoryview]:
        """The socket frame, in pieces."""
        head, tail = encode_around(self, sum(map(len, self.pieces)))
        return [head, *self.pieces, tail]
