"""The service `state-machine`: where the broker is in its life, for those who ask or watch (spec 03, section 6).

A broker without a life cycle, as programs put together, is in state run from the start and stays there.
"""

from __future__ import annotations

import errno
import time
from syslog import LOG_ERR
from typing import Any

import msgspec

from flux.brokermod import request_handler
from flux.constants import FLUX_MSGFLAG_NORESPONSE, FLUX_MSGFLAG_STREAMING
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.broker.state import NUMBERS, STATES, Transition
from fluxlet.payload import cut, decode, read_object
from fluxlet.service import Service, check_no_payload, may_end

_RUN = NUMBERS["run"]
_LAST = NUMBERS["exit"]
_SURPASSED = "broker has surpassed RUN state"


class PostRequest(msgspec.Struct):
    """Payload of state-machine.post."""

    event: str
    error: bool = False


class StateMachineService(Service):
    """Serves `broker.state`."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        super().__init__(handle, broker)
        self.loaded = time.monotonic()
        self.waiting: list[Message] = []
        self.monitors: list[tuple[Message, int]] = []
        if broker.state is not None:
            broker.state.watch(self._entered)

    def stop_service(self) -> None:
        """Nobody will hear of states any more."""
        self.abandon(self.waiting)
        self.abandon(request for request, _ in self.monitors)

    @property
    def number(self) -> int:
        """The number of the current state."""
        return _RUN if self.broker.state is None else self.broker.state.number

    @request_handler("get", allow_guest=True)
    def get(self, msg: Message) -> None:
        """Answers `{"state": s, "duration": seconds in it}`."""
        check_no_payload(msg)
        machine = self.broker.state
        since = self.loaded if machine is None else machine.since
        self.handle.respond(msg, {"state": STATES[self.number], "duration": time.monotonic() - since})

    @request_handler("wait", allow_guest=True)
    def wait(self, msg: Message) -> None:
        """Answers once the state is run; ENOENT if it is past that."""
        check_no_payload(msg)
        self.waiting.append(msg)
        self._answer_waiting(self.number)

    def _answer_waiting(self, number: int) -> None:
        if number < _RUN:
            return
        waiting, self.waiting = self.waiting, []
        for request in waiting:
            if number == _RUN:
                self.handle.respond(request)
            else:
                self.handle.respond_error(request, errno.ENOENT, _SURPASSED)

    @request_handler("monitor")
    def monitor(self, msg: Message) -> None:
        """Payload `{"final"?: number of a state}`; answers `{"state": number}`, in a stream for every change up
        to the final one."""
        final = _final(msg)
        if not msg.flags & FLUX_MSGFLAG_STREAMING:
            if self.number > final:
                raise OSError(errno.ENODATA, None)
            self.handle.respond(msg, {"state": self.number})
        elif self._tell(msg, final, self.number) and not msg.flags & FLUX_MSGFLAG_NORESPONSE:
            self.monitors.append((msg, final))

    def _tell(self, request: Message, final: int, number: int) -> bool:
        """Tells a stream of a state; False if that ends it."""
        if number <= final:
            self.handle.respond(request, {"state": number})
        if number < final:
            return True
        self.handle.respond_error(request, errno.ENODATA)
        return False

    def _entered(self, transition: Transition) -> None:
        if transition.new == transition.old or self.module.instance is not self:
            return
        number = NUMBERS[transition.new]
        self._answer_waiting(number)
        self.monitors = [(request, final) for request, final in self.monitors if self._tell(request, final, number)]

    @request_handler("post")
    def post(self, msg: Message) -> None:
        """Payload `{"event": s, "error"?: b}`, NORESPONSE: posts an event. `error`: the exit code is to be 1."""
        if not msg.flags & FLUX_MSGFLAG_NORESPONSE:
            raise OSError(errno.EPROTO, None)
        try:
            request = decode(msg, PostRequest)
        except OSError:
            self.broker.log.write(LOG_ERR, "state-machine.post: Protocol error")
            return
        if request.error and self.broker.life is not None:
            self.broker.life.fail()
        if self.broker.state is not None:
            self.broker.state.post(cut(request.event))

    @request_handler("sd-notify")
    def sd_notify(self, msg: Message) -> None:
        """Status text for systemd, which has not started us: accepted, and never answered."""

    @request_handler("disconnect")
    def disconnect(self, msg: Message) -> None:
        """A client has gone: it waits no more."""
        self.waiting = [request for request in self.waiting if not may_end(request, msg)]
        self.monitors = [(request, final) for request, final in self.monitors if not may_end(request, msg)]


def _final(msg: Message) -> int:
    """The `final` of a monitor request; what does not decode means the last state, as without it (spec 01, 1.7)."""
    try:
        final: Any = read_object(msg).get("final")
    except OSError:
        return _LAST
    return final if type(final) is int and final >= 0 else _LAST
