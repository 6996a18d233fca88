"""Eventlogs in a job's namespace, as the shell appends to them: batched, one commit of a log at a time (spec 07, 5.6).

Rules:
- What comes while a commit is on its way goes with the next one: one large commit costs hardly more than a small one.
- All logs together have at most `IN_FLIGHT` bytes on their way, so that a flood does not pile up in the broker.
- Data of one stream that follow each other become one event.
- Who adds looks at `full`, and stops reading what it adds from: nothing is dropped here, and nothing grows.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections import deque
from collections.abc import Callable
from time import time
from typing import TYPE_CHECKING

from fluxlet.shell import events
from fluxlet.shell.later import Later

if TYPE_CHECKING:
    from flux.core.future_state import RpcState
    from flux.reactor import Reactor, Timer
    from fluxlet.shell.connection import Connection

#: What may wait in one log before whoever adds to it is to pause.
HIGH = 768 << 10
#: What may be on its way to the KVS, of all logs.
IN_FLIGHT = 384 << 10
#: What is collected while there is more to come: the more a log has, the more, up to the second of these. Each commit
#: writes the list of all pieces of the log anew.
_SMALL, _LARGE = 64 << 10, 384 << 10
_SHARE = 9
#: Data that follow each other are put together up to this size.
_PIECE = 64 << 10
#: How long what comes first waits for more, in seconds.
_DELAY = 0.01


class Committer:
    """The commits of all logs of this process.

    Args:
        failed: called with the text for the broker's log.
    """

    def __init__(self, connection: Connection, reactor: Reactor, failed: Callable[[str], None]) -> None:
        self.connection = connection
        self.failed = failed
        self.in_flight = 0
        self._due: Later[GuestLog] = Later(reactor, _DELAY, self._now)
        self._waiting: deque[GuestLog] = deque()

    def soon(self, log: GuestLog) -> None:
        """`log` has something to commit."""
        self._due.add(log)

    def forget(self, log: GuestLog) -> None:
        """What was in `log` has been taken."""
        log.due = False
        self._due.discard(log)

    @staticmethod
    def _now(log: GuestLog) -> None:
        log.due = False
        log.commit()

    def commit(self, log: GuestLog) -> None:
        """Commits what is in `log`, or does so when there is room."""
        if self.in_flight >= IN_FLIGHT:
            self._waiting.append(log)
            return
        data = log.take().encode("utf-8", "surrogateescape")
        size = len(data)
        if not size:
            log.committed()
            return
        self.in_flight += size
        raw = b'{"namespace":"%b","flags":0,"ops":[{"key":"%b","flags":32,"dirent":%b}]}\0'

        def answered(state: RpcState) -> None:
            self.in_flight -= size
            if state.errnum:
                self.failed(f"{log.namespace}: commit of {log.key}: {state.error_text()}")
            log.committed()
            while self._waiting and self.in_flight < IN_FLIGHT:
                self.commit(self._waiting.popleft())

        dirent = b'{"ver":1,"type":"val","data":"%b"}' % b2a_base64(data, newline=False)
        self.connection.ask(b"kvs.commit", raw % (log.namespace.encode(), log.key.encode(), dirent), answered)


class GuestLog:
    """One eventlog.

    Args:
        committer: of this process.
        namespace, key: where it is.
        delay: seconds that entries wait for more; None: as little as is good for all.
        drained: called when a commit has been answered.
    """

    size = 0
    written = 0
    due = False
    busy = False
    _stream = ""
    _rank = ""
    _since = 0.0
    _piece = 0
    _timer: Timer | None = None

    def __init__(
        self,
        committer: Committer,
        namespace: str,
        key: str,
        delay: float | None = None,
        drained: Callable[[], None] = lambda: None,
    ) -> None:
        self.committer = committer
        self.namespace = namespace
        self.key = key
        self.delay = delay
        self.drained = drained
        self._entries: list[str] = []
        self._pieces: list[bytes] = []

    @property
    def full(self) -> bool:
        """True if whoever adds is to pause."""
        return self.size >= HIGH

    @property
    def target(self) -> int:
        """How much is worth a commit of its own, while more comes."""
        return min(_LARGE, max(_SMALL, self.written >> _SHARE))

    @property
    def idle(self) -> bool:
        """True if all is committed."""
        return not self.busy and not self.size

    def data(self, stream: str, rank: str, data: bytes) -> None:
        """Adds output."""
        if self._piece and (self._stream != stream or self._rank != rank or self._piece >= _PIECE):
            self._close_piece()
        if not self._piece:
            self._stream, self._rank, self._since = stream, rank, time()
        self._pieces.append(data)
        self._piece += len(data)
        self._added(len(data))

    def begin(self, text: str) -> None:
        """Puts a line in front of all others; nothing has been committed yet. It waits for more, or for `touch`."""
        self._entries.insert(0, text)
        self.size += len(text)

    def touch(self) -> None:
        """What is there is worth a commit, though it may be only the beginning."""
        if self.size:
            self._added(0)

    def add(self, name: str, context: str) -> None:
        """Adds an entry; `context` is JSON text."""
        if self._piece:
            self._close_piece()
        line = events.entry(time(), name, context)
        self._entries.append(line)
        self._added(len(line))

    def urgent(self) -> None:
        """What is there is committed without delay."""
        if self.size and not self.busy:
            self.commit()

    def take(self) -> str:
        """All that has been added, as text; it is not here any more."""
        if self._piece:
            self._close_piece()
        text = "".join(self._entries)
        self._entries.clear()
        self.written += self.size
        self.size = 0
        if self._timer is not None:
            self._timer.stop()
        if self.due:
            self.committer.forget(self)
        return text

    def commit(self) -> None:
        """Commits what there is, or what there will be when the present commit has been answered."""
        if self.size and not self.busy:
            self.busy = True
            self.committer.commit(self)

    def committed(self) -> None:
        """The commit has been answered."""
        self.busy = False
        if self.size >= self.target:
            self.commit()
        elif self.size and not self.due:
            self.due = True
            self.committer.soon(self)
        self.drained()

    def _added(self, size: int) -> None:
        self.size += size
        if self.busy or self.due:
            return
        if self.delay is None:
            self.due = True
            self.committer.soon(self)
        elif self._timer is None:
            self._timer = self.committer.connection.reactor.timer(self.delay, 0.0, self.commit)
            self._timer.start()
        elif not self._timer.active:
            self._timer.start()
        if self.size >= self.target:
            self.commit()

    def _close_piece(self) -> None:
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._piece = 0
        self._entries.append(events.entry(self._since, "data", events.data_context(self._stream, self._rank, data)))
