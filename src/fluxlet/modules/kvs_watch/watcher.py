"""Watcher: what one kvs-watch.lookup request is answered, as a pure object: lookups in, answers out.

A watcher gets the outcomes of lookups of its key: first one in the current root, then one for each commit that
concerns it, and says what its client is to be sent for each (spec 05, 9.3). It asks nobody and sends nothing.

Rules:
- Lookups are announced when they are sent and may end in any order; their outcomes count in the order of the commits.
- An outcome that is not newer than the one before counts for nothing: the first lookup may already have seen it.
- After an `End` nothing follows.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from flux.constants import (
    FLUX_KVS_READDIR,
    FLUX_KVS_READLINK,
    FLUX_KVS_STREAM,
    FLUX_KVS_TREEOBJ,
    FLUX_KVS_WAITCREATE,
    FLUX_KVS_WATCH,
    FLUX_KVS_WATCH_APPEND,
    FLUX_KVS_WATCH_FULL,
    FLUX_KVS_WATCH_INITIAL_SENTINEL,
    FLUX_KVS_WATCH_UNIQ,
    FLUX_MSGFLAG_STREAMING,
)

if TYPE_CHECKING:
    from flux.message import Message

_LOOKUP_FLAGS = FLUX_KVS_READDIR | FLUX_KVS_READLINK | FLUX_KVS_TREEOBJ
_LASTING = FLUX_KVS_WATCH | FLUX_KVS_WAITCREATE
_BY_BLOBS = FLUX_KVS_WATCH_APPEND | FLUX_KVS_STREAM
_REFINEMENTS = FLUX_KVS_WATCH_FULL | FLUX_KVS_WATCH_UNIQ | FLUX_KVS_WATCH_APPEND | FLUX_KVS_WATCH_INITIAL_SENTINEL

_TOO_NEW = 1 << 62  # later than all commits


class Value(msgspec.Struct, frozen=True):
    """Answer: a tree object, as JSON text."""

    treeobj: bytes


class Blob(msgspec.Struct, frozen=True):
    """Answer: the contents of a blob, as a value."""

    blobref: str


class Sentinel(msgspec.Struct, frozen=True):
    """Answer: without payload, the initial data is complete."""


class End(msgspec.Struct, frozen=True):
    """The last answer: an error. `text` None: the error's own."""

    errnum: int
    text: str | None = None


class Done(msgspec.Struct, frozen=True):
    """Nothing follows the answers given so far."""


Answer: TypeAlias = Value | Blob | Sentinel | End | Done


class Outcome(msgspec.Struct, frozen=True):
    """What a lookup has found.

    Args:
        rootseq: the version of the root that it was made in; -1: it did not get to one.
        treeobj: what it has found, as JSON text; None: an error.
        errnum, text: the error.
    """

    rootseq: int
    treeobj: bytes | None = None
    errnum: int = 0
    text: str | None = None


class Ticket:
    """A lookup that is under way."""

    __slots__ = ("first", "outcome")

    def __init__(self, first: bool) -> None:
        self.first = first
        self.outcome: Outcome | None = None


class _TreeObject(msgspec.Struct):
    """As much of a tree object as counts for appending."""

    type: str
    data: msgspec.Raw


_treeobj = msgspec.json.Decoder(_TreeObject).decode
_blobrefs = msgspec.json.Decoder(list[str]).decode


def check_flags(flags: int, message_flags: int) -> None:
    """Raises OSError for flags of a kvs-watch.lookup that do not go together (spec 05, 9.2)."""
    streaming = message_flags & FLUX_MSGFLAG_STREAMING
    if flags & FLUX_KVS_WATCH and not streaming:
        raise OSError(errno.EPROTO, "KVS watch request rejected without streaming RPC flag")
    if flags & FLUX_KVS_STREAM and not streaming:
        raise OSError(errno.EPROTO, "KVS stream request rejected without streaming RPC flag")
    if flags & FLUX_KVS_WATCH and flags & FLUX_KVS_STREAM:
        raise OSError(errno.EINVAL, "Cannot KVS watch and stream at the same time")
    if flags & _REFINEMENTS and not flags & FLUX_KVS_WATCH:
        raise OSError(errno.EINVAL, "Must set KVS watch flag with other watch flags")
    if flags & FLUX_KVS_WATCH_INITIAL_SENTINEL and not flags & FLUX_KVS_WATCH_APPEND:
        raise OSError(errno.EINVAL, "Must set KVS watch append flag with initial sentinel flag")


