"""Output of a follower on its way to the leader, within the credits that the leader gives (spec 07, 5.6)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from fluxlet.shell import events

if TYPE_CHECKING:
    from flux.core.future_state import RpcState
    from fluxlet.shell.connection import Connection

#: A message costs one credit for each of these bytes it has, and one at least.
_CREDIT = 4096
#: What may wait here before whoever writes is to pause.
HIGH = 64 << 10


class RemoteOutput:
    """Writes to the leader's service.

    Args:
        service, nodeid: the leader's.
        rank: of this shell.
        low, high: credits are asked for, `high` of them, when no more than `low` are left.
        drained: called when there is room again.
    """

    def __init__(
        self,
        connection: Connection,
        service: str,
        nodeid: int,
        rank: int,
        low: int,
        high: int,
        drained: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._write = f"{service}.write".encode()
        self._getcredit = f"{service}.write-getcredit".encode()
        self._nodeid = nodeid
        self._rank = rank
        self._low = low
        self._high = high
        self._drained = drained
        self._credits = 0
        self._asked = False
        self._queue: deque[tuple[str, str]] = deque()
        self.size = 0

    @property
    def full(self) -> bool:
        """True if whoever writes is to pause."""
        return self.size >= HIGH

    @property
    def idle(self) -> bool:
        """True if all is sent."""
        return not self._queue

    def write(self, name: str, context: str) -> None:
        """Sends an entry, `data` or `log`, when there is credit."""
        self._queue.append((name, context))
        self.size += len(context)
        self._send()

    def _send(self) -> None:
        while self._queue and self._credits > 0:
            name, context = self._queue.popleft()
            self.size -= len(context)
            self._credits -= max(1, len(context) // _CREDIT)
            raw = f'{{"name":"{name}","shell_rank":{self._rank},"context":{context}}}\0'
            self._connection.tell(self._write, raw.encode("utf-8", "surrogateescape"), self._nodeid)
        if self._credits <= self._low and not self._asked:
            self._asked = True
            request = events.payload({"credits": self._high})
            self._connection.ask(self._getcredit, request, self._granted, self._nodeid)

    def _granted(self, state: RpcState) -> None:
        self._asked = False
        if state.errnum:
            # There is no leader any more; that is dealt with by job-exec. Nobody will read what is left.
            self._queue.clear()
            self.size = 0
            self._credits = 1 << 30
        else:
            self._credits += self._high
        self._send()
        self._drained()
