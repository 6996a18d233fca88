"""FluxT: the opaque handle behind a `Flux` (the reference's flux_t): connection, matchtags, queue, dispatch.

Rules:

- `Link` is one connection and what belongs to it: the queue of messages set aside, the RPCs awaiting an answer.
  `FluxT` is a view of it with its own dispatcher and reactor; `clone` makes another view of the same link.
- Messages come in order: the queue first, then the connection. A response to a pending RPC fulfils that RPC
  wherever it is met, except that `recv` returns it if it was asked for.
- A handle is used by one thread at a time: `Link.lock` is held during every operation, and a second thread
  gets a RuntimeError instead of a corrupted stream.
- A lost connection fails everything that waits for it with ECONNRESET; nothing waits for ever.
"""

from __future__ import annotations

import errno
import os
import time
import weakref
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from threading import RLock
from typing import TYPE_CHECKING

from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
    FLUX_MSGFLAG_STREAMING,
    FLUX_MSGFLAG_UPSTREAM,
    FLUX_MSGTYPE_RESPONSE,
    FLUX_NODEID_UPSTREAM,
    FLUX_O_NONBLOCK,
    FLUX_O_NOREQUEUE,
    FLUX_O_RPCTRACK,
    FLUX_O_TEST_NOSUB,
    FLUX_POLLERR,
    FLUX_POLLIN,
    FLUX_REACTOR_ONCE,
    FLUX_RPC_NORESPONSE,
    FLUX_RPC_STREAMING,
    FLUX_RQ_HEAD,
    FLUX_RQ_TAIL,
)
from flux.core.dispatch import Dispatcher, Match
from flux.core.future_state import FutureState, RpcState
from flux.message import Message
from flux.reactor import FdEvent, Reactor, SourceEvent, Timer, tls
from flux.wrapper import local_error

if TYPE_CHECKING:
    from flux.connector.base import Connector
    from flux.core.handle import Flux

_new_state = object.__new__


class Link:
    """One connection of this process to a broker, shared by a handle and its clones."""

    def __init__(self, connector: Connector, flags: int) -> None:
        self.connector = connector
        self.flags = flags
        self.lock = RLock()
        self.queue: deque[Message] = deque()  # received and set aside, to be received again
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
            state.fulfil(message, errnum, _error_text(message))
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
        pending, self.pending = self.pending, {}
        self.streaming.clear()
        for tag, ref in pending.items():
            state = ref()
            if state is None:
                self.free_tag(tag)
            else:
                state.done = True
                state.fulfil(None, errno.ECONNRESET, None)
        for callback in list(self.on_lost):
            callback()

    def sweep(self) -> None:
        """Fulfils the RPCs whose responses were set aside."""
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

    def close(self) -> None:
        """Ends the connection; RPCs still pending fail."""
        if not self.closed:
            self.closed = True
            for view in list(self.views):
                view.detach()
            self.connector.close()
            self.lose()


def _error_text(message: Message) -> str | None:
    """The text of an error response; None where it has none, which an empty one means too."""
    raw = message.raw
    if raw is None or raw[-1:] != b"\0":
        return None
    return raw[: raw.index(b"\0")].decode("utf-8", "surrogateescape") or None


