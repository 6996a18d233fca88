"""What brokers say to each other first and last: overlay.hello, its answer, overlay.goodbye (spec 04, 2.3). Pure."""

from __future__ import annotations

import msgspec

from flux.constants import FLUX_NODEID_ANY, FLUX_ROLE_NONE, FLUX_ROLE_OWNER, FLUX_USERID_UNKNOWN
from flux.message import Message

#: MAJOR, MINOR, PATCH of the release whose protocol we speak, in one number.
VERSION = 0 << 16 | 88 << 8 | 0

HELLO, GOODBYE = b"overlay.hello", b"overlay.goodbye"


class Hello(msgspec.Struct, omit_defaults=True):
    """Payload of overlay.hello.

    Args:
        rank: of the sender.
        version: (MAJOR << 16) + (MINOR << 8) + PATCH.
        uuid: of the sender.
        status: number of its subtree's status.
        hostname: of the sender.
    """

    rank: int
    version: int
    uuid: str
    status: int
    hostname: str = ""


class Welcome(msgspec.Struct):
    """Payload of the response to overlay.hello."""

    uuid: str


_encode = msgspec.json.Encoder().encode
_decode_hello = msgspec.json.Decoder(Hello).decode
_decode_welcome = msgspec.json.Decoder(Welcome).decode


def hello(payload: Hello) -> Message:
    """The request to be let in."""
    return _request(HELLO, _encode(payload) + b"\0")


def goodbye() -> Message:
    """The request to be let go."""
    return _request(GOODBYE, None)


def _request(topic: bytes, raw: bytes | None) -> Message:
    message = Message.request(topic, raw, FLUX_NODEID_ANY)
    message._rolemask = FLUX_ROLE_OWNER
    message.routes = ()
    return message


def read_hello(message: Message) -> Hello:
    """What somebody says who wants to be let in. Raises `fluxlet.payload.UNREADABLE`."""
    return _decode_hello((message.raw or b"").rstrip(b"\0"))


def read_welcome(message: Message) -> Welcome:
    """What one is told who is let in. Raises as `read_hello`."""
    return _decode_welcome((message.raw or b"").rstrip(b"\0"))


def welcome(request: Message, uuid: bytes) -> Message:
    """The answer to one who is let in; `uuid` is ours."""
    return answer(request, _encode(Welcome(uuid.decode())) + b"\0")


def answer(request: Message, raw: bytes | None = None) -> Message:
    """The answer to a request of a neighbour's, from nobody in particular."""
    response = request.response(raw)
    response._userid, response._rolemask = FLUX_USERID_UNKNOWN, FLUX_ROLE_NONE
    return response


def refusal(request: Message, errnum: int, text: str | None) -> Message:
    """The answer to one whose request will not do."""
    response = request.response(None if text is None else text.encode() + b"\0", errnum)
    response._userid, response._rolemask = FLUX_USERID_UNKNOWN, FLUX_ROLE_NONE
    return response


def version_text(version: int) -> str:
    """A version as it is written: MAJOR.MINOR.PATCH."""
    return f"{version >> 16}.{version >> 8 & 255}.{version & 255}"