class Watcher:
    """One lookup that goes on.

    Args:
        request: that is to be answered; what is in it is none of this class's business.
        namespace: where the key is.
        key: normalised.
        flags: FLUX_KVS_*, checked.
    """

    def __init__(self, request: Message, namespace: str, key: str, flags: int) -> None:
        self.request = request
        self.namespace = namespace
        self.key = key
        self.flags = flags
        self.lookup_flags = FLUX_KVS_TREEOBJ if flags & _BY_BLOBS else flags & _LOOKUP_FLAGS
        self.ended = False
        self.no_namespace = False  # it waits for its namespace to be created
        self.created = False  # that has happened since the first lookup was sent
        self._tickets: deque[Ticket] = deque()
        self._rootseq = -1  # of the last outcome that counted
        self._waiting = bool(flags & FLUX_KVS_WAITCREATE)  # and there was nothing yet
        self._sentinel = bool(flags & FLUX_KVS_WATCH_INITIAL_SENTINEL)
        self._last: bytes | None = None
        self._blobs = 0  # that have been sent

    @property
    def lasting(self) -> bool:
        """Whether more than the first lookup may be needed."""
        return bool(self.flags & _LASTING)

    @property
    def looks_always(self) -> bool:
        """Whether every commit of the namespace concerns it, and not only those of its key."""
        return bool(self.flags & FLUX_KVS_WATCH_FULL)

    def announce(self, first: bool = False) -> Ticket:
        """A lookup is being sent; its outcome goes to `settle`."""
        ticket = Ticket(first)
        self._tickets.append(ticket)
        return ticket

    def settle(self, ticket: Ticket, outcome: Outcome) -> list[Answer]:
        """A lookup has ended: what is to be sent now."""
        ticket.outcome = outcome
        answers: list[Answer] = []
        while self._tickets and self._tickets[0].outcome is not None and not self.ended:
            first = self._tickets[0]
            outcome = self._tickets.popleft().outcome or outcome
            if first.first or outcome.rootseq > self._rootseq:
                self._rootseq = max(self._rootseq, outcome.rootseq)
                answers += self._take(outcome, first.first)
        if answers and isinstance(answers[-1], End | Done):
            self.ended = True
        return answers

    def removed(self) -> list[Answer]:
        """The namespace is gone: what is to be sent now, after what is under way."""
        return self.settle(self.announce(), Outcome(_TOO_NEW, errnum=errno.EOPNOTSUPP))

    def _take(self, outcome: Outcome, first: bool) -> list[Answer]:
        if outcome.treeobj is None:
            return self._failed(outcome, first)
        if self.flags & _BY_BLOBS:
            answers = self._by_blobs(outcome.treeobj)
        elif self._repeats(outcome.treeobj):
            answers = []
        else:
            answers = [Value(outcome.treeobj)]
        self._last = outcome.treeobj
        self._waiting = False
        if answers and isinstance(answers[-1], End):
            return answers
        if self._sentinel:
            self._sentinel = False
            answers.append(Sentinel())
        if self.flags & FLUX_KVS_STREAM:
            answers.append(End(errno.ENODATA))
        elif not self.flags & FLUX_KVS_WATCH:
            answers.append(Done())
        return answers

    def _failed(self, outcome: Outcome, first: bool) -> list[Answer]:
        if self._waiting and outcome.errnum == errno.ENOENT:
            pass
        elif self._waiting and first and outcome.errnum == errno.EOPNOTSUPP:
            self.no_namespace = True
        else:
            return [End(outcome.errnum, outcome.text)]
        if self._sentinel:
            self._sentinel = False
            return [Sentinel()]
        return []

    def _repeats(self, treeobj: bytes) -> bool:
        """True if the client is not to be sent what it has."""
        if self._last is None or not self.flags & (FLUX_KVS_WATCH_UNIQ | FLUX_KVS_WATCH_FULL):
            return False
        # The same value may come in another order of members.
        return treeobj == self._last or bool(msgspec.json.decode(treeobj) == msgspec.json.decode(self._last))

    def _by_blobs(self, text: bytes) -> list[Answer]:
        """The blobs of a value that have not been sent."""
        treeobj = _treeobj(text)
        sent = self._blobs
        if treeobj.type == "val":
            if sent and self.looks_always and text == self._last:
                return []  # some other key was committed
            if sent:
                return [End(errno.EINVAL, "value of key watched with WATCH_APPEND overwritten")]
            self._blobs = 1
            return [Value(text)]
        if treeobj.type == "valref":
            refs = _blobrefs(treeobj.data)
            if len(refs) < sent:
                return [End(errno.EINVAL, "key watched with WATCH_APPEND shortened")]
            self._blobs = len(refs)
            return [Blob(ref) for ref in refs[sent:]]
        what = "streamed" if self.flags & FLUX_KVS_STREAM else "watched with WATCH_APPEND"
        kind = "symlink" if treeobj.type == "symlink" else "dirref"
        return [End(errno.EINVAL if kind == "symlink" else errno.EISDIR, f"{kind} cannot be {what}")]
