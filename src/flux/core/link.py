"""Link: one connection of this process to a broker, and what belongs to it (see `flux.core.flux_t` for the rules)."""

from __future__ import annotations

import errno
import os
import weakref
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from threading import RLock
from typing import TYPE_CHECKING

from flux.constants import FLUX_MSGTYPE_RESPONSE
from flux.core.arguments import signed
from flux.core.bell import Bell
from flux.core.future_state import RpcState
from flux.message import Message
from flux.wrapper import local_error

if TYPE_CHECKING:
    from flux.connector.base import Connector
    from flux.core.flux_t import FluxT

_links: weakref.WeakSet[Link] = weakref.WeakSet()


class Link:
    """One connection of this process to a broker, shared by a handle and its clones."""

    def __init__(self, connector: Connector, flags: int) -> None:
        self.connector = connector
        self.flags = flags
        self.lock = RLock()
        self.queue: deque[Message] = deque()  # received and set aside, to be received again
        self.unswept = False  # among them may be responses to pending RPCs
        self.pending: dict[int, weakref.ref[RpcState]] = {}  # matchtag to RPC; dead: its user dropped it
        self.streaming: set[int] = set()  # the matchtags of streaming RPCs
        self.tags_free: list[int] = []
        self.tags_next = 1
        self.tags_size = 1023
        self.attrs: dict[str, str] = {}  # attributes that never change
        self.views: weakref.WeakSet[FluxT] = weakref.WeakSet()
        self.lost = False
        self.closed = False
        self.looped = False  # a reactor or asyncio has come to serve a view of this link
        self.on_lost: set[Callable[[], None]] = set()  # called once the connection is lost
        self.bell: Bell | None = None  # what `FluxT.pollfd` has given out
        connector.tell_of_input(_waker(weakref.ref(self)))
        _links.add(self)

    def busy(self) -> RuntimeError:
        """The error for a second thread."""
        return RuntimeError(
            "this Flux handle is in use by another thread: a handle serves one thread at a time, "
            "so open one flux.Flux() per thread"
        )

    # Matchtags: unique among outstanding RPCs, lowest free number first (spec 01, 3.5).

    def alloc_tag(self) -> int:
        """The lowest free matchtag, from 1."""
        if self.tags_free:
            return heappop(self.tags_free)
        tag = self.tags_next
        self.tags_next = tag + 1
        if tag > self.tags_size:
            self.tags_size = 2 * self.tags_size + 1
        return tag

    def free_tag(self, tag: int) -> None:
        """Gives a matchtag back."""
        heappush(self.tags_free, tag)

    @property
    def tags_available(self) -> int:
        """How many matchtags could be had before the pool grows."""
        return self.tags_size - (self.tags_next - 1) + len(self.tags_free)

    def deliver(self, message: Message) -> bool:
        """Fulfils the pending RPC that a response is for; False if there is none (spec 01, 3.4)."""
        tag = message.aux2
        ref = self.pending.get(tag)
        if ref is None or message.routes != () or not message._rolemask:
            return False
        state = ref()
        errnum = message.aux1
        if errnum or tag not in self.streaming:
            del self.pending[tag]
            if errnum:
                self.streaming.discard(tag)
            if state is None:
                self.free_tag(tag)
                return True
            state.done = True
        elif state is None:
            return True
        if errnum:
            # An int to everybody else, and who knows what a service sends.
            state.fulfil(message, signed(errnum), _error_text(message))
        elif message.topic_bytes is None:
            state.fulfil(message, errno.EPROTO, None)
        elif state.cont is None and state.hooks is None and not state.ready:
            # Nobody but the one who waits has to hear of it: what `fulfil` would do.
            state.ready = True
            state.value = message
        else:
            state.fulfil(message)
        return True

    def lose(self) -> None:
        """The connection is gone: every RPC still pending fails with ECONNRESET."""
        if self.lost:
            return
        self.lost = True
        self.fail_pending(None)
        for callback in list(self.on_lost):
            callback()

    def fail_pending(self, text: str | None) -> None:
        """What the RPCs still pending have been sent on is gone: they fail with ECONNRESET."""
        pending, self.pending = self.pending, {}
        self.streaming.clear()
        for tag, ref in pending.items():
            state = ref()
            if state is None:
                self.free_tag(tag)
            else:
                state.done = True
                state.fulfil(None, errno.ECONNRESET, text)

    def sweep(self) -> None:
        """Fulfils the RPCs whose responses were set aside."""
        self.unswept = False
        kept = [m for m in self.queue if m._type != FLUX_MSGTYPE_RESPONSE or not self.deliver(m)]
        if len(kept) != len(self.queue):
            self.queue.clear()
            self.queue.extend(kept)

    def receive(self, timeout: float | None) -> Message | None:
        """The next message of the connection; None when `timeout` (seconds, None for no limit) is over.

        Raises OSError ECONNRESET once the connection is lost, EPROTO or EINVAL for a bad frame.
        """
        try:
            return self.connector.recv(timeout)
        except ConnectionError as exc:
            self.lose()
            raise local_error(errno.ECONNRESET) from exc

    def wake(self) -> None:
        """Tells the loops of all views if messages are waiting that no descriptor will announce."""
        self.ring()
        if self.queue or self.connector.has_message():
            for view in list(self.views):
                if view.pump is not None:
                    view.pump.wake()
                elif view._source is not None and view._source.active:
                    view.reactor.source_ready(view._source)

    def ring(self) -> None:
        """Has the descriptor for foreign loops say whether messages are at hand."""
        if self.bell is not None:
            self.bell.ring(bool(self.queue) or self.connector.has_message())

    def close(self) -> None:
        """Ends the connection; RPCs still pending fail."""
        if not self.closed:
            self.closed = True
            for view in list(self.views):
                view.detach()
            if self.bell is not None:
                self.bell.close()
                self.bell = None
            self.connector.close()
            self.lose()


def _waker(reference: weakref.ref[Link]) -> Callable[[], None]:
    """What a connector calls when a blocking send has read: it does not keep the link alive."""

    def wake() -> None:
        link = reference()
        if link is not None:
            link.wake()

    return wake


def _error_text(message: Message) -> str | None:
    """The text of an error response; None where it has none, which an empty one means too."""
    raw = message.raw
    if raw is None or raw[-1:] != b"\0":
        return None
    return raw[: raw.index(b"\0")].decode("utf-8", "surrogateescape") or None


def _after_fork() -> None:
    """In a child process: what it inherits can be dropped, or closed, without harm to its parent.

    A socket that is closed here stays open there. But an epoll instance is one for both processes, so that what a
    child takes out of it the parent would no longer hear of: loops get another. The child may even use the
    connection, as long as the parent does not: nobody can tell whose an answer is.
    """
    for link in list(_links):
        link.lock = RLock()  # a thread that does not exist here may have held it
        if link.bell is not None:
            link.bell.close()
            link.bell = None
        for view in list(link.views):
            if view._reactor is not None:
                view._reactor.descriptors.rebuild()


def forget_all() -> None:
    """In a forked child that begins anew, and has closed all that it has inherited."""
    _links.clear()


os.register_at_fork(after_in_child=_after_fork)
