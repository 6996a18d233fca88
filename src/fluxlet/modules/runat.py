"""The service `runat`: commands to be run at a certain time in the life of the instance (spec 03, 7.7)."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from flux.brokermod import request_handler
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.payload import cut, read_object
from fluxlet.service import Service

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker


class Runat(Service):
    """Keeps the commands; the life cycle takes those of the entry `cleanup` and runs them."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        self.entries: dict[str, deque[str]] = broker.life.entries if broker.life else {}
        super().__init__(handle, broker)

    @request_handler("push")
    def push(self, msg: Message) -> None:
        """Payload `{"name": s, "commands": [s, ...]}`: each is put in front of those of the entry."""
        request = read_object(msg)
        name = request.get("name")
        if not isinstance(name, str) or "commands" not in request:
            raise OSError(errno.EPROTO, None)
        commands = request["commands"]
        if not isinstance(commands, list) or not commands:
            raise OSError(errno.EPROTO, "commands array is empty")
        lines = [cut(line) if isinstance(line, str) else "" for line in commands]
        if not all(lines):
            raise OSError(errno.EPROTO, "cannot push an empty command line")
        self.entries.setdefault(cut(name), deque()).extendleft(lines)
        self.handle.respond(msg)
