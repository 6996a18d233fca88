"""The service `attr`: broker attributes for everybody (spec 03, section 9.1)."""

from __future__ import annotations

import errno

import msgspec

from flux.brokermod import request_handler
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.payload import cut, decode
from fluxlet.service import Service, check_no_payload

_encode = msgspec.json.Encoder().encode


class NameRequest(msgspec.Struct):
    """Payload of attr.get and attr.rm."""

    name: str


class SetRequest(msgspec.Struct):
    """Payload of attr.set."""

    name: str
    value: str
    force: bool = False


class Attr(Service):
    """Serves `broker.attributes`."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        super().__init__(handle, broker)
        self.attributes = broker.attributes
        self.serve_all("get", self.get)
        self.serve_all("list", self.list)

    def get(self, msg: Message) -> None:
        """Payload `{"name": s}`; answers `{"value": s, "flags": i}`, flags bit 0: it never changes."""
        try:
            name = decode(msg, NameRequest).name
        except OSError:
            raise OSError(errno.EPROTO, None) from None
        value, flags = self.attributes.get(cut(name))
        self.answer(msg, b'{"value":%b,"flags":%d}\0' % (_encode(value), flags))

    def list(self, msg: Message) -> None:
        """Answers `{"names": [s, ...]}`."""
        check_no_payload(msg)
        self.handle.respond(msg, {"names": self.attributes.names()})

    @request_handler("set")
    async def set(self, msg: Message) -> None:
        """Payload `{"name": s, "value": s, "force"?: b}`."""
        request = decode(msg, SetRequest)
        name, value = cut(request.name), cut(request.value)
        self.attributes.check(name, value, request.force)
        if name.startswith("test-rd."):
            # These belong to a service that tests provide; it has the last word.
            await self.handle.rpc("testrd.setattr", {"name": name, "value": value})
        self.attributes.set(name, value, request.force)
        self.handle.respond(msg)

    @request_handler("rm")
    def rm(self, msg: Message) -> None:
        """Payload `{"name": s}`; no error if it does not exist."""
        self.attributes.remove(cut(decode(msg, NameRequest).name))
        self.handle.respond(msg)
