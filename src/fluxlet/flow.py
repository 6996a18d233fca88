"""Whether what a client is sent as a stream may be sent now, or has to wait until it has read (spec 04, 5.2).

For the output of processes (`rexec`), and logs that are read for clients (`job-info`, `kvs-watch`, by `fluxlet.pace`).

A client of this broker has a queue that can be looked at. One of another rank is behind a network that takes anything:
what is sent to it is followed, every so often, by a question, `rexec.drained`, to the rank where its answers are
heading. That answers when the client, if it is its own, has read what was sent before. So no more than two shares of
output are ever under way to one client, and nobody's other messages wait behind more than that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from flux.core.handle import Flux
from flux.message import Message
from flux.reactor import Timer
from fluxlet.broker.clients import Client
from fluxlet.broker.router import Peer
from fluxlet.service import may_end

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker

#: Bytes that may wait for a client before those who send to it have to wait, too.
CONGESTED = 1 << 20
#: Bytes sent to a client of another rank from one question to the next, and how many may be unanswered.
_SHARE = 128 << 10
_QUESTIONS = 2
#: What a message takes besides its payload.
_OVERHEAD = 200
#: Seconds from one look at a client's queue to the next.
_INTERVAL = 0.01


class DrainedRequest(msgspec.Struct):
    """Payload of rexec.drained. `uuid`: of the client."""

    uuid: str


class _Sent:
    """What is under way to one client of another rank."""

    __slots__ = ("bytes", "questions")

    def __init__(self) -> None:
        self.bytes = 0
        self.questions = 0


class Flow:
    """The way of one module's streams to their clients."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        self._handle = handle
        self._broker = broker
        self._sent: dict[tuple[bytes, ...], _Sent] = {}

    def sent(self, request: Message, size: int, messages: int = 1) -> None:
        """Parts, with `size` bytes in all, were sent in answer to `request`."""
        routes = request.routes or ()
        known = self._sent.get(routes)
        if known is None:
            hop = self._broker.router.next_hop(routes)
            if not isinstance(hop, Peer):
                return
            known = self._sent[routes] = _Sent()
        known.bytes += size + _OVERHEAD * messages
        if known.bytes >= _SHARE:
            known.bytes = 0
            known.questions += 1
            self._ask(routes, known)

    def _ask(self, routes: tuple[bytes, ...], known: _Sent) -> None:
        hop = self._broker.router.next_hop(routes)
        # Clients are nearly always at rank 0; of those below, the next rank on the way is known.
        nodeid = hop.rank if isinstance(hop, Peer) and hop is not self._broker.router.parent else 0

        def answered(future: Any) -> None:
            # With an error, too: of a rank that is lost, or does not know the question.
            known.questions -= 1
            if not known.questions and not known.bytes:
                self._sent.pop(routes, None)

        payload = {"uuid": routes[-1].decode("utf-8", "replace")}
        self._handle.rpc("rexec.drained", payload, nodeid).then(answered)

    def congested(self, request: Message) -> bool:
        """True if what is sent now would have to wait for long."""
        routes = request.routes or ()
        known = self._sent.get(routes)
        if known is not None:
            return known.questions >= _QUESTIONS
        hop = self._broker.router.next_hop(routes)
        return hop is not None and hop.backlog > CONGESTED

    def forget(self, notice: Message) -> None:
        """A client has gone."""
        self._sent.pop(notice.routes or (), None)


class Drain:
    """The answers to `rexec.drained`.

    Args:
        broker: whose clients are asked about.
        answer: answers a request.
    """

    def __init__(self, broker: Broker, answer: Callable[[Message], None]) -> None:
        self._broker = broker
        self._answer = answer
        self._waiting: list[tuple[Message, Client]] = []
        self._timer: Timer = broker.reactor.timer(_INTERVAL, 0.0, self._look)

    def wait(self, msg: Message, uuid: str) -> None:
        """Answers when the client has read what was sent to it; at once, if it is none of ours."""
        client = self._broker.clients.all.get(uuid.encode())
        if client is None or client.backlog <= CONGESTED:
            self._answer(msg)
            return
        self._waiting.append((msg, client))
        if not self._timer.active:
            self._timer.start()

    def _look(self) -> None:
        waiting, self._waiting = self._waiting, []
        clients = self._broker.clients.all
        for msg, client in waiting:
            if clients.get(client.uuid) is client and client.backlog > CONGESTED:
                self._waiting.append((msg, client))
            else:
                self._answer(msg)
        if self._waiting:
            self._timer.start()

    def forget(self, notice: Message) -> None:
        """A client has gone."""
        self._waiting = [(msg, client) for msg, client in self._waiting if not may_end(msg, notice)]

    def stop(self) -> list[Message]:
        """Ends; gives the requests that are left open."""
        self._timer.stop()
        waiting, self._waiting = self._waiting, []
        return [msg for msg, _ in waiting]
