"""BackingStore: what the modules that serve `content-backing` have in common (spec 05, 3.1)."""

from __future__ import annotations

import errno
from typing import Any

from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.modules.content.digest import Hash
from fluxlet.modules.content.ending import nothing_stays
from fluxlet.payload import read_object
from fluxlet.service import Service


class BackingStore(Service):
    """A module that is the backing store; subclasses have the methods `content-backing.*`."""

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        self.hash = Hash(broker.attributes.visible.get("content.hash", "sha1"))
        super().__init__(handle, broker, *args)
        broker.router.services[b"content-backing"] = self.module

    async def start_service(self) -> None:
        """The content store is told that we are here."""
        await self.handle.rpc("content.register-backing", {"name": self.name, "store-many": True})

    async def finish_service(self) -> None:
        """What is in memory is stored, if it is to stay."""
        if not nothing_stays(self.broker):
            await self.handle.rpc("content.flush")
        await self.handle.rpc("content.unregister-backing")

    def digest_of(self, request: Message) -> bytes:
        """The payload of a request about a blob. Raises OSError(EPROTO) if it is no digest."""
        if request.raw is None or len(request.raw) != self.hash.size:
            raise OSError(errno.EPROTO, None)
        return request.raw

    @staticmethod
    def checkpoint_of(request: Message) -> Any:
        """The checkpoint in the payload of checkpoint-put. Raises OSError(EPROTO), OSError(EINVAL)."""
        payload = read_object(request)
        if "value" not in payload:
            raise OSError(errno.EPROTO, "the payload has no value")
        if not isinstance(payload["value"], dict | list):
            raise OSError(errno.EINVAL, "failed to encode checkpoint value")
        return payload["value"]
