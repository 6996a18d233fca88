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
import select
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flux.constants import (
    FLUX_MSGFLAG_NORESPONSE,
    FLUX_MSGFLAG_STREAMING,
    FLUX_MSGFLAG_UPSTREAM,
    FLUX_MSGTYPE_RESPONSE,
    FLUX_NODEID_UPSTREAM,
    FLUX_O_NONBLOCK,
    FLUX_O_NOREQUEUE,
    FLUX_O_TEST_NOSUB,
    FLUX_POLLERR,
    FLUX_POLLIN,
    FLUX_RPC_NORESPONSE,
    FLUX_RPC_STREAMING,
    FLUX_RQ_HEAD,
    FLUX_RQ_TAIL,
)
from flux.core.bell import Bell
from flux.core.dispatch import Dispatcher, Match
from flux.core.future_state import Due, FutureState, RpcState
from flux.core.link import Link
from flux.core.private_wait import wait_private
from flux.core.pump import NO_PUMP, Pump
from flux.message import Message
from flux.reactor import Reactor, SourceEvent, Timer
from flux.wrapper import local_error

if TYPE_CHECKING:
    from flux.core.handle import Flux

_new_state = object.__new__


class FluxT:
    """A handle on a link: what `Flux.handle` is, to be passed where the API wants an opaque handle."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.references = 1
        self.wrapper: weakref.ref[Flux] | None = None  # the Python object of this handle
        self.aux: dict[bytes, object] = {}  # what others attach to the handle (flux_aux_set)
        self.dispatcher = Dispatcher()
        self.ready: deque[Due] = deque()  # whose continuation is due
        self.alive: set[Due] = set()  # kept alive by the continuation that is to come
        self.pump: Pump | None = None  # serves this handle instead of its reactor
        self._reactor: Reactor | None = None
        self._own_reactor: Reactor | None = None  # while a pump serves: what it has displaced
        self._source: SourceEvent | None = None
        self._dispatching = False
        self._active = 0  # running handlers and watched RPCs
        self._referenced = 0  # those of them that keep the loop going
        link.views.add(self)

    # Lifetime.

    def attach_pump(self, pump: Pump, reactor: Reactor) -> None:
        """From here on `pump` serves this handle, and `reactor` makes the events of its watchers."""
        self._reclaim()
        if self._source is not None:
            self._source.stop()
            self._source = None
        self.link.looped = True
        self.pump = pump
        self._own_reactor, self._reactor = self._reactor, reactor

    def _reclaim(self) -> None:
        """Has the reactor serve this handle again, after another loop did."""
        pump, self.pump = self.pump, None
        if pump is not None:
            pump.close()
            self._reactor, self._own_reactor = self._own_reactor, None

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
        if self.pump is not None:
            self.pump.close()
        self.pump = NO_PUMP
        self._reactor = self._own_reactor = None

    def clone(self) -> FluxT:
        """Another view of the same connection, with its own dispatcher and reactor."""
        return FluxT(self.link)

    def clone_private(self) -> FluxT:
        """A view for one blocking wait: that wait calls its continuations, no loop does."""
        private = FluxT(self.link)
        private.pump = NO_PUMP
        self.link.views.discard(private)  # the connection does not stay open for it
        return private

    # The loop: this is a `flux.reactor.Source`.

    @property
    def reactor(self) -> Reactor:
        """The reactor of this handle, made on first need."""
        if self.pump is not None and self.pump.closed():
            self._reclaim()
            self._changed()
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

    def schedule(self, state: Due) -> None:
        """A continuation is due: the loop calls it in its next pass."""
        self.ready.append(state)
        if not self._dispatching:
            self._changed()

    def _changed(self) -> None:
        """Tells the loop whether this handle is active, keeps it going, and has something to dispatch."""
        if self.pump is not None:
            if not self.pump.closed():
                self.pump.wake()
                return
            self._reclaim()
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

    def is_active(self) -> bool:
        """True if a message handler runs or an RPC waits for its answer: else messages are left alone."""
        return self._active > 0

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
        if link.bell is not None:
            link.ring()
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
        except BlockingIOError:
            if link.bell is not None:
                link.bell.want_output(True)
            raise
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
            if aside:
                link.queue.extend(aside)
                link.unswept = True
            self._wake()
            link.lock.release()

    def requeue(self, message: Message, flags: int) -> None:
        """Puts a message back, to be received first (RQ_HEAD) or after the others set aside (RQ_TAIL)."""
        if flags not in (FLUX_RQ_HEAD, FLUX_RQ_TAIL) or self.link.flags & FLUX_O_NOREQUEUE:
            raise local_error(errno.EINVAL)
        self.link.unswept = True
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
            if link.unswept:
                link.sweep()
            if state.wait_ctx is not None:
                wait_private(self, state, state.wait_ctx, timeout)
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

    def _wake(self) -> None:
        """Messages may be waiting that no descriptor will announce: tell the loops of all views."""
        if self.link.looped:
            self.link.wake()

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
                value = self.keep_attr(name, answer)
            except OSError as exc:
                raise with_note(local_error(exc.errno or errno.EIO), exc) from None
        return self.attr_shown(name, value)

    def keep_attr(self, name: str, answer: Any) -> str:
        """The value in an answer to attr.get; kept if it never changes."""
        value = str(answer["value"])
        if answer["flags"] & 1:
            self.link.attrs[name] = value
        return value

    @staticmethod
    def attr_shown(name: str, value: str) -> str:
        """An attribute's value as seen from this side of `flux proxy`, whose sockets are on the other host."""
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
        link = self.link
        connector = link.connector
        if not hasattr(select, "epoll") or (connector.fileno() < 0 and not connector.echoes):
            return connector.pollfd(self)
        if link.bell is None:
            link.bell = Bell(connector.fileno())
            link.looped = True
            link.ring()
        return link.bell.fileno()

    def pollevents(self) -> int:
        """FLUX_POLLIN, FLUX_POLLOUT, FLUX_POLLERR bits as they are now."""
        link = self.link
        if not link.lost:
            try:
                link.connector.read_available()
            except ConnectionError:
                link.lose()
        link.ring()
        events = link.connector.writable()
        if events and link.bell is not None:
            link.bell.want_output(False)
        if link.queue or link.connector.has_message() or link.connector.partial():
            events |= FLUX_POLLIN
        if link.lost:
            events |= FLUX_POLLIN | FLUX_POLLERR | 2
        return events

    def reconnect(self) -> None:
        """Opens the connection anew (spec 01, 3.9). Raises OSError ENOSYS where the connector cannot.

        What was pending fails with ECONNRESET, whether or not the handle was opened with FLUX_O_RPCTRACK: its
        answer can not come any more.
        """
        link = self.link
        views = list(link.views)
        for view in views:
            view._let_go()
        try:
            link.connector.reconnect()
        except OSError as exc:
            if exc.errno != errno.ENOSYS:
                link.lose()
            raise
        else:
            self._start_anew()
        finally:
            for view in views:
                if view.pump is not None:
                    view.pump.reconnected()
                view._changed()

    def _start_anew(self) -> None:
        """Another connection has taken the place of the one that the RPCs still pending were sent on."""
        link = self.link
        link.lost = False
        if link.bell is not None:
            link.bell.set_socket(link.connector.fileno())
        link.fail_pending("RPC aborted due to broker reconnect")

    def _let_go(self) -> None:
        """The connection's descriptor is about to be replaced: the loop forgets it."""
        if self.pump is not None:
            self.pump.reconnecting()
        if self._source is not None:
            self._source.stop()
            self._source = None


def with_note(error: OSError, cause: OSError) -> OSError:
    """`error` with the broker's text as a note, where that says more than the errno."""
    if cause.strerror and cause.errno and cause.strerror != os.strerror(cause.errno):
        error.add_note(f"the broker says: {cause.strerror}")
    return error
