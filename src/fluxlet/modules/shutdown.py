"""The service `shutdown`: a client ends the instance, and may follow how it does (spec 03, 7.7).

Rules:
- A stream gets the log lines that are bad enough, until the state goodbye: then its end. The broker goes on when
  the client has gone, so that it has seen all.
- The initial program may wait for the very client that waits here, after ignoring its SIGHUP. That client is
  answered after a while, or both would wait for ever (section 17).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from flux.brokermod import request_handler
from flux.constants import FLUX_MSGFLAG_NORESPONSE, FLUX_MSGFLAG_STREAMING
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.guardian import family
from fluxlet.broker.local_server import Connection
from fluxlet.broker.log import short_text
from fluxlet.broker.state import Transition
from fluxlet.payload import read_object
from fluxlet.service import Service, may_end, sender

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker

_DEFAULT_LEVEL = 3
#: Seconds that a client which the initial program waits for is kept waiting.
_GRACE = 5.0


class Shutdown(Service):
    """Ends the instance on request."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        super().__init__(handle, broker)
        self._request: Message | None = None
        self._level = _DEFAULT_LEVEL
        self._ended = False
        self._grace = broker.reactor.timer(_GRACE, 0.0, self._release_descendant)
        if broker.state is not None and broker.life is not None:
            broker.life.hold_goodbye = lambda: self._request is not None
            broker.state.watch(self._entered)

    def stop_service(self) -> None:
        """Lets go of the log."""
        self._grace.stop()
        if self._follow in self.broker.log.listeners:
            self.broker.log.listeners.remove(self._follow)

    @request_handler("start")
    def start(self, msg: Message) -> None:
        """Payload `{"loglevel"?: severity}`; answers, or streams `{"log": line}` until the instance is about to go."""
        machine, life = self.broker.state, self.broker.life
        level = self._read_level(msg)
        if machine is None or life is None or self.broker.rank:
            raise OSError(errno.EINVAL, "shutdown can only be initiated on rank 0")
        if machine.state != "run":
            raise OSError(errno.EINVAL, f"shutdown cannot be initiated in state {machine.state}")
        streaming = bool(msg.flags & FLUX_MSGFLAG_STREAMING)
        if streaming and self._request is not None:
            raise OSError(errno.EINVAL, "shutdown is already in progress")
        if streaming and not msg.flags & FLUX_MSGFLAG_NORESPONSE:
            self._request, self._level = msg, level
            self.broker.log.listeners.append(self._follow)
            self._grace.start()
        elif not streaming:
            self.handle.respond(msg)
        life.request_shutdown()

    @staticmethod
    def _read_level(msg: Message) -> int:
        if msg.raw is None:
            return _DEFAULT_LEVEL
        level: Any = read_object(msg).get("loglevel", _DEFAULT_LEVEL)
        if type(level) is not int:
            raise OSError(errno.EPROTO, "loglevel is not a number")
        return level

    def _follow(self, severity: int, message: bytes) -> None:
        if self._request is not None and not self._ended and severity <= self._level:
            self.handle.respond(self._request, {"log": short_text(message) + "\n"})

    def _entered(self, transition: Transition) -> None:
        if transition.new == "goodbye":
            self._end()

    def _end(self) -> None:
        if self._request is not None and not self._ended:
            self._ended = True
            self.handle.respond_error(self._request, errno.ENODATA)

    def _release_descendant(self) -> None:
        """Ends the stream of a client that the initial program has started, if that runs still."""
        request, life = self._request, self.broker.life
        if request is None or life is None or not life.program_pid:
            return
        client = self.broker.clients.all.get(sender(request))
        if isinstance(client, Connection) and client.pid in family({life.program_pid}, set()):
            self._end()

    @request_handler("disconnect", allow_guest=True)
    def disconnect(self, msg: Message) -> None:
        """A client has gone: if it was the one that followed, the broker may go as well."""
        if self._request is not None and may_end(self._request, msg):
            self._request = None
            self._ended = False
            if self._follow in self.broker.log.listeners:
                self.broker.log.listeners.remove(self._follow)
            if self.broker.life is not None:
                self.broker.life.goodbye()
