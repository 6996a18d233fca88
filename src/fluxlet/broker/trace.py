"""What `module.trace` tells of a message (spec 03, 13.4). Pure."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from flux.constants import FLUX_MSGTYPE_RESPONSE
from flux.core.dispatch import glob_matcher
from flux.message import Message
from fluxlet.payload import UNREADABLE

_decode = msgspec.json.Decoder().decode


class TraceRequest(msgspec.Struct):
    """Payload of module.trace.

    Args:
        names: of modules; none: all.
        typemask: FLUX_MSGTYPE_* bits.
        topic_glob: a shell pattern.
        full: with payloads.
    """

    names: list[str]
    typemask: int
    topic_glob: str
    full: bool = False


class Trace:
    """One client's trace.

    Args:
        request: the streaming request that it answers.
        wanted: its payload.
    """

    def __init__(self, request: Message, wanted: TraceRequest) -> None:
        self.request = request
        self.names = frozenset(wanted.names)
        self.full = wanted.full
        self._typemask = wanted.typemask
        self._matches = glob_matcher(wanted.topic_glob.encode("utf-8", "surrogateescape"))

    def concerns(self, name: str) -> bool:
        """True if it is to show messages of the module `name`."""
        return not self.names or name in self.names

    def entry(self, prefix: str, name: str, message: Message) -> dict[str, Any] | None:
        """What to tell of a message; None if it is not wanted.

        Args:
            prefix: "rx" or "tx".
            name: of the module that gets or sends it.
        """
        topic = message.topic_bytes or b""
        if not message._type & self._typemask or not self._matches(topic):
            return None
        raw = message.raw
        errnum = message.aux1 if message._type == FLUX_MSGTYPE_RESPONSE else 0
        payload, text = None, ""
        if errnum:
            text = (message.payload_str or "") if raw and raw.endswith(b"\0") else ""
        elif self.full and raw is not None:
            payload = _json(raw)
        return {
            "timestamp": time.time(),
            "prefix": prefix,
            "rank": -1,  # of the overlay peer, in traces of the overlay
            "name": name,
            "type": message._type,
            "topic": topic.decode("utf-8", "replace"),
            "payload_size": len(raw or b""),
            "payload": payload,
            "errnum": errnum,
            "errstr": text,
        }


def _json(raw: bytes) -> Any:
    """A payload as JSON; None if it is something else."""
    try:
        return _decode(raw.rstrip(b"\0"))
    except UNREADABLE:
        return None
