"""Resources under asyncio: what `AsyncFlux.resource` is.

async with flux.aio.connect() as h:
    print((await h.resource.list()).free.ncores)
    await h.resource.drain("node3", "bad disk")
    async for event in h.resource.events():
        print(event)
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from flux.resource.journal import ResourceJournalEvent
from flux.resource.list import SchedResourceList, resource_list
from flux.resource.status import ResourceStatus, ResourceStatusRPC

if TYPE_CHECKING:
    from flux.aio import AsyncFlux


class AsyncResources:
    """The resources of the instance that `owner` is connected to."""

    def __init__(self, owner: AsyncFlux) -> None:
        self._owner = owner

    async def list(self) -> SchedResourceList:
        """What is free, in use, and down. Raises OSError."""
        listed: SchedResourceList = await resource_list(self._owner.flux)
        return listed

    async def status(self) -> ResourceStatus:
        """How nodes do. Raises OSError."""
        asked = ResourceStatusRPC(self._owner.flux)
        for rpc in asked.rpcs:
            with suppress(OSError):  # which of them matter, `get` knows
                await rpc
        return asked.get()

    async def drain(self, targets: str, reason: str | None = None, mode: str | None = None) -> None:
        """Has nodes not used for jobs that start from now on.

        Args:
            targets: ranks or hosts.
            reason: why.
            mode: what if they are drained: "update" leaves them, "overwrite" gives them the reason,
                "force-overwrite" the time as well; None: OSError(EEXIST), if there is a reason already.

        Raises OSError.
        """
        await self._change("resource.drain", targets, reason, mode)

    async def undrain(self, targets: str, reason: str | None = None, mode: str | None = None) -> None:
        """Has drained nodes used again; with any `mode` it is no error if some are not drained. Raises OSError."""
        await self._change("resource.undrain", targets, reason, mode)

    async def _change(self, topic: str, targets: str, reason: str | None, mode: str | None) -> None:
        request = {"targets": targets, "reason": reason, "mode": mode}
        await self._owner.rpc(topic, {key: value for key, value in request.items() if value is not None}, 0)

    async def events(self, follow: bool = True) -> AsyncIterator[ResourceJournalEvent]:
        """What has happened to resources, and with `follow` what happens then. Raises OSError."""
        stream: Any = self._owner.stream("resource.journal", nodeid=0)
        async with aclosing(stream):
            async for response in stream:
                if not response["events"] and not follow:
                    return
                for entry in response["events"]:
                    yield ResourceJournalEvent(entry, response.get("R"))
