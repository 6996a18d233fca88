"""Taps: what is appended to keys of the primary namespace, for modules of this broker, as it is committed.

What others learn by an event, a lookup and a load of each blob (`kvs-watch`) is at hand when a commit is made: its
operations say what is appended to which key. That counts for the eventlogs of jobs, which get ten events each.

Rules:
- What is told was committed: it is in the current root, and on disk where that was asked for. It is told before the
  commit is answered, in the order of the operations.
- A tap is for a key that is there, and whose value is only ever appended to. What else is done to it is its end, with
  the error that a watch with APPEND would end with.
"""

from __future__ import annotations

import errno
from binascii import Error as Base64Error
from binascii import a2b_base64
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from flux.constants import FLUX_KVS_APPEND
from fluxlet.modules.kvs.keys import normalize
from fluxlet.modules.kvs.operation import Op, Value
from fluxlet.modules.kvs.space import Commit

#: Called with what was appended, or with why nothing more will be told.
Told: TypeAlias = Callable[[bytes | OSError], None]


class Taps:
    """See the module."""

    def __init__(self) -> None:
        self._by_key: dict[str, list[Told]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_key)

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def add(self, key: str, told: Told) -> None:
        """Has `told` called for a key, which is normalised."""
        self._by_key.setdefault(key, []).append(told)

    def remove(self, key: str, told: Told) -> None:
        """Undoes `add`; absent is fine."""
        taps = self._by_key.get(key, [])
        if told in taps:
            taps.remove(told)
            if not taps:
                del self._by_key[key]

    def committed(self, commits: Iterable[Commit]) -> None:
        """Commits to the primary namespace have been made."""
        by_key = self._by_key
        for commit in commits:
            for operation in commit.operations:
                key = operation.key if operation.__class__ is Op else normalize(operation["key"])
                if key in by_key:
                    self._tell(key, _appended(operation))

    def end(self, error: OSError) -> None:
        """Nothing more is committed."""
        for key in list(self._by_key):
            self._tell(key, error)

    def _tell(self, key: str, what: bytes | OSError) -> None:
        taps = self._by_key[key]
        for told in list(taps):
            told(what)
        if isinstance(what, OSError):
            self._by_key.pop(key, None)


def _appended(operation: dict[str, Any] | Op) -> bytes | OSError:
    """What an operation, which has been applied, appends."""
    if isinstance(operation, Op):
        if isinstance(operation.dirent, Value) and operation.flags & FLUX_KVS_APPEND:
            return operation.dirent.data
        operation = {"flags": 0, "dirent": operation.dirent}
    dirent = operation["dirent"]
    if dirent is None:
        return OSError(errno.ENOENT, None)
    if not operation["flags"] & FLUX_KVS_APPEND:
        return OSError(errno.EINVAL, "value of key watched with WATCH_APPEND overwritten")
    try:
        return a2b_base64(dirent["data"])
    except Base64Error as exc:
        return OSError(errno.EPROTO, str(exc))
