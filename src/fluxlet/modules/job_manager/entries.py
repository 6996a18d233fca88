"""Entries of a job's eventlog as bytes, made once for the KVS, the journal and all watchers (RFC 18; spec 06, 5.2)."""

from __future__ import annotations

from time import time
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def entry(name: str, context: Any = None, timestamp: float | None = None) -> bytes:
    """One entry, without the line feed that ends it in the log.

    Args:
        name: of the event.
        context: an object, or None for none.
        timestamp: seconds since the epoch; None: now.
    """
    when = time() if timestamp is None else timestamp
    if context is None:
        return b'{"timestamp":%b,"name":"%b"}' % (repr(when).encode(), name.encode())
    return b'{"timestamp":%b,"name":"%b","context":%b}' % (repr(when).encode(), name.encode(), _encode(context))


class Entry(msgspec.Struct):
    """An entry read back."""

    timestamp: float
    name: str
    context: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(Entry).decode


def parse(line: bytes) -> Entry:
    """Reads an entry. Raises msgspec.MsgspecError for anything else."""
    return _decode(line)
