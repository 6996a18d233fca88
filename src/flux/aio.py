"""Flux under asyncio.

    async with flux.aio.connect() as h:
        print(await h.rpc("broker.ping", {"seq": 1}))
        async with h.subscribe("my.") as events:
            async for event in events:
                ...

`AsyncFlux` is a `Flux` handle whose connection the running asyncio loop reads: any loop that has `add_reader`,
uvloop included. Nothing polls and no thread is started. What the plain handle does by waiting is a coroutine
here; what only sends is a plain call. Futures of the plain API (`h.flux.rpc(...)`, and those that `flux.kvs` or
`flux.job` return) can be awaited as well.

Cancelling a task that awaits an RPC gives the RPC up: its response is ignored when it comes, and a stream is
cancelled at the service. An iterator over a stream or over events that is dropped, as by `break`, ends as if closed.

What is sent is sent at once: a program that sends faster than the broker reads waits for it, and its loop with it.
Connecting waits too; to a local socket that is a matter of microseconds.
"""

from __future__ import annotations

import asyncio
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from flux.constants import (
    FLUX_NODEID_ANY,
    FLUX_RPC_NORESPONSE,
    FLUX_RPC_STREAMING,
)
from flux.core.aiopump import attach
from flux.core.aioservice import ServedService
from flux.core.aiostreams import EventStream, ResponseStream
from flux.core.handle import Flux
from flux.rpc import RPC
from flux.util import encode_topic

if TYPE_CHECKING:
    from flux.job.asynchronous import AsyncJobs
    from flux.kvs.asynchronous import AsyncKVS
    from flux.resource.asynchronous import AsyncResources
    from flux.subprocess.asynchronous import AsyncSubprocess

__all__ = ["AsyncFlux", "EventStream", "ResponseStream", "ServedService", "connect"]


