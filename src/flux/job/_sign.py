"""The signed request J: a jobspec, and who says that it is theirs (RFC 39; spec 06, section 2).

    J = base64(header) "." base64(jobspec) "." signature

The one mechanism here is ``none``: the signature is the word `none`, and the broker believes its owner, whose
userid its connection has stamped on the request. Base64 is the standard one, with padding, and needs no escaping in
JSON: `payload` makes use of that.
"""

from __future__ import annotations

import os
import re
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from functools import lru_cache
from typing import NamedTuple

_INTEGER = re.compile(rb"i(-?[0-9]+)\Z")
_MAX_USERID = 2**32 - 1


class Unwrapped(NamedTuple):
    """What a J says: `userid` of who signed, and the bytes of the `jobspec`, which nobody has looked at yet."""

    userid: int
    jobspec: bytes


@lru_cache(maxsize=4)
def _header(userid: int) -> bytes:
    """The first part of J, with the dot after it."""
    header = b"version\0i1\0userid\0i%d\0mechanism\0snone\0" % userid
    return b2a_base64(header, newline=False) + b"."


def sign(jobspec: bytes, userid: int | None = None) -> bytes:
    """J, in ASCII, for the text of a jobspec in UTF-8. `userid` None: that of this process."""
    head = _header(os.getuid() if userid is None else userid)
    return b"%b%b.none" % (head, b2a_base64(jobspec, newline=False))


def payload(jobspec: bytes, urgency: int, flags: int) -> bytes:
    """The payload of job-ingest.submit for a jobspec, with the NUL that ends it: no JSON encoder needs to see it."""
    return b'{"J":"%b%b.none","urgency":%d,"flags":%d}\0' % (
        _header(os.getuid()),
        b2a_base64(jobspec, newline=False),
        urgency,
        flags,
    )


def _decode(part: bytes) -> bytes:
    """Standard base64, strictly, except that padding may be missing as a whole."""
    if part.isascii() and b"=" not in part:
        part += b"=" * (-len(part) % 4)
    return a2b_base64(part, strict_mode=True)


def _claims(header: bytes) -> dict[bytes, bytes]:
    """The header's key-value pairs (RFC 38), as they are. Raises ValueError if it is not pairs, or has one twice."""
    words = header.removesuffix(b"\0").split(b"\0")
    claims = dict(zip(words[::2], words[1::2], strict=True))
    if len(claims) * 2 != len(words):
        raise ValueError("a key of the header is there twice")
    return claims


@lru_cache(maxsize=64)
def _signer(head: bytes) -> int:
    """The userid in the first part of a J (without the dot). Raises ValueError."""
    claims = _claims(_decode(head))
    if set(claims) != {b"version", b"userid", b"mechanism"}:
        raise ValueError("the header must say version, userid and mechanism")
    if claims[b"version"] != b"i1":
        raise ValueError("the version must be 1")
    if claims[b"mechanism"] != b"snone":
        raise ValueError("the mechanism must be none")
    userid = _INTEGER.match(claims[b"userid"])
    if userid is None or not 0 <= int(userid[1]) <= _MAX_USERID:
        raise ValueError("the userid must be one")
    return int(userid[1])


def unwrap(signed: str | bytes) -> Unwrapped:
    """What a J holds: accepts and refuses what flux-core 0.88 does.

    Whether the signer is who sent the request, and may use mechanism `none`, is for the caller to judge; so is what
    the jobspec says. Raises ValueError, with the reason.
    """
    if isinstance(signed, str):
        signed = signed.encode("utf-8", "surrogateescape")
    head, *rest = signed.split(b".")
    if len(rest) != 2 or rest[1] != b"none":
        raise ValueError("a signed request has three parts, the last of which is none")
    try:
        return Unwrapped(_signer(head), _decode(rest[0]))
    except Base64Error as exc:
        raise ValueError(f"not base64: {exc}") from None


def jobspec_of(signed: str | bytes) -> bytes:
    """The bytes of the jobspec in a J, whoever signed it and however. Raises ValueError for what is no J."""
    if isinstance(signed, str):
        signed = signed.encode("utf-8", "surrogateescape")
    parts = signed.split(b".")
    if len(parts) != 3:
        raise ValueError("a signed request has three parts")
    try:
        return _decode(parts[1])
    except Base64Error as exc:
        raise ValueError(f"not base64: {exc}") from None
