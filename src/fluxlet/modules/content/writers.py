"""Who takes the dirty blobs of a cache: on rank 0 the backing store, later; elsewhere the parent, at once.

Rules:

- WriteBack: blobs are collected for a moment and sent in batches. The loop is not kept longer than `_SLICE` at a time;
  what is left waits for its next pass, when clients have had their turn.
- A batch that fails is tried again one by one, so that a blob that nobody can store does not keep the others. One that
  fails alone ends that: everything stays in memory, whoever waits is told, and the next heartbeat tries again.
- WriteThrough: a blob is sent once, however many wait for it, and forgotten if it is refused.
- `wait` is for what is dirty now, not for what comes later: there may always be more.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from functools import partial
from syslog import LOG_ERR, LOG_INFO
from time import monotonic
from typing import TYPE_CHECKING

from flux.constants import FLUX_NODEID_UPSTREAM
from flux.message import Message
from fluxlet.modules.content import batch

if TYPE_CHECKING:
    from flux.core.future_state import RpcState
    from fluxlet.modules.content.cache import Cache
    from fluxlet.service import Service

#: Called with (errno, text) of what has become of a flush: (0, None) if all is well.
Outcome = Callable[[int, str | None], None]

#: Seconds for which blobs are collected.
_DELAY = 0.1
#: Seconds for which sending batches keeps the loop at most, but for the last one.
_SLICE = 0.004
#: Bytes in a batch, unless it is one blob.
_BATCH_BYTES = 1 << 19
#: With this many dirty bytes, blobs are collected no longer.
_HURRY = 1 << 20
#: With this many, who stores more has to wait until they are fewer.
_MOST = 64 << 20


class Writer:
    """What both have in common: who waits for dirty blobs to be clean."""

    def __init__(self, service: Service, cache: Cache) -> None:
        self.service = service
        self.cache = cache
        self._waiting: deque[tuple[int, Outcome]] = deque()  # number of the last blob that is waited for

    def wait(self, outcome: Outcome) -> None:
        """Calls `outcome` when all that is dirty now is clean, or has failed to get so."""
        if self.cache.lowest > self.cache.number:
            outcome(0, None)
            return
        self._waiting.append((self.cache.number, outcome))

    def _settle(self) -> None:
        """Some blobs are dirty no longer."""
        waiting = self._waiting
        while waiting and waiting[0][0] < self.cache.lowest:
            waiting.popleft()[1](0, None)

    def fail(self, errnum: int, text: str | None) -> None:
        """Tells all who wait."""
        waiting, self._waiting = self._waiting, deque()
        for _, outcome in waiting:
            outcome(errnum, text)


class WriteBack(Writer):
    """For rank 0.

    Args:
        limit: how many blobs may be on their way to the backing store at a time.
    """

    def __init__(self, service: Service, cache: Cache, limit: int) -> None:
        super().__init__(service, cache)
        self.limit = limit
        self.backing = False  # there is a backing store
        self.takes_many = False
        self.flying = 0
        self.error: tuple[int, str | None] | None = None  # of the last attempt, if it has failed
        self._queue: deque[bytes] = deque()
        self._width = limit  # blobs in the next batch
        self._hurried = False
        self._logged: str | None = None  # what the log was told that is wrong
        self._held: deque[tuple[Message, list[bytes], bytes | None]] = deque()
        self._timer = service.broker.reactor.timer(_DELAY, 0.0, self._due)
        self._timer.unref()

    def open(self, takes_many: bool) -> None:
        """There is a backing store now."""
        self.backing = True
        self.takes_many = takes_many
        self.retry()

    def close(self) -> None:
        """There is none any more."""
        self.backing = False
        self._timer.stop()
        self.error = None
        self._release()
        self.fail(errno.ENOSYS, None)

    def stop(self) -> None:
        """The module ends."""
        self._timer.stop()
        self.service.abandon(message for message, _, _ in self._held)
        self._held.clear()

    @property
    def left(self) -> int:
        """How many blobs wait to be stored."""
        return len(self._queue)

    def add(self, digests: list[bytes]) -> None:
        """More blobs are dirty."""
        self._queue.extend(digests)
        if not self._timer.active and self.backing and self.error is None and not self.flying:
            self._hurried = False
            self._timer.after = _DELAY
            self._timer.start()
        if (
            self._timer.active
            and not self._hurried
            and (self.cache.dirty_size > _HURRY or len(self._queue) > self.limit)
        ):
            self._next_pass()

    def _next_pass(self) -> None:
        self._hurried = True
        self._timer.reset(0.0, 0.0)

    def has_room(self, size: int) -> bool:
        """True if nobody has to wait who stores so many bytes."""
        return self.cache.dirty_size + size <= _MOST or not self.backing

    def hold(self, request: Message, digests: list[bytes], answer: bytes | None) -> bool:
        """Keeps the answer to a store back if memory is full. Raises OSError if nothing can be done about that.

        Args:
            digests: of the blobs that have become dirty by it.
            answer: the payload of the answer.
        """
        if self.cache.dirty_size <= _MOST or not self.backing:
            return False
        if self.error is not None:
            errnum, text = self.error
            for digest in digests:
                self.cache.refused(digest)
            raise OSError(errnum, text)
        self._held.append((request, digests, answer))
        return True

    def wait(self, outcome: Outcome) -> None:
        """As Writer.wait, and nothing is collected meanwhile."""
        super().wait(outcome)
        if self._waiting:
            self.retry()

    def retry(self) -> None:
        """Sends what there is."""
        if self.backing and self._queue:
            self.error = None
            self._go()

    def _due(self) -> None:
        """It is time; but what this pass of the loop has to send goes out first."""
        if self._hurried:
            self._go()
        else:
            self._next_pass()

    def _go(self) -> None:
        """Sends batches, for a slice of time."""
        end = monotonic() + _SLICE
        self._hurried = False
        while self._queue and self.backing and self.error is None and self.flying < self.limit:
            self._send(self._take())
            if monotonic() > end or not self._urgent():
                break
        self._go_on()

    def _urgent(self) -> bool:
        """True if what is left is a batch already, or is not to be collected any longer."""
        many = len(self._queue) >= self.limit or self.cache.dirty_size > _HURRY
        return many or bool(self._waiting or self._held) or self._width < self.limit

    def _go_on(self) -> None:
        """Sends what is left: in the next pass, or later if it is not urgent."""
        if self._queue and not self.flying and self.backing and self.error is None:
            if self._urgent():
                self._next_pass()
            elif not self._timer.active:
                self._timer.reset(_DELAY, 0.0)

    def _take(self) -> list[bytes]:
        digests: list[bytes] = []
        room, size = min(self._width, self.limit - self.flying), 0
        queue, dirty = self._queue, self.cache.dirty
        while queue and len(digests) < room:
            entry = dirty.get(queue[0])
            if entry is not None:  # else refused meanwhile
                size += len(entry.data)
                if size > _BATCH_BYTES and digests:
                    break
                digests.append(queue[0])
            queue.popleft()
        return digests

    def _send(self, digests: list[bytes]) -> None:
        self.flying += len(digests)
        dirty = self.cache.dirty
        if not self.takes_many:
            for digest in digests:
                data = dirty[digest].data or None
                self.service.ask(b"content-backing.store", data, partial(self._answered, [digest]))
        elif digests:
            raw = batch.encode(digests, [dirty[digest].data for digest in digests])
            self.service.ask(b"content-backing.store-many", raw, partial(self._answered, digests))

    def _answered(self, digests: list[bytes], state: RpcState) -> None:
        self.flying -= len(digests)
        errnum, text = state.errnum, state.error_text()
        if not errnum and not self.takes_many and state.value.raw != digests[0]:
            errnum, text = errno.EPROTO, "the backing store has stored another blob than it was given"
        if errnum:
            self._failed(digests, errnum, text)
        else:
            self.cache.stored(digests)
            self._width = min(self.limit, 2 * self._width)
            if self._logged is not None:
                self._logged = None
                self._log(LOG_INFO, "blobs can be stored again")
            self._settle()
            if self._held:
                self._release()
            self.cache.purge(self.service.broker.now, 2 * len(digests))
        if not self._timer.active:
            self._go_on()

    def _failed(self, digests: list[bytes], errnum: int, text: str | None) -> None:
        if len(digests) > 1:
            self._queue.extendleft(reversed(digests))
            self._width = 1
            return
        # At the end: the others are to have their chance before it is tried again.
        self._queue.extend(digests)
        if not self.backing or self.error is not None:
            return  # told already
        self.error = (errnum, text)
        self._width = 1
        if self._logged != text:
            self._logged = text
            left = len(self.cache.dirty)
            self._log(LOG_ERR, f"blobs that cannot be stored stay in memory, {left} now: {text}")
        self.fail(errnum, text)
        self._release()

    def _log(self, severity: int, text: str) -> None:
        self.service.broker.log.write(severity, text, "content")

    def _release(self) -> None:
        """Answers who had to wait for memory, as far as there is some; or all, if there is not going to be any."""
        while self._held and (self.cache.dirty_size <= _MOST or self.error is not None or not self.backing):
            request, digests, answer = self._held.popleft()
            if self.error is not None and any(digest in self.cache.dirty for digest in digests):
                # Still here, as no harm is done by that; but it is not promised.
                self.service.handle.respond_error(request, *self.error)
            else:
                self.service.answer(request, answer)


class WriteThrough(Writer):
    """For the other ranks."""

    def __init__(self, service: Service, cache: Cache) -> None:
        super().__init__(service, cache)
        self._storing: dict[bytes, list[Message]] = {}

    def store(self, digest: bytes, data: bytes, request: Message) -> None:
        """Answers the request when the parent has the blob."""
        waiting = self._storing.get(digest)
        if waiting is not None:
            waiting.append(request)
            return
        self._storing[digest] = [request]
        self.service.ask(b"content.store", data or None, partial(self._answered, digest), nodeid=FLUX_NODEID_UPSTREAM)

    def _answered(self, digest: bytes, state: RpcState) -> None:
        requests = self._storing.pop(digest)
        errnum, text = state.errnum, state.error_text()
        if errnum:
            self.cache.refused(digest)
            for request in requests:
                self.service.handle.respond_error(request, errnum, text)
            self.fail(errnum, text)
            return
        self.cache.stored((digest,))
        for request in requests:
            self.service.answer(request, digest)
        self._settle()

    def stop(self) -> None:
        """The module ends."""
        for requests in self._storing.values():
            self.service.abandon(requests)