class FluxT:
    """A handle on a link: what `Flux.handle` is, to be passed where the API wants an opaque handle."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.references = 1
        self.wrapper: weakref.ref[Flux] | None = None  # the Python object of this handle
        self.aux: dict[bytes, object] = {}  # what others attach to the handle (flux_aux_set)
        self.dispatcher = Dispatcher()
        self.ready: deque[FutureState] = deque()  # futures whose continuation is due
        self.alive: set[FutureState] = set()  # futures that their pending continuation keeps alive
        self.pump: Callable[[], None] | None = None  # under asyncio: has the loop come back to this handle
        self._close_pump: Callable[[], None] | None = None
        self._reactor: Reactor | None = None
        self._source: SourceEvent | None = None
        self._dispatching = False
        self._active = 0  # running handlers and watched RPCs
        self._referenced = 0  # those of them that keep the loop going
        link.views.add(self)

    # Lifetime.

    def attach_pump(self, pump: Callable[[], None], close: Callable[[], None]) -> None:
        """From here on another loop than a reactor serves this handle (asyncio).

        Args:
            pump: called when there is something to do that reading would not find.
            close: called when the handle closes.
        """
        if self._source is not None:
            self._source.stop()
            self._source = None
        self.link.looped = True
        self.pump = pump
        self._close_pump = close

    def incref(self) -> FluxT:
        """One more owner: the connection closes when the last one is gone."""
        self.references += 1
        return self

    def decref(self) -> None:
        """One owner less."""
        self.references -= 1
        if self.references == 0:
            self.close()

    def close(self) -> None:
        """Closes this view, and with the last view the connection."""
        self.references = 0
        self.detach()
        self.link.views.discard(self)
        if not self.link.views:
            self.link.close()

    def detach(self) -> None:
        """Lets go of the loop."""
        for state in list(self.alive):
            state.stop()
        self.ready.clear()
        if self._source is not None:
            self._source.stop()
            self._source = None
        if self._close_pump is not None:
            self._close_pump()
            self._close_pump = None
        self.pump = _nothing
        self._reactor = None

    def clone(self) -> FluxT:
        """Another view of the same connection, with its own dispatcher and reactor."""
        return FluxT(self.link)

    def clone_private(self) -> FluxT:
        """A view for one blocking wait: that wait calls its continuations, no loop does."""
        private = FluxT(self.link)
        private.pump = _nothing
        return private

    # The loop: this is a `flux.reactor.Source`.

    @property
    def reactor(self) -> Reactor:
        """The reactor of this handle, made on first need."""
        if self._reactor is None:
            self._reactor = Reactor()
        return self._reactor

    def set_reactor(self, reactor: Reactor) -> None:
        """Shares another handle's reactor; OSError(EEXIST) once this one has its own."""
        if self._reactor is not None:
            raise local_error(errno.EEXIST)
        self._reactor = reactor

    def stop_error(self) -> None:
        """Stops the loop with error."""
        if self._reactor is not None:
            self._reactor.stop_error()

    def start_timer(self, after: float, callback: Callable[[], None]) -> Timer:
        """A started one-shot timer on this handle's reactor."""
        timer = self.reactor.timer(after, 0.0, callback)
        timer.start()
        return timer

    def handler_started(self, referenced: bool, delta: int) -> None:
        """A message handler was started (1) or stopped (-1)."""
        self._active += delta
        if referenced:
            self._referenced += delta
        self._changed()

    def watch(self, delta: int) -> None:
        """An RPC with a continuation began (1) or ceased (-1) to wait for its answer."""
        self._active += delta
        self._referenced += delta
        # Only the first and the last change what the loop has to know, and those while a message is being
        # dispatched are looked at when that is over.
        if (self._active <= 1 or self._referenced <= 1) and not self._dispatching:
            self._changed()

    def schedule(self, state: FutureState) -> None:
        """A continuation is due: the loop calls it in its next pass."""
        self.ready.append(state)
        if not self._dispatching:
            self._changed()

    def _changed(self) -> None:
        """Tells the loop whether this handle is active, keeps it going, and has something to dispatch."""
        if self.pump is not None:
            if self._active > 0 or self.ready:
                self.pump()
            return
        source = self._source
        if source is None:
            if self._active <= 0 and not self.ready:
                return
            self.link.looped = True
            source = self._source = self.reactor.source(self)
        if self._referenced > 0 or self.ready:
            source.ref()
        else:
            source.unref()
        if self._active > 0 or self.ready:
            if not source.active:
                source.start()
            if not source.ready and self.buffered():
                self.reactor.source_ready(source)
        elif source.active:
            source.stop()

    def buffered(self) -> bool:
        """True if `dispatch` has something to do without reading."""
        return bool(self.ready or self.link.queue or self.link.connector.has_message())

    def fileno(self) -> int:
        """The descriptor to poll for input, -1 if there is none."""
        return self.link.connector.fileno()

    def read_ready(self) -> bool:
        """Takes what the connection has without blocking; True if there is something to dispatch."""
        link = self.link
        try:
            link.connector.read_available()
        except ConnectionError:
            link.lose()
            return True
        return self.buffered()

    def dispatch(self) -> bool:
        """Handles one message and the continuation it makes due, or one that was due; True if more waits."""
        link, ready = self.link, self.ready
        nested, self._dispatching = self._dispatching, True
        try:
            if not ready:
                message = self._next_buffered()
                if message is None:
                    if link.lost and self._active > 0:
                        self.stop_error()
                    return False
                if message._type != FLUX_MSGTYPE_RESPONSE or not link.deliver(message):
                    self.dispatcher.dispatch(self, message)
            if ready:
                ready.popleft().run_continuation()
        finally:
            self._dispatching = nested
            if not nested and not ready and (self._active <= 0 or self._referenced <= 0):
                self._changed()
        return bool(ready or link.queue or link.connector.has_message())

    def _next_buffered(self) -> Message | None:
        link = self.link
        if link.queue:
            return link.queue.popleft()
        try:
            return link.connector.next_message()
        except OSError:
            # A bad frame cannot be told apart from a broken peer: nothing more is read (spec 01, 1.5).
            link.connector.close()
            link.lose()
            return None

    # Sending and receiving.

    def send(self, message: Message, nonblock: bool = False) -> None:
        """Sends a message. Raises OSError EPIPE once the connection is gone, EAGAIN if it may not block."""
        link = self.link
        if not link.lock.acquire(False):
            raise link.busy()
        try:
            link.connector.send(message, nonblock or bool(link.flags & FLUX_O_NONBLOCK))
            if link.connector.echoes:
                self._wake()
        except ConnectionError as exc:
            raise local_error(errno.EPIPE) from exc
        finally:
            link.lock.release()

    def recv(self, match: Match, nonblock: bool = False) -> Message:
        """The next message that matches; those before it stay, in order (spec 01, 6.2).

        Raises OSError EAGAIN if none is there and it may not block, ECONNRESET without a connection.
        """
        link = self.link
        if not link.lock.acquire(False):
            raise link.busy()
        nonblock = nonblock or bool(link.flags & FLUX_O_NONBLOCK)
        aside: list[Message] = []
        try:
            while True:
                if link.queue:
                    message: Message | None = link.queue.popleft()
                else:
                    message = link.receive(0 if nonblock else None)
                if message is None:
                    raise local_error(errno.EAGAIN)
                if match.accepts(message):
                    return message
                aside.append(message)
        finally:
            link.queue.extend(aside)
            self._wake()
            link.lock.release()

    def requeue(self, message: Message, flags: int) -> None:
        """Puts a message back, to be received first (RQ_HEAD) or after the others set aside (RQ_TAIL)."""
        if flags not in (FLUX_RQ_HEAD, FLUX_RQ_TAIL) or self.link.flags & FLUX_O_NOREQUEUE:
            raise local_error(errno.EINVAL)
        if flags == FLUX_RQ_HEAD:
            self.link.queue.appendleft(message)
        else:
            self.link.queue.append(message)
        self._wake()

    def wait(self, state: FutureState, timeout: float) -> None:
        """Blocks until `state` is fulfilled; only that happens meanwhile (spec 02, 4.7).

        Raises OSError ETIMEDOUT, EDEADLK when nothing could fulfil it, ECONNRESET without a connection.
        """
        link = self.link
        if not link.lock.acquire(False):
            raise link.busy()
        try:
            if link.queue:
                link.sweep()
            if state.wait_ctx is not None:
                self._wait_private(state, state.wait_ctx, timeout)
            elif timeout >= 0:
                self._wait_limited(state, timeout)
            else:
                receive, queue, deliver = link.connector.recv, link.queue, link.deliver
                while not state.ready:
                    if link.lost:
                        raise local_error(errno.ECONNRESET)
                    try:
                        message = receive(None)
                    except ConnectionError:
                        link.lose()
                        continue
                    if message is None:
                        # A connector that cannot block (loop://) and has nothing: nothing will come.
                        raise local_error(errno.EAGAIN)
                    if message._type != FLUX_MSGTYPE_RESPONSE or not deliver(message):
                        queue.append(message)
        finally:
            if link.looped:
                self._wake()
            link.lock.release()

    def _wait_limited(self, state: FutureState, timeout: float) -> None:
        """Waits for a response, at most `timeout` seconds."""
        link = self.link
        deadline = time.monotonic() + timeout
        while not state.ready:
            if link.lost:
                raise local_error(errno.ECONNRESET)
            left = deadline - time.monotonic()
            try:
                message = link.connector.recv(max(0.0, left))
            except ConnectionError:
                link.lose()
                continue
            if message is not None:
                if message._type != FLUX_MSGTYPE_RESPONSE or not link.deliver(message):
                    link.queue.append(message)
            elif left <= 0:
                raise local_error(errno.ETIMEDOUT)

    def _wait_private(self, state: FutureState, private: FluxT, timeout: float) -> None:
        """Waits for a future whose init callback set things going on the view `private`.

        The callbacks, timers and descriptors of that view run, on a reactor of its own; nothing else does.
        """
        link = self.link
        expired = False

        def on_time() -> None:
            nonlocal expired
            expired = True

        def on_input(fd: int, revents: int) -> None:
            try:
                link.connector.read_available()
            except ConnectionError:
                link.lose()

        reactor = private.reactor
        events: list[FdEvent | Timer] = []
        if self.fileno() >= 0 and not link.lost:
            events.append(reactor.fd(self.fileno(), FLUX_POLLIN, on_input))
        if timeout >= 0:
            events.append(reactor.timer(timeout, 0.0, on_time))
        try:
            for event in events:
                event.start()
                event.unref()
            while True:
                while (message := None if link.lost else link.connector.next_message()) is not None:
                    if message._type != FLUX_MSGTYPE_RESPONSE or not link.deliver(message):
                        link.queue.append(message)
                while private.ready and not state.ready:
                    private.ready.popleft().run_continuation()
                if state.ready:
                    return
                if expired:
                    raise local_error(errno.ETIMEDOUT)
                hopeless = self.fileno() < 0 or not state.awaits_response()
                if hopeless and not private._active and not reactor.references:
                    raise local_error(errno.ECONNRESET if link.lost else errno.EDEADLK)
                for event in events:
                    event.ref()
                try:
                    failed = reactor.run(FLUX_REACTOR_ONCE) < 0
                finally:
                    for event in events:
                        event.unref()
                if failed and tls.exception is not None:
                    exc, tls.exception = tls.exception, None
                    raise exc
        finally:
            for event in events:
                event.stop()

    def _wake(self) -> None:
        """Messages may be waiting that no descriptor will announce: tell the loops of all views."""
        link = self.link
        if link.looped and (link.queue or link.connector.has_message()):
            for view in list(link.views):
                if view.pump is not None:
                    view.pump()
                elif view._source is not None and view._source.active:
                    view.reactor.source_ready(view._source)

    # RPC.

    def rpc(self, topic: bytes, raw: bytes | None, nodeid: int, flags: int) -> RpcState:
        """Sends a request; `raw` is its payload as it goes on the wire (spec 01, 3.5).

        Raises OSError EINVAL for bad flags, EPIPE once the connection is gone.
        """
        link = self.link
        if not link.lock.acquire(False):
            raise link.busy()
        try:
            state: RpcState = _new_state(RpcState)
            state.ctx = self
            state.nodeid = nodeid
            state.topic = topic
            message_flags = 0
            if flags:
                if flags & ~(FLUX_RPC_NORESPONSE | FLUX_RPC_STREAMING):
                    raise local_error(errno.EINVAL)
                if flags & FLUX_RPC_STREAMING:
                    message_flags |= FLUX_MSGFLAG_STREAMING
                if flags & FLUX_RPC_NORESPONSE:
                    message_flags |= FLUX_MSGFLAG_NORESPONSE
                    state.noresponse = state.ready = True
                else:
                    state.streaming = True
            if nodeid == FLUX_NODEID_UPSTREAM:
                nodeid = int(self.attr_get("rank"))
                message_flags |= FLUX_MSGFLAG_UPSTREAM
            tag = 0 if state.noresponse else link.alloc_tag()
            if tag:
                # Before it is sent: a module inside the broker may have its answer when `send_request` returns.
                state.matchtag = tag
                link.pending[tag] = weakref.ref(state)
                if state.streaming:
                    link.streaming.add(tag)
            try:
                link.connector.send_request(topic, raw, nodeid, tag, message_flags)
            except BaseException as exc:
                if link.pending.pop(tag, None) is not None:
                    link.streaming.discard(tag)
                    link.free_tag(tag)
                if isinstance(exc, ConnectionError):
                    raise local_error(errno.EPIPE) from exc
                raise
            if link.connector.echoes:
                self._wake()
            return state
        finally:
            link.lock.release()

    def call(self, topic: str, payload: object = None, nodeid: int = 0xFFFFFFFF) -> Message:
        """Sends a request and waits; raises the error of the response with the broker's text."""
        from flux.core.codec import dump_payload

        state = self.rpc(topic.encode(), dump_payload(payload), nodeid, 0)
        state.wait(-1.0)
        state.raise_error()
        message = state.value
        assert isinstance(message, Message)
        return message

    # Attributes.

    def attr_get(self, name: str) -> str:
        """The value of a broker attribute (spec 02, 2.3). Raises OSError of shape A, the broker's text as a note."""
        from flux.core.codec import load_text

        value = self.link.attrs.get(name)
        if value is None:
            preset = self.link.connector.attributes
            if preset is not None:
                if name not in preset:
                    raise local_error(errno.ENOENT)
                return preset[name]
            try:
                answer = load_text(self.call("attr.get", {"name": name}).text_bytes() or b"")
                value = str(answer["value"])
                if answer["flags"] & 1:
                    self.link.attrs[name] = value
            except OSError as exc:
                raise with_note(local_error(exc.errno or errno.EIO), exc) from None
        remote = os.environ.get("FLUX_PROXY_REMOTE")
        if remote is not None and name == "parent-uri" and value.startswith("local://"):
            return f"ssh://{remote}{value.removeprefix('local://')}"
        return value

    @property
    def subscribes(self) -> bool:
        """False if event subscriptions are no-ops on this handle (FLUX_O_TEST_NOSUB)."""
        return not self.link.flags & FLUX_O_TEST_NOSUB

    def subscribe(self, topic: bytes, subscribe: bool) -> None:
        """Subscribes to events whose topic begins with `topic`, or undoes that (spec 01, 5.2).

        Raises OSError of shape A, ENOENT for an unsubscribe too many.
        """
        at_once = self.link.connector.subscribe
        if at_once is not None:
            at_once(topic, subscribe)
        elif self.subscribes:
            method = "event.subscribe" if subscribe else "event.unsubscribe"
            try:
                self.call(method, {"topic": topic.decode("utf-8", "surrogateescape")})
            except OSError as exc:
                raise with_note(local_error(exc.errno or errno.EIO), exc) from None

    # Foreign event loops.

    def pollfd(self) -> int:
        """A descriptor that is readable when `pollevents` may have changed (spec 01, 6.4)."""
        return self.link.connector.pollfd(self)

    def pollevents(self) -> int:
        """FLUX_POLLIN, FLUX_POLLOUT, FLUX_POLLERR bits as they are now."""
        link = self.link
        if not link.lost:
            try:
                link.connector.read_available()
            except ConnectionError:
                link.lose()
        events = link.connector.writable()
        if link.queue or link.connector.has_message() or link.connector.partial():
            events |= FLUX_POLLIN
        if link.lost:
            events |= FLUX_POLLIN | FLUX_POLLERR | 2
        return events

    def reconnect(self) -> None:
        """Opens the connection anew (spec 01, 3.9). Raises OSError ENOSYS where the connector cannot."""
        link = self.link
        link.connector.reconnect()
        link.lost = False
        if link.flags & FLUX_O_RPCTRACK:
            for tag, ref in list(link.pending.items()):
                state = ref()
                del link.pending[tag]
                link.streaming.discard(tag)
                if state is not None:
                    state.done = True
                    state.fulfil(None, errno.ECONNRESET, "RPC aborted due to broker reconnect")


def _nothing() -> None:
    """The pump of a view that a blocking wait serves."""


def with_note(error: OSError, cause: OSError) -> OSError:
    """`error` with the broker's text as a note, where that says more than the errno."""
    if cause.strerror and cause.errno and cause.strerror != os.strerror(cause.errno):
        error.add_note(f"the broker says: {cause.strerror}")
    return error


