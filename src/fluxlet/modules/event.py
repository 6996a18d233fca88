"""The service `event`: publishing, on rank 0; subscriptions of modules (spec 01, section 5; spec 03, 13.2).

Subscriptions of clients are the business of their connection and do not come here.
"""

from __future__ import annotations

import errno
from binascii import Error as Base64Error
from binascii import a2b_base64

import msgspec

from flux.brokermod import request_handler
from flux.constants import FLUX_MSGFLAG_PRIVATE
from flux.message import Message
from fluxlet.broker.loaded import LoadedModule
from fluxlet.payload import cut, decode
from fluxlet.service import Service


class PublishRequest(msgspec.Struct):
    """Payload of event.publish."""

    topic: str
    flags: int
    payload: str = ""


class SubscribeRequest(msgspec.Struct):
    """Payload of event.subscribe and event.unsubscribe."""

    topic: str


def requesting_module(service: Service, message: Message) -> LoadedModule:
    """The module of this broker that a request is from. Raises OSError(EPROTO) if it is from anybody else."""
    for module in service.broker.modules.values():
        if message.routes == module.local_path:
            return module
    raise OSError(errno.EPROTO, f"{message.topic} is for the clients and modules of this broker")


def decode_base64(text: str) -> bytes:
    """The bytes of base64 text, padded or not. Raises ValueError."""
    return a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)


class Event(Service):
    """Publishes events."""

    @request_handler("publish", allow_guest=True)
    def publish_event(self, msg: Message) -> None:
        """Payload `{"topic": s, "flags": i, "payload"?: base64}`; answers `{"seq": i}`, after the event is out."""
        router = self.broker.router
        if router.rank:
            raise OSError(errno.EPROTO, "this service is only available on rank 0")
        try:
            request = decode(msg, PublishRequest)
            raw = decode_base64(request.payload) if request.payload else None
        except (OSError, Base64Error, ValueError):
            raise OSError(errno.EPROTO, None) from None
        flags = request.flags
        if flags and flags != FLUX_MSGFLAG_PRIVATE:
            raise OSError(errno.EPROTO, None)
        event = Message.event(cut(request.topic).encode(), raw, flags)
        event._userid = msg._userid
        event._rolemask = msg._rolemask
        self.broker.route(router.publish(event))
        self.answer(msg, b'{"seq":%d}\0' % event.aux1)

    @request_handler("subscribe")
    def subscribe(self, msg: Message) -> None:
        """Payload `{"topic": s}`: the module gets events whose topic begins so."""
        module = requesting_module(self, msg)
        topic = cut(decode(msg, SubscribeRequest).topic).encode()
        self.broker.router.subscribe(module, topic)
        self.answer(msg)

    @request_handler("unsubscribe")
    def unsubscribe(self, msg: Message) -> None:
        """Payload `{"topic": s}`: undoes one `subscribe`."""
        module = requesting_module(self, msg)
        topic = cut(decode(msg, SubscribeRequest).topic).encode()
        if not self.broker.router.unsubscribe(module, topic):
            raise OSError(errno.ENOENT, None)
        self.answer(msg)