class AsyncFlux:
    """A connection to a Flux instance, for use under the running asyncio loop.

    Args:
        url, flags: as for `flux.Flux`.

    Raises OSError if there is no connection to be had; RuntimeError outside a running loop. Close it with
    `close`, or use it in `async with`.
    """

    def __init__(self, url: str | bytes | None = None, flags: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self.flux = Flux(url, flags)
        """The plain handle, for what only sends and for the modules of the `flux` package."""
        attach(self.flux.core, loop)
        # Weakly: an iterator that its user has dropped is over.
        self._open: weakref.WeakSet[ResponseStream | EventStream | ServedService] = weakref.WeakSet()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; idempotent.

        RPCs still awaited fail with ECONNRESET, iterators over streams and events end, and the tasks of services
        are cancelled.
        """
        for thing in list(self._open):
            thing._close_local()
        if self.flux.handle is not None:
            self.flux.__exit__(None, None, None)

    # RPC.

    async def rpc(self, topic: str, payload: Any = None, nodeid: int = FLUX_NODEID_ANY) -> Any:
        """Calls a service: the response's decoded payload, None if it has none.

        Raises OSError of an error response. Specified in spec 02, section 8.
        """
        return await self.flux.rpc(topic, payload, nodeid)

    def send(self, topic: str, payload: Any = None, nodeid: int = FLUX_NODEID_ANY) -> None:
        """Sends a request that gets no response."""
        self.flux.rpc(topic, payload, nodeid, FLUX_RPC_NORESPONSE)

    def stream(
        self, topic: str, payload: Any = None, nodeid: int = FLUX_NODEID_ANY, cancel: str | None = None
    ) -> ResponseStream:
        """Calls a streaming service: an async iterator over the payloads of its responses.

        Args:
            cancel: the service's cancel method, sent when the iterator is closed early; None for the usual one.

        The iteration ends at ENODATA; other errors are raised. Leave a loop early inside `async with`, or call
        `aclose`, to cancel the stream at the service.
        """
        return ResponseStream(self, RPC(self.flux, topic, payload, nodeid, FLUX_RPC_STREAMING), cancel)

    # Events.

    def subscribe(self, topic: str) -> EventStream:
        """The events whose topic begins with `topic`: an async context manager and iterator of messages.

        The subscription is in force once the context is entered, or the first event awaited.
        """
        return EventStream(self, _text(topic))

    def publish(self, topic: str, payload: Any = None) -> None:
        """Publishes an event, without waiting."""
        self.flux.event_send(topic, payload)

    async def publish_sync(self, topic: str, payload: Any = None, private: bool = False) -> int:
        """Publishes an event and waits for its sequence number."""
        import base64

        from flux.core.codec import dump_payload

        request: dict[str, Any] = {"topic": topic, "flags": 0x20 if private else 0}
        raw = dump_payload(payload)
        if raw is not None:
            request["payload"] = base64.b64encode(raw).decode()
        answer = await self.rpc("event.publish", request, nodeid=0)
        return int(answer["seq"])

    # Services.

    def service(self, name: str, *, allow_guest: bool = False) -> ServedService:
        """A service of this program: ``async with h.service("name") as service``.

        Inside, ``service.method("greet")`` decorates the handlers; requests ``name.greet`` come to them.
        """
        return ServedService(self, _text(name), allow_guest)

    # The KVS.

    @property
    def kvs(self) -> AsyncKVS:
        """The key-value store: ``await h.kvs.get("a.b")``; see `flux.kvs.asynchronous`."""
        from flux.kvs.asynchronous import AsyncKVS

        return AsyncKVS(self)

    # Jobs.

    @property
    def job(self) -> AsyncJobs:
        """Jobs: ``await h.job.submit(jobspec)``; see `flux.job.asynchronous`."""
        from flux.job.asynchronous import AsyncJobs

        return AsyncJobs(self)

    # Resources.

    @property
    def resource(self) -> AsyncResources:
        """Resources: ``await h.resource.list()``; see `flux.resource.asynchronous`."""
        from flux.resource.asynchronous import AsyncResources

        return AsyncResources(self)

    @property
    def subprocess(self) -> AsyncSubprocess:
        """Processes on any rank: ``await h.subprocess.run(["date"], rank=1)``; see `flux.subprocess.asynchronous`."""
        from flux.subprocess.asynchronous import AsyncSubprocess

        return AsyncSubprocess(self)

    # Attributes.

    async def attr_get(self, name: str) -> str:
        """The value of a broker attribute. Raises OSError(ENOENT) for an unknown one."""
        name = _text(name)
        core = self.flux.core
        value = core.link.attrs.get(name)
        if value is None:
            value = core.keep_attr(name, await self.rpc("attr.get", {"name": name}))
        return core.attr_shown(name, value)

    async def attr_set(self, name: str, value: str) -> None:
        """Sets a broker attribute."""
        await self.rpc("attr.set", {"name": name, "value": value})

    async def get_rank(self) -> int:
        """The rank of the broker connected to."""
        return int(await self.attr_get("rank"))

    async def get_size(self) -> int:
        """The number of brokers of the instance."""
        return int(await self.attr_get("size"))

    async def log(self, level: int, text: str) -> None:
        """Logs to the instance; `level` is a syslog priority."""
        await self.get_rank()  # cached from here on: the plain call below does not wait
        self.flux.log(level, text)

    async def barrier(self, name: str | None, nprocs: int) -> None:
        """Enters a barrier and waits until `nprocs` processes have. Errors as of `Flux.barrier`."""
        await self.flux.barrier_async(name, nprocs)


def connect(url: str | bytes | None = None, flags: int = 0) -> AsyncFlux:
    """Connects to a Flux instance: ``async with flux.aio.connect() as h``. Arguments as for `flux.Flux`."""
    return AsyncFlux(url, flags)


def _text(name: str | bytes) -> str:
    """A topic, or a name like one; raises as every function that takes one, before anything has been done with it."""
    return encode_topic(name).decode("utf-8", "surrogateescape")
