"""Space: what one broker knows of a namespace (spec 05, sections 7 and 8). Pure."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from flux.message import Message

PRIMARY = "primary"

#: Called with the blobref of the root that a commit has led to, or with why it has not been made.
Then: TypeAlias = Callable[[bytes, OSError | None], None]


class Commit:
    """A transaction that somebody has asked for.

    Args:
        name: by which the ranks know it.
        flags: FLUX_KVS_*.
        operations: decoded JSON, or `operation.Op`s.
        request: to answer; None: it is that of another rank, which hears by an event, or of a module here.
        then: of a module here: called with the root's blobref, or what has gone wrong.
    """

    __slots__ = ("alone", "flags", "name", "operations", "request", "then")

    def __init__(
        self, name: str, flags: int, operations: list[Any], request: Message | None, then: Then | None = None
    ) -> None:
        self.name = name
        self.then = then
        self.flags = flags
        self.operations = operations
        self.request = request
        self.alone = False  # it is not to be merged with others (any more)


class Space:
    """A namespace.

    Attributes:
        root: blobref of the root directory.
        seq: of the root.
        queue: commits that wait; on rank 0.
        busy: a commit is being worked on; on rank 0.
        removed: it is gone; who still refers to it is told so.
        ahead: somebody keeps changes back for a moment, to make them together: has them made before anybody looks.
            It returns False if they are not made yet; then they are being made by a call of the module kvs.
        behind: those who wait for that.
    """

    __slots__ = (
        "_waiting",
        "ahead",
        "behind",
        "busy",
        "empty_commits",
        "flags",
        "held",
        "name",
        "owner",
        "queue",
        "removed",
        "root",
        "seq",
        "used",
    )

    def __init__(self, name: str, owner: int, root: bytes, seq: int = 0, flags: int = 0) -> None:
        self.name = name
        self.owner = owner
        self.root = root
        self.seq = seq
        self.flags = flags
        self.queue: deque[Commit] = deque()
        self.busy = False
        self.removed = False
        self.ahead: Callable[[], bool] | None = None
        self.behind: list[Callable[[], None]] = []
        self.used = 0.0
        self.empty_commits = 0
        #: Roots that are kept back while setroot is paused; None: it is not.
        self.held: list[Any] | None = None
        self._waiting: list[tuple[int, int, Message]] = []

    def keep_nothing(self) -> None:
        """Nothing is kept back any more: who has waited for that looks at what there is."""
        self.ahead = None
        self.look_again()

    def look_again(self) -> None:
        """Those who wait look again."""
        behind, self.behind = self.behind, []
        for again in behind:
            again()

    @property
    def waiting(self) -> int:
        """How many wait for a version."""
        return len(self._waiting)

    def wait(self, seq: int, request: Message) -> None:
        """`request` is to be answered when the root has got to `seq`."""
        heapq.heappush(self._waiting, (seq, id(request), request))

    def arrived(self) -> list[Message]:
        """Those who have waited for the root that there is now."""
        waiting = self._waiting
        found = []
        while waiting and waiting[0][0] <= self.seq:
            found.append(heapq.heappop(waiting)[2])
        return found

    def take_waiting(self) -> list[Message]:
        """All who wait; they do no longer."""
        found = [request for _, _, request in self._waiting]
        self._waiting.clear()
        return found

    def forget_waiting(self, ends: Callable[[Message], bool]) -> None:
        """Those for whom `ends` is true wait no longer; they are not told."""
        self._waiting = [entry for entry in self._waiting if not ends(entry[2])]
        heapq.heapify(self._waiting)
