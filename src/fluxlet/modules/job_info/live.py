"""Main eventlogs of jobs, followed where they are committed, if that is in this broker (`fluxlet.modules.kvs.taps`).

    the value as it is in memory -> pieces; each append -> pieces

Whatever is not as it nearly always is - the log not there yet, or not in memory, another rank - is followed by way of
kvs-watch as every other key. Clients never notice the difference.
"""

from __future__ import annotations

import errno
from binascii import a2b_base64, unhexlify
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
    leader = _leader(broker)
    if leader is None:
        return None
    value = _value(leader, broker, key)
    return None if value is None else (Tap(leader, key, pieces), value)


def _leader(broker: Broker) -> Leader | None:
    """The module `kvs` of this broker, if commits are made there and it may be called."""
    if broker.rank:
        return None
    from fluxlet.broker.host import Module
    from fluxlet.modules.kvs.leader import Leader

    module = broker.modules.get("kvs")
    if isinstance(module, Module) and module.may_be_called and isinstance(module.instance, Leader):
        return module.instance
    return None


def _value(leader: Leader, broker: Broker, key: str) -> bytes | None:
    """The value of a key, if all that it takes is in memory."""
    from fluxlet.modules.kvs import treeobj
    from fluxlet.modules.kvs.lookup import Value, walk
    from fluxlet.modules.kvs.near import near_content
    from fluxlet.modules.kvs.space import PRIMARY

    space = leader.spaces.get(PRIMARY)
    content = near_content(broker)
    if space is None or content is None:
        return None
    try:
        next(walk(space.root, key, 0, leader.directories))
    except StopIteration as stop:
        found = stop.value
    except OSError:
        return None
    else:
        return None
    if not isinstance(found, Value):
        return a2b_base64(treeobj.data_of(found)) if found.endswith(treeobj.VAL_TAIL) else None
    if len(found.refs) > _FEW:
        return None
    start = len(leader.prefix)
    blobs: list[bytes] = []
    for ref in found.refs:
        blob = content.blob(unhexlify(ref[start:]))
        if blob is None:
            return None
        blobs.append(blob)
    return b"".join(blobs)
