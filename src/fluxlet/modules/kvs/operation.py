"""Transactions as the modules of a broker make them: typed, and the payload of kvs.commit at once (spec 05, 6.4).

The module kvs of the same broker takes the operations as they are (`leader.apply`); what they say is not checked again.
"""

from __future__ import annotations

import msgspec

APPEND = 32
SYNC = 4


class Value(msgspec.Struct):
    """A value as a tree object (RFC 11); `data` is base64 on the wire."""

    data: bytes
    ver: int = 1
    type: str = "val"


class Op(msgspec.Struct):
    """One operation of a transaction.

    Attributes:
        key: normalised.
        flags: 0 or APPEND.
        dirent: a value, or a tree object as canonical text; None: the key is unlinked.
    """

    key: str
    flags: int
    dirent: Value | msgspec.Raw | None


class Commit(msgspec.Struct):
    """Payload of kvs.commit."""

    ops: list[Op]
    namespace: str = "primary"
    flags: int = 0


_encode = msgspec.json.Encoder().encode


def payload(commit: Commit) -> bytes:
    """The payload as it goes on the wire."""
    return _encode(commit) + b"\0"
