"""The service `broker`: the broker's environment and built-in paths (spec 03, 13.1). Its standard methods
(ping and so on) are those of every module.
"""

from __future__ import annotations

import errno
import os
from typing import Any

from flux.brokermod import request_handler
from flux.conf_builtin import conf_builtin_get
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.payload import cut, read_object
from fluxlet.service import Service


def _required(msg: Message, key: str) -> Any:
    request = read_object(msg)
    if key not in request:
        raise OSError(errno.EPROTO, f"{msg.topic} request has no {key}")
    return request[key]


class BrokerService(Service):
    """What only the broker's process can tell or change."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        super().__init__(handle, broker)
        self.serve_all("conf-builtin", self.conf_builtin)

    @request_handler("getenv")
    def getenv(self, msg: Message) -> None:
        """Payload `{"names": [s, ...]}`; answers `{"env": {name: value}}` with those that are set."""
        names = _required(msg, "names")
        if not isinstance(names, list):
            names = []
        found = {name: os.environ[name] for name in names if isinstance(name, str) and name in os.environ}
        self.handle.respond(msg, {"env": found})

    @request_handler("setenv")
    def setenv(self, msg: Message) -> None:
        """Payload `{"env": {name: value or null}}`; null unsets. All or nothing."""
        changes = _required(msg, "env")
        if not isinstance(changes, dict):
            raise OSError(errno.EPROTO, None)
        for name, value in changes.items():
            if not name or "=" in name or not (value is None or isinstance(value, str)):
                raise OSError(errno.EPROTO, None)
        for name, value in changes.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = cut(value)
        self.handle.respond(msg)

    def conf_builtin(self, msg: Message) -> None:
        """Payload `{"keys": [s, ...]}`; answers `{"values": {key: value}}`."""
        keys = _required(msg, "keys")
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise OSError(errno.EPROTO, None)
        values = {}
        for key in keys:
            try:
                values[key] = conf_builtin_get(key)
            except ValueError:
                raise OSError(errno.EINVAL, f"{key}: invalid key") from None
        self.handle.respond(msg, {"values": values})

    @request_handler("disconnect")
    def disconnect(self, msg: Message) -> None:
        """A client has gone: the broker keeps nothing for clients. Answered only to say that it has no answer."""
        raise OSError(errno.EPROTO, "broker.disconnect is to be sent with NORESPONSE: it has no answer")
