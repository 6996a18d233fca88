"""The module `barrier`: programs wait for each other (spec 04, 4.2; spec 02, section 10).

A barrier is known by its owner's userid and a name, over the whole instance. Every broker counts those who enter
through it and what its children tell; it sends its count up in one message a millisecond after the first, however
many there are. Whoever holds all of them publishes `barrier.exit`, and every broker answers its own clients.

Rules:
- A request is answered when the barrier ends, or at once if it cannot be part of it.
- A client that enters twice, or goes while it waits, ends the barrier with ECONNABORTED for all.
- A barrier ends with its event, also where it was published: events come to all ranks in one order, so that all forget
  the same entrants, and who enters after that, enters the next barrier of the name.
- A child that tells of entrants says which `barrier.exit` it has heard last. If the barrier has ended since, the child
  is about to answer them itself: they are not counted here, where the next of the name may be open already. The child
  is told so; what it still holds then it tells again.
- Entrants are found by sender and barriers by key: nothing here is a search, thousands may wait.
"""

from __future__ import annotations

import errno
from binascii import b2a_base64
from functools import partial
from syslog import LOG_ERR
from typing import TypeAlias

import msgspec

from flux.brokermod import event_handler, request_handler
from flux.constants import FLUX_NODEID_UPSTREAM
from flux.core.codec import dump_payload
from flux.core.future_state import RpcState
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.payload import cut, decode
from fluxlet.service import Service, authorized, sender

_BATCH_TIME = 0.001
#: How many names of barriers that are over are remembered. Who may not have heard of one before those tells again.
_REMEMBERED = 1024

#: Owner's userid, and name.
_Key: TypeAlias = tuple[int, str]


class EnterRequest(msgspec.Struct):
    """Payload of barrier.enter."""

    name: str
    nprocs: int


class UpdateRequest(msgspec.Struct):
    """Payload of barrier.update: `count` more have entered below.

    heard: number of the last barrier.exit that the sender has heard; None: it counts as it is.
    """

    name: str
    count: int
    nprocs: int
    owner: int
    heard: int | None = None


class UpdateAnswer(msgspec.Struct):
    """Payload of the answer to barrier.update, if they were not counted: the last barrier.exit that has been heard."""

    heard: int


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
        self.ends = False  # its event is published here


