"""Disconnect notices: the services that somebody has used hear of its end (spec 01, 3.7).

Pure. Whoever sends requests, a client or a module, has `Notices`: the first request of each kind, kept to be sent
again as a notice. What a kind is: the topic without its last word, the rank, and whether it went upstream.
"""

from __future__ import annotations

from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
    FLUX_MSGFLAG_PAYLOAD,
    FLUX_MSGFLAG_ROUTE,
    FLUX_MSGFLAG_STREAMING,
    FLUX_MSGFLAG_UPSTREAM,
)
from flux.message import Message

#: Longest topic of a notice, in bytes.
_MAX_TOPIC = 255

#: So many topics of one sender are known to need no further notice.
_KNOWN_TOPICS = 1024
_FLAGS = ~(FLUX_MSGFLAG_PAYLOAD | FLUX_MSGFLAG_STREAMING)


def notice_topic(topic: bytes) -> bytes:
    """The topic of the disconnect notice for users of `topic`: its last word replaced."""
    service, dot, _ = topic.rpartition(b".")
    return service + dot + b"disconnect"


class Notices:
    """The notices that one sender's end will cause."""

    def __init__(self) -> None:
        self.first: dict[tuple[bytes, int, int], Message] = {}
        #: Topics, with the rank, whose notice is kept already; for a quick look before `keep`.
        self.known: set[tuple[bytes | None, int]] = set()

    def keep(self, message: Message, topic: bytes) -> bool:
        """Takes note of a request that is sent on; False if its topic is too long for a notice."""
        if message.flags & FLUX_MSGFLAG_NORESPONSE:
            return True
        name = notice_topic(topic)
        if len(name) > _MAX_TOPIC:
            return False
        upstream = message.flags & FLUX_MSGFLAG_UPSTREAM
        key = (name, message.aux1, upstream)
        if key not in self.first:
            notice = message.copy(payload=False)
            notice.flags = message.flags & _FLAGS | FLUX_MSGFLAG_NORESPONSE | FLUX_MSGFLAG_ROUTE
            notice.topic_bytes = name
            self.first[key] = notice
        if not upstream:
            if len(self.known) >= _KNOWN_TOPICS:
                self.known.clear()
            self.known.add((topic, message.aux1))
        return True

    def take(self) -> list[Message]:
        """The notices, to be sent; none are left."""
        notices = list(self.first.values())
        self.first.clear()
        return notices
