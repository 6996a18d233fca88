"""Main eventlogs of jobs, followed where they are committed, if that is in this broker (`fluxlet.modules.kvs.taps`).

    the value as it is in memory -> pieces; each append -> pieces

Whatever is not as it nearly always is - the log not there yet, or not in memory, another rank - is followed by way of
kvs-watch as every other key. Clients never notice the difference.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from fluxlet.modules.job_info.pieces import Blob, Pieces
from fluxlet.modules.job_info.reading import Outcome

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker
    from fluxlet.modules.kvs.leader import Leader

#: Blobs that a log is read from at once.
_FEW = 64


class Tap:
    """A log that is being followed.

    Args:
        leader: the KVS.
        key: of the log.
        pieces: what is heard goes there.
    """

    def __init__(self, leader: Leader, key: str, pieces: Pieces) -> None:
        self._taps = leader.taps
        self._key = key
        self._pieces = pieces
        self._taps.add(key, self._told)

    def close(self) -> None:
        """It is followed no more."""
        self._taps.remove(self._key, self._told)

    def _told(self, what: bytes | OSError) -> None:
        if isinstance(what, OSError):
            self._pieces.add(Outcome(b"", what.errno or errno.EIO, what.strerror))
        else:
            self._pieces.add(Blob(b"", what))


def follow(broker: Broker, key: str, pieces: Pieces) -> tuple[Tap, bytes] | None:
    """Begins to follow a log: what is there of it by now is for the caller to add. None: it cannot be done here."""
    if broker.rank:
        return None
    from fluxlet.modules.kvs.leader import leader_of

    leader = leader_of(broker)
    value = None if leader is None else leader.peek(key, _FEW, settled=True)
    return None if leader is None or value is None else (Tap(leader, key, pieces), value)
