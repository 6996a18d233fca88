"""The module `barrier`: programs wait for each other (spec 04, 4.2; spec 02, section 10).

A barrier is known by its owner's userid and a name, over the whole instance. Every broker counts those who enter
through it and what its children tell; it sends its count up in one message a millisecond after the first, however
many there are. Whoever holds all of them publishes `barrier.exit`, and every broker answers its own clients.

Rules:
- A request is answered when the barrier ends, or at once if it cannot be part of it.
- A client that enters twice, or goes while it waits, ends the barrier with ECONNABORTED for all.
- The broker that ends a barrier answers its clients at once, and skips its own event: by then the name may be in
  use again.
- Entrants are found by sender and barriers by key: nothing here is a search, thousands may wait.
"""

from __future__ import annotations

import errno
from syslog import LOG_ERR
from typing import Any, TypeAlias

import msgspec

from flux.brokermod import event_handler, request_handler
from flux.constants import FLUX_NODEID_UPSTREAM
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.payload import cut, decode
from fluxlet.service import Service, authorized, sender

_BATCH_TIME = 0.001

#: Owner's userid, and name.
_Key: TypeAlias = tuple[int, str]


class EnterRequest(msgspec.Struct):
    """Payload of barrier.enter."""

    name: str
    nprocs: int


class UpdateRequest(msgspec.Struct):
    """Payload of barrier.update: `count` more have entered below."""

    name: str
    count: int
    nprocs: int
    owner: int


class ExitEvent(msgspec.Struct):
    """Payload of barrier.exit."""

    name: str
    owner: int
    errnum: int


class _Barrier:
    """A barrier that is open, as one broker sees it."""

    def __init__(self, nprocs: int) -> None:
        self.nprocs = nprocs
        self.entered = 0  # here and below, so far as this broker knows
        self.unsent = 0  # of them, those that the parent has not been told of
        self.entrants: dict[bytes, Message] = {}  # clients by identity, and what is to be answered
        self.children: set[bytes] = set()  # brokers that have entrants