class BarrierService(Service):
    """The barriers of one broker."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        super().__init__(handle, broker)
        self.barriers: dict[_Key, _Barrier] = {}
        self._of_sender: dict[bytes, set[_Key]] = {}
        self._heard = 0  # number of the last barrier.exit
        self._over: dict[_Key, int] = {}  # of each name, the last ones last
        self._forgotten = 0  # number of the last that is not in there any more
        self._timer = broker.reactor.timer(_BATCH_TIME, 0.0, self._send_counts)

    def stop_service(self) -> None:
        """Nobody will be released any more."""
        self._timer.stop()
        barriers, self.barriers = self.barriers, {}
        for key, barrier in barriers.items():
            self.abandon(barrier.entrants.values())
            if barrier.children:
                # They will be all nowhere any more, and below nobody else would tell.
                self.ask(b"event.publish", self._exit_event(key, errno.ECONNABORTED), lambda answer: None, nodeid=0)

    @request_handler("enter", allow_guest=True)
    def enter(self, msg: Message) -> None:
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
            self._end(key, barrier, errno.ECONNABORTED)
            return
        elif nprocs != barrier.nprocs:
            raise OSError(errno.EINVAL, f"barrier {key[1]} is for {barrier.nprocs} processes, not {nprocs}")
        elif barrier.entered == nprocs:
            raise OSError(errno.EINVAL, f"all {nprocs} processes have entered barrier {key[1]} already")
        barrier.entrants[client] = msg
        self._of_sender.setdefault(client, set()).add(key)
        self._count(key, barrier, 1)

    @request_handler("update")
    def update(self, msg: Message) -> None:
        """Payload: `UpdateRequest`, from a child. Answers `UpdateAnswer` if it comes too late, and else nothing."""
        request = decode(msg, UpdateRequest)
        key = (request.owner, cut(request.name))
        if request.heard is not None and request.heard < self._over.get(key, self._forgotten):
            self.handle.respond(msg, {"heard": self._heard})
            return
        barrier = self.barriers.get(key)
        if barrier is None:
            barrier = self.barriers[key] = _Barrier(request.nprocs)
        child = sender(msg)
        barrier.children.add(child)
        self._of_sender.setdefault(child, set()).add(key)
        if request.nprocs != barrier.nprocs or barrier.entered + request.count > barrier.nprocs:
            # Who of them is one too many nobody can say; what is left would never complete.
            self._end(key, barrier, errno.EINVAL)
        else:
            self._count(key, barrier, request.count)
        self.answer(msg)

    def _count(self, key: _Key, barrier: _Barrier, number: int) -> None:
        """More have entered."""
        barrier.entered += number
        barrier.unsent += number
        if barrier.unsent == barrier.nprocs:
            self._end(key, barrier, 0)
        else:
            self._tell_soon()

    def _tell_soon(self) -> None:
        """The parent is to hear of those who have entered; there is one unless all come together here."""
        if self.broker.rank and not self._timer.active:
            self._timer.start()

    def _send_counts(self) -> None:
        """Tells the parent of all who have entered since the last time."""
        # A copy: we are in no handler, so that what the parent makes of it may be back before the send returns.
        for key, barrier in list(self.barriers.items()):
            count = barrier.unsent
            if count and not barrier.ends:
                barrier.unsent = 0
                owner, name = key
                raw = dump_payload(
                    {"name": name, "count": count, "nprocs": barrier.nprocs, "owner": owner, "heard": self._heard}
                )
                # With an answer, so that our parent hears, by a disconnect notice, if we are lost.
                told = partial(self._told, key, barrier, count)
                self.ask(b"barrier.update", raw, told, nodeid=FLUX_NODEID_UPSTREAM)

    def _told(self, key: _Key, barrier: _Barrier, count: int, answer: RpcState) -> None:
        """The parent has heard of our entrants; or there is none, and they will never be all."""
        if not answer.errnum:
            if answer.value.raw is None:
                return
            # It has not counted them. What it had heard before it answered, so have we.
            self._heard = max(self._heard, decode(answer.value, UpdateAnswer).heard)
        if self.barriers.get(key) is not barrier:
            return  # they are answered
        if answer.errnum:
            self.broker.log.write(LOG_ERR, f"barrier {key[1]}: {answer.error_text()}", "barrier")
            self._release(key, barrier, errno.ECONNABORTED)
        else:
            barrier.unsent += count
            self._tell_soon()

    def _end(self, key: _Key, barrier: _Barrier, errnum: int) -> None:
        """A barrier is over, by what has happened here: all hear of that, and so do we."""
        if barrier.ends:
            return
        barrier.ends = True
        request = self._exit_event(key, errnum)
        self.ask(b"event.publish", request, partial(self._published, key, barrier), nodeid=0)

    @staticmethod
    def _exit_event(key: _Key, errnum: int) -> bytes | None:
        """The request that publishes `barrier.exit`, as it goes on the wire."""
        raw = dump_payload({"name": key[1], "owner": key[0], "errnum": errnum}) or b""
        payload = b2a_base64(raw, newline=False).decode()
        return dump_payload({"topic": "barrier.exit", "flags": 0, "payload": payload})

    def _published(self, key: _Key, barrier: _Barrier, answer: RpcState) -> None:
        """The event is out; or nobody can be told."""
        if answer.errnum:
            self.broker.log.write(LOG_ERR, f"error publishing barrier.exit: {answer.error_text()}", "barrier")
            if self.barriers.get(key) is barrier:
                self._release(key, barrier, errno.ECONNABORTED)

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
        self._remember(key, msg.aux1)
        barrier = self.barriers.get(key)
        if barrier is not None:
            self._release(key, barrier, event.errnum)

    def _remember(self, key: _Key, number: int) -> None:
        """The last barrier of a name has ended with this event."""
        self._heard = number
        self._over.pop(key, None)  # it is the youngest again
        self._over[key] = number
        if len(self._over) > _REMEMBERED:
            self._forgotten = self._over.pop(next(iter(self._over)))

    @request_handler("disconnect", allow_guest=True)
    def disconnect(self, msg: Message) -> None:
        """A client has gone, or a child with clients: the barriers it is in cannot complete."""
        gone = sender(msg)
        for key in list(self._of_sender.get(gone, ())):
            barrier = self.barriers.get(key)
            if barrier is not None and authorized(msg, key[0]):
                if barrier.entrants.pop(gone, None) is not None:
                    barrier.children.add(gone)  # nobody to answer; `_release` forgets it with the others
                self._end(key, barrier, errno.ECONNABORTED)
