"""The service `log`: what programs log, and who reads it (spec 03, 11.2). What becomes of a message: `broker.log`."""

from __future__ import annotations

import errno

import msgspec

from flux.brokermod import request_handler
from flux.constants import FLUX_MSGFLAG_NORESPONSE, FLUX_MSGFLAG_UPSTREAM
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.payload import cut, decode
from fluxlet.service import Service, may_end, require_streaming


class DmesgRequest(msgspec.Struct):
    """Payload of log.dmesg."""

    follow: bool
    nobacklog: bool = False


class CancelRequest(msgspec.Struct):
    """Payload of log.cancel."""

    matchtag: int


class SetattrRequest(msgspec.Struct):
    """Payload of log.setattr."""

    name: str
    value: str


class LogService(Service):
    """Serves `broker.log`."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        super().__init__(handle, broker)
        self.store = broker.log
        self.followers: list[Message] = []
        if broker.rank:
            self.store.forward = self._forward
        self.store.listeners.append(self._appended)

    def stop_service(self) -> None:
        """The log goes on without its readers."""
        self.store.listeners.remove(self._appended)
        self.store.forward = None
        self.abandon(self.followers)

    def _forward(self, message: bytes) -> None:
        """Sends a message to the log of the parent."""
        flags = FLUX_MSGFLAG_UPSTREAM | FLUX_MSGFLAG_NORESPONSE
        self.module.post(Message.request(b"log.append", message, self.broker.rank, 0, flags))

    def _appended(self, severity: int, message: bytes) -> None:
        for request in tuple(self.followers):
            self.module.post(request.response(message + b"\0"))

    @request_handler("append")
    def append(self, msg: Message) -> None:
        """Payload: one message as it is, not JSON. Answered only if the request has a matchtag."""
        self.store.append(msg.raw or b"")
        if msg.aux2:
            self.answer(msg)

    @request_handler("dmesg")
    def dmesg(self, msg: Message) -> None:
        """Payload `{"follow": b, "nobacklog"?: b}`; a stream of messages, each the text as it was logged."""
        require_streaming(msg)
        request = decode(msg, DmesgRequest)
        if not request.nobacklog:
            for message in self.store.ring:
                self.answer(msg, message + b"\0")
        if not request.follow:
            raise OSError(errno.ENODATA, None)
        if not msg.flags & FLUX_MSGFLAG_NORESPONSE:
            self.followers.append(msg)

    @request_handler("cancel")
    def cancel(self, msg: Message) -> None:
        """Payload `{"matchtag": i}`: ends that log.dmesg of the sender with ENODATA."""
        if not msg.flags & FLUX_MSGFLAG_NORESPONSE:
            raise OSError(errno.EPROTO, "log.cancel is to be sent with NORESPONSE: it has no answer")
        matchtag = decode(msg, CancelRequest).matchtag
        for request in self.followers:
            if request.aux2 == matchtag and may_end(request, msg):
                self.followers.remove(request)
                self.handle.respond_error(request, errno.ENODATA)
                return

    @request_handler("disconnect")
    def disconnect(self, msg: Message) -> None:
        """A client has gone: its streams end."""
        self.followers = [request for request in self.followers if not may_end(request, msg)]

    @request_handler("clear")
    def clear(self, msg: Message) -> None:
        """Empties the ring."""
        self.store.clear()
        self.handle.respond(msg)

    @request_handler("stats-get")
    def stats_get(self, msg: Message) -> None:
        """Answers `{"ring-used": i, "count": i, "local": i, "remote": i}`."""
        log = self.store
        self.handle.respond(
            msg, {"ring-used": len(log.ring), "count": log.count, "local": log.local, "remote": log.remote}
        )

    @request_handler("setattr")
    def setattr(self, msg: Message) -> None:
        """Payload `{"name": s, "value": s}`: an attribute of the log is to change."""
        request = decode(msg, SetattrRequest)
        if cut(request.name) != "log-stderr-level":
            raise OSError(errno.EINVAL, "unknown log attribute")
        self.broker.attributes.set("log-stderr-level", cut(request.value))
        self.handle.respond(msg)
