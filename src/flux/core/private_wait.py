"""Waiting for a future that callbacks on a view of its own are to fulfil (spec 02, 8.6)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from flux.constants import FLUX_MSGTYPE_EVENT, FLUX_MSGTYPE_RESPONSE, FLUX_POLLIN, FLUX_REACTOR_ONCE
from flux.message import Message
from flux.reactor import FdEvent, Timer, tls
from flux.wrapper import local_error

if TYPE_CHECKING:
    from flux.core.flux_t import FluxT
    from flux.core.future_state import FutureState
    from flux.core.link import Link


def wait_private(core: FluxT, state: FutureState, private: FluxT, timeout: float) -> None:
    """Waits for a future whose init callback set things going on the view `private`.

    The callbacks, timers, descriptors and message handlers of that view run, on a reactor of its own; nothing
    else does. A message that nobody there takes is set aside, an event in any case (spec 01, 6.5).
    """
    link = core.link
    expired = False

    def on_time() -> None:
        nonlocal expired
        expired = True

    def on_input(fd: int, revents: int) -> None:
        try:
            link.connector.read_available()
        except ConnectionError:
            link.lose()
            events[0].stop()  # the end of the stream stays readable for ever

    reactor = private.reactor
    can_poll = core.fileno() >= 0 and not link.lost
    events: list[FdEvent | Timer] = []
    if can_poll:
        events.append(reactor.fd(core.fileno(), FLUX_POLLIN, on_input))
    if timeout >= 0:
        events.append(reactor.timer(timeout, 0.0, on_time))
    try:
        for event in events:
            event.start()
            event.unref()
        for _ in range(len(link.queue)):
            _offer(link, link.queue.popleft(), private)
        while True:
            while not state.ready and (message := link.connector.next_message()) is not None:
                _offer(link, message, private)
            while private.ready and not state.ready:
                private.ready.popleft().run_continuation()
            if state.ready:
                return
            if link.connector.has_message():
                continue  # what a continuation has met while it waited for something else
            if expired:
                raise local_error(errno.ETIMEDOUT)
            if link.lost and not reactor.references:
                raise local_error(errno.ECONNRESET)
            waits = reactor.references or (can_poll and (private._active > 0 or state.awaits_response()))
            if not waits and timeout < 0:
                raise local_error(errno.EDEADLK)
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


def _offer(link: Link, message: Message, private: FluxT) -> None:
    """Has a message handled by the RPC it is for, or a handler of `private`; else sets it aside."""
    kind = message._type
    if kind == FLUX_MSGTYPE_RESPONSE and link.deliver(message):
        return
    taken = private.dispatcher.takes(message)
    if not taken or kind == FLUX_MSGTYPE_EVENT:
        link.queue.append(message)
    if taken:
        private.dispatcher.dispatch(private, message)