class BarrierService(Service):
    """The barriers of one broker."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        super().__init__(handle, broker)
        self.barriers: dict[_Key, _Barrier] = {}
        self._of_sender: dict[bytes, set[_Key]] = {}
        self._announced: dict[_Key, int] = {}  # own barrier.exit events that are still to come back
        self._timer = broker.reactor.timer(_BATCH_TIME, 0.0, self._send_counts)

    def stop_service(self) -> None:
        """Nobody will be released any more."""
        self._timer.stop()
        for barrier in self.barriers.values():
            self.abandon(barrier.entrants.values())

    @request_handler("enter", allow_guest=True)
    async def enter(self, msg: Message) -> None:
        """Payload `{"name": s, "nprocs": i}`; answered when `nprocs` clients have entered."""
        request = decode(msg, EnterRequest)
        nprocs = request.nprocs
        if nprocs < 1:
            raise OSError(errno.EINVAL, f"a barrier of {nprocs} processes cannot be entered")
        key = (msg.userid, cut(request.name))
        client = sender(msg)
        barrier = self.barriers.get(key)
        if barrier is None:
            if nprocs == 1:
                self.handle.respond(msg)
                return
            barrier = self.barriers[key] = _Barrier(nprocs)
        elif client in barrier.entrants:
            self.handle.respond_error(msg, errno.EEXIST, f"this client has entered barrier {key[1]} already")
            await self._end(key, barrier, errno.ECONNABORTED)
            return
        elif nprocs != barrier.nprocs:
            raise OSError(errno.EINVAL, f"barrier {key[1]} is for {barrier.nprocs} processes, not {nprocs}")
        elif barrier.entered == nprocs:
            raise OSError(errno.EINVAL, f"all {nprocs} processes have entered barrier {key[1]} already")
        barrier.entrants[client] = msg
        self._of_sender.setdefault(client, set()).add(key)
        await self._count(key, barrier, 1)

    @request_handler("update")
    async def update(self, msg: Message) -> None:
        """Payload: `UpdateRequest`, from a child."""
        request = decode(msg, UpdateRequest)
        key = (request.owner, cut(request.name))
        barrier = self.barriers.get(key)
        if barrier is None:
            barrier = self.barriers[key] = _Barrier(request.nprocs)
        child = sender(msg)
        barrier.children.add(child)
        self._of_sender.setdefault(child, set()).add(key)
        if request.nprocs != barrier.nprocs or barrier.entered + request.count > barrier.nprocs:
            # Who of them is one too many nobody can say; what is left would never complete.
            await self._end(key, barrier, errno.EINVAL)
        else:
            await self._count(key, barrier, request.count)
        self.answer(msg)

    async def _count(self, key: _Key, barrier: _Barrier, number: int) -> None:
        """More have entered."""
        barrier.entered += number
        barrier.unsent += number
        if barrier.unsent == barrier.nprocs:
            await self._end(key, barrier, 0)
        elif self.broker.rank and not self._timer.active:
            self._timer.start()

    def _send_counts(self) -> None:
        """Tells the parent of all who have entered since the last time."""
        # A copy: we are in no handler, so that what the parent makes of it may be back before the send returns.
        for (owner, name), barrier in list(self.barriers.items()):
            if barrier.unsent:
                update = {"name": name, "count": barrier.unsent, "nprocs": barrier.nprocs, "owner": owner}
                barrier.unsent = 0
                # With an answer, so that our parent hears, by a disconnect notice, if we are lost.
                sent = self.handle.rpc("barrier.update", update, FLUX_NODEID_UPSTREAM)
                sent.then(self._counted, (owner, name))

    def _counted(self, future: Any, key: _Key) -> None:
        """The parent has heard of our entrants; or there is none, and they will never be all."""
        try:
            future.get()
        except OSError as exc:
            barrier = self.barriers.get(key)
            if barrier is not None:
                self.broker.log.write(LOG_ERR, f"barrier {key[1]}: {exc.strerror}", "barrier")
                self._release(key, barrier, errno.ECONNABORTED)

    async def _end(self, key: _Key, barrier: _Barrier, errnum: int) -> None:
        """A barrier is over, by what has happened here: answers, and tells the others."""
        self._release(key, barrier, errnum)
        self._announced[key] = self._announced.get(key, 0) + 1
        try:
            await self.publish("barrier.exit", {"name": key[1], "owner": key[0], "errnum": errnum})
        except OSError as exc:
            self._came_back(key)
            self.broker.log.write(LOG_ERR, f"error publishing barrier.exit: {exc.strerror}", "barrier")

    def _came_back(self, key: _Key) -> bool:
        """True if an event of our own is expected; it is not any more."""
        expected = self._announced.pop(key, 0)
        if expected > 1:
            self._announced[key] = expected - 1
        return expected > 0

    def _release(self, key: _Key, barrier: _Barrier, errnum: int) -> None:
        """Forgets a barrier and answers its clients."""
        del self.barriers[key]
        # A set: who has entered may have told of entrants as well.
        for identity in barrier.entrants.keys() | barrier.children:
            keys = self._of_sender[identity]
            keys.discard(key)
            if not keys:
                del self._of_sender[identity]
        for request in barrier.entrants.values():
            if errnum:
                self.handle.respond_error(request, errnum)
            else:
                self.answer(request)

    @event_handler("exit")
    def exit(self, msg: Message) -> None:
        """Payload: `ExitEvent`: a barrier is over."""
        try:
            event = decode(msg, ExitEvent)
        except OSError as exc:
            self.broker.log.write(LOG_ERR, f"barrier.exit: {exc.strerror}", "barrier")
            return
        key = (event.owner, cut(event.name))
        if self._came_back(key):
            return
        barrier = self.barriers.get(key)
        if barrier is not None:
            self._release(key, barrier, event.errnum)

    @request_handler("disconnect", allow_guest=True)
    async def disconnect(self, msg: Message) -> None:
        """A client has gone, or a child with clients: the barriers it is in cannot complete."""
        gone = sender(msg)
        for key in list(self._of_sender.get(gone, ())):
            barrier = self.barriers.get(key)
            if barrier is not None and authorized(msg, key[0]):
                if barrier.entrants.pop(gone, None) is not None:
                    barrier.children.add(gone)  # nobody to answer; `_release` forgets it with the others
                await self._end(key, barrier, errno.ECONNABORTED)
