"""What the job manager has the KVS store: one transaction at a time, for as many jobs as there is something of.

Rules:
- Events go to the KVS in the order in which they were posted; those of one job in one batch are one append.
- When nothing has been committed lately, a commit begins at the end of the loop's pass. Between one commit and the
  next there is a rest of REST times what the first took: a lone job waits for nobody, a thousand share a transaction.
- What nobody is looking at, and would be shown as soon as he did, waits for LAZY seconds after the last commit.
- Whoever has to wait until what was posted so far is stored asks with `after`; for him there is no rest.
- Where the instance's state is to outlive it, commits are durable: what has been answered survives a broker that is
  killed.
- A commit that fails is the end of the job manager: its memory and the KVS would contradict each other.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Protocol

from fluxlet.modules.job_manager.job import Job
from fluxlet.modules.kvs.operation import APPEND, SYNC, Commit, Op, Value

REST = 3.0
_LONGEST = 0.05
LAZY = 0.05

#: Of what `soon` has been asked: nothing, the lazy way, and as for something that is watched.
_NOT_ASKED, _ASKED, _WATCHED = range(3)


class Port(Protocol):
    """What a batch needs of the world."""

    def commit(self, commit: Commit) -> None:
        """Has the KVS make a commit; `Batch.ended` is to be called once it has."""

    def watched(self, key: str) -> bool:
        """Whether somebody waits for a key to change, or may look without our being told."""

    def soon(self, delay: float) -> None:
        """Has `Batch.flush` called in so many seconds; 0: when the loop has nothing more to read.

        Of several calls the one that means the earliest time counts.
        """


class Batch:
    """See the module."""

    def __init__(self, port: Port, durable: bool = False, clock: Callable[[], float] = monotonic) -> None:
        self.port = port
        self.durable = durable
        self.clock = clock
        self.under_way = False
        self._begun = 0.0
        self._rest_until = 0.0
        self._lazy_until = 0.0
        self._asked = _NOT_ASKED
        self.log: dict[str, list[bytes]] = {}
        self.ops: dict[str, Op] = {}
        self._then: list[Callable[[], None]] = []
        self._current: list[Callable[[], None]] = []

    def append(self, job: Job, entry: bytes) -> None:
        """Appends an event to a job's eventlog."""
        lines = self.log.get(job.path)
        if lines is not None:
            lines.append(entry)
            return
        self.log[job.path] = [entry]
        self._ask(job.path + ".eventlog")

    def add(self, key: str, value: bytes | None) -> None:
        """Stores a value, or unlinks a key (None), before the events of the same batch are appended."""
        self.put(Op(key, 0, None if value is None else Value(value)))

    def put(self, op: Op) -> None:
        """As `add`, with any operation. What was to be done with the same key is not done any more."""
        self.ops.pop(op.key, None)
        self.ops[op.key] = op
        self._ask(op.key)

    def take_back(self, key: str) -> bool:
        """Has nothing done with a key; False if there is nothing to be done with it, or not any more."""
        return self.ops.pop(key, None) is not None

    def forget(self, path: str) -> None:
        """Takes back the events of a job, by its directory, that are not being committed yet."""
        self.log.pop(path, None)

    def after(self, then: Callable[[], None]) -> None:
        """Calls `then` once what is in the batch now is stored; at once, if all is."""
        if self.log or self.ops:
            self._then.append(then)
            if not self.under_way:
                self.port.soon(0.0)
        elif self.under_way:
            self._current.append(then)
        else:
            then()

    def _ask(self, key: str) -> None:
        if self.under_way or self._asked == _WATCHED:
            return
        if self.port.watched(key):
            self._asked = _WATCHED
            self.port.soon(max(self._rest_until - self.clock(), 0.0))
        elif not self._asked:
            self._asked = _ASKED
            self.port.soon(max(self._lazy_until - self.clock(), 0.0))

    @property
    def empty(self) -> bool:
        """True if all is stored."""
        return not (self.under_way or self.log or self.ops)

    def take(self) -> Commit | None:
        """The transaction to commit, None for none. The batch is empty then."""
        self._asked = _NOT_ASKED
        if not self.log and not self.ops:
            return None
        ops = list(self.ops.values())
        for path, lines in self.log.items():
            lines.append(b"")  # each line ends in a line feed
            ops.append(Op(path + ".eventlog", APPEND, Value(b"\n".join(lines))))
        self.ops = {}
        self.log = {}
        return Commit(ops, flags=SYNC if self.durable else 0)

    def flush(self) -> None:
        """Commits, unless that goes on or there is nothing to."""
        if self.under_way:
            return
        commit = self.take()
        if commit is None:
            then, self._then = self._then, []
            for call in then:
                call()
            return
        self._current, self._then = self._then, []
        self.under_way = True
        self._begun = self.clock()
        self.port.commit(commit)

    def ended(self) -> None:
        """The commit has succeeded: whoever waited for it is called, then the next one begins."""
        self.under_way = False
        now = self.clock()
        self._rest_until = now + min((now - self._begun) * REST, _LONGEST)
        self._lazy_until = now + LAZY
        current, self._current = self._current, []
        for call in current:
            call()
        if self._then:
            self.port.soon(0.0)
        else:
            for key in self.ops:
                self._ask(key)
            for path in self.log:
                self._ask(path + ".eventlog")
