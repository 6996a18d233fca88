"""The service `service`: additional service names of modules (spec 01, section 4; spec 03, 13.3).

Those of clients are the business of their connection and do not come here.
"""

from __future__ import annotations

import errno

import msgspec

from flux.brokermod import request_handler
from flux.message import Message
from fluxlet.modules.event import requesting_module
from fluxlet.payload import cut, decode
from fluxlet.service import Service


class ServiceRequest(msgspec.Struct):
    """Payload of service.add and service.remove."""

    service: str


class Services(Service):
    """Requests for a name that a module adds go to that module."""

    @request_handler("add")
    def add(self, msg: Message) -> None:
        """Payload `{"service": s}`."""
        module = requesting_module(self, msg)
        name = cut(decode(msg, ServiceRequest).service)
        if "." in name:
            raise OSError(errno.EINVAL, "a service name has no dot")
        if name.encode() in self.broker.router.services:
            raise OSError(errno.EEXIST, f"service name {name} is in use")
        self.broker.router.services[name.encode()] = module
        self.answer(msg)

    @request_handler("remove")
    def remove(self, msg: Message) -> None:
        """Payload `{"service": s}`; not for the name that the module was loaded under."""
        module = requesting_module(self, msg)
        name = cut(decode(msg, ServiceRequest).service)
        services = self.broker.router.services
        if name == module.name or services.get(name.encode()) is not module:
            raise OSError(errno.ENOENT, None)
        del services[name.encode()]
        self.answer(msg)
