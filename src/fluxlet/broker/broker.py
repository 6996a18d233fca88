"""Broker: the parts of one broker put together, and the way of a message through them.

    socket -> LocalServer -> Clients.receive -> Router.receive -> deliver -> a module's handler
           <- LocalServer <- deliver <- Router.receive <- submit <- respond <-

Everything runs in one thread, on one reactor. Messages that modules send are queued, and worked off before the
loop goes on: a handler is never called from within another one's `respond`.
"""

from __future__ import annotations

import os
import uuid as uuidlib
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from flux.brokermod import BrokerModule
from flux.constants import FLUX_MSGTYPE_RESPONSE
from flux.message import Message
from flux.reactor import Reactor
from flux.wire import Framer
from fluxlet.broker.access import Access
from fluxlet.broker.attributes import Attributes
from fluxlet.broker.clients import Client, Clients
from fluxlet.broker.host import Module
from fluxlet.broker.loaded import LoadedModule
from fluxlet.broker.local_server import Limits, LocalServer
from fluxlet.broker.log import Log
from fluxlet.broker.router import Delivery, Endpoint, Router
from fluxlet.broker.sleeping import SleepingModule

if TYPE_CHECKING:
    from fluxlet.broker.lifecycle import LifeCycle
    from fluxlet.broker.state import StateMachine

#: Messages of modules worked off before the loop looks after everybody else.
_BATCH = 1024


class Broker:
    """One broker.

    Args:
        attributes: its attributes; `rank` and `size` among them.
        config: the configuration, as `config.get` gives it.
        limits: bounds on clients; None: those that the configuration sets.
        child_towards: the child on the way to a rank below this one (overlay).

    Raises ValueError, with the text for the user, for attributes or a configuration that will not do.
    """

    def __init__(
        self,
        attributes: Attributes,
        config: dict[str, Any] | None = None,
        limits: Limits | None = None,
        child_towards: Callable[[int], int | None] = lambda rank: None,
        reactor: Reactor | None = None,
    ) -> None:
        self.attributes = attributes
        self.config: dict[str, Any] = config or {}
        self.access = Access.parse(self.config)
        self.rank = int(attributes.visible["rank"])
        self.owner = os.getuid()
        self.reactor = reactor or Reactor()
        self.uuid = attributes.visible.get("broker.uuid", str(uuidlib.uuid4())).encode()
        self.router = Router(self.rank, self.uuid, self.owner, child_towards)
        self.clients = Clients(self.router)
        self.now = monotonic()  # of the last time the loop was about to wait
        self.log = Log(self)
        self.state: StateMachine | None = None
        """Where the broker is in its life; None: it was put together without one, and runs."""
        self.life: LifeCycle | None = None
        self.modules: dict[str, LoadedModule] = {}
        self.blocked_until = 0.0  # when the last report of a module that has blocked the loop was made
        self.on_failure: Callable[[LoadedModule], None] = lambda module: self.reactor.stop_error()
        self._work: deque[tuple[Endpoint, Message]] = deque()
        self._working = False
        self.connector_uuid = str(uuidlib.uuid4()).encode()
        self.server = LocalServer(
            self.reactor,
            self.clients,
            self.connector_uuid,
            self.authorize,
            self.receive_from,
            self.route,
            self.log.write,
            limits or Limits.parse(self.config),
        )
        self._source = self.reactor.source(self)

    # Modules.

    def load(
        self,
        name: str,
        factory: Callable[..., BrokerModule],
        path: str = "builtin",
        internal: bool = False,
        args: tuple[str, ...] = (),
        started: Callable[[OSError | None], None] | None = None,
        sleeping: bool = False,
    ) -> Module:
        """Loads a module into this process. Raises OSError(EEXIST) for a name in use, and what its constructor raises.

        Args:
            started: called once when the module runs, or with the reason why it has ended instead, which it may have
                taken time to find out; None: that is then a failure as later ones are.
            sleeping: it need not be made before somebody asks it for something.
        """
        if name in self.modules or name.encode() in self.router.services:
            raise FileExistsError(17, f"module {name} is loaded already")
        module = (SleepingModule if sleeping else Module)(self, name, path, internal)
        self.modules[name] = module
        try:
            module.start(factory, args, started)
        except BaseException:
            del self.modules[name]
            module.stop()
            raise
        return module

    def unload(self, name: str) -> None:
        """Ends a module. Raises KeyError if it is not loaded."""
        self.modules.pop(name).stop()

    def unload_soon(self, module: LoadedModule) -> None:
        """Ends a module once nothing of it can be running, that is, from the loop itself."""

        def unload() -> None:
            if self.modules.get(module.name) is module:
                self.unload(module.name)

        self.reactor.timer(0.0, 0.0, unload).start()

    def module_failed(self, module: LoadedModule, exc: BaseException) -> None:
        """A module's handler has raised: logged, and the module ends, unless the broker is nothing without it."""
        import traceback  # for what should not happen

        for line in traceback.format_exception(exc):
            self.log.write(3, f"{module.name}: {line.rstrip()}")
        if not module.internal:
            self.unload_soon(module)
        self.module_died(module)

    def module_died(self, module: LoadedModule) -> None:
        """A module has ended, or is about to, and not because it was asked to: the instance is told."""
        self.log.write(2, f"{module.name} module runtime failure")
        self.on_failure(module)

    # Messages.

    def submit(self, source: Endpoint, message: Message) -> None:
        """Takes a message from a module or a peer and works off all that is queued, unless that goes on already."""
        work = self._work
        if not work and message._type == FLUX_MSGTYPE_RESPONSE:
            # A module's answer to a client, nearly always: it goes into the client's queue at once.
            client = self.router.client_awaiting(message, source)
            if client is not None:
                client.deliver(message)
                return
        work.append((source, message))
        if not self._working:
            self._drain()

    def submit_stream(self, source: Endpoint, message: Message, raws: list[bytes]) -> None:
        """As `submit` of a response for each payload; they differ in nothing else."""
        if not self._work:
            client = self.router.client_awaiting(message, source)
            if client is not None:
                client.deliver_stream(message, raws)
                return
        for raw in raws:
            copied = message.copy()
            copied.set_raw(raw)
            self.submit(source, copied)

    def route(self, deliveries: list[Delivery]) -> None:
        """Makes deliveries; the messages that modules send in their course are worked off as well."""
        if self._working:
            for endpoint, message in deliveries:
                endpoint.deliver(message)
            return
        self._working = True
        try:
            for endpoint, message in deliveries:
                endpoint.deliver(message)
        finally:
            self._working = False
        if self._work:
            self._drain()

    def _drain(self) -> None:
        self._working = True
        work, receive = self._work, self.router.receive
        left = _BATCH
        try:
            while work:
                source, message = work.popleft()
                for endpoint, delivered in receive(message, source):
                    endpoint.deliver(delivered)
                left -= 1
                if not left:
                    # Modules that talk without end must not keep clients waiting.
                    self._source.start()
                    self.reactor.source_ready(self._source)
                    return
        finally:
            self._working = False

    def receive_from(self, client: Client, framer: Framer, data: bytes) -> None:
        """Takes what a client has sent, and handles the messages that are complete. Raises OSError for a bad frame."""
        receive, next_message = self.clients.receive, framer.next
        nested, self._working = self._working, True
        try:
            message = next_message(data)
            while message is not None:
                for endpoint, delivered in receive(client, message):
                    endpoint.deliver(delivered)
                if framer.pos == framer.end and framer.large is None:
                    break
                message = next_message()
        finally:
            self._working = nested
            if self._work and not nested:
                self._drain()

    # The broker as a source of its reactor: what is left of a long batch, and output before every wait.

    def fileno(self) -> int:
        """There is nothing to poll."""
        return -1

    def read_ready(self) -> bool:
        """Never called."""
        return False

    def dispatch(self) -> bool:
        """Goes on with a long batch."""
        self._drain()
        if not self._work:
            self._source.stop()
        return bool(self._work)

    def before_poll(self) -> None:
        """Writes what clients are to get."""
        if self.server.dirty:
            self.server.flush()
        self.now = monotonic()

    # Who may connect.

    def authorize(self, uid: int) -> int:
        """The roles of a uid, by the `[access]` configuration; 0 if it may not connect (spec 01, 7.2)."""
        return self.access.roles(uid, self.owner, self.log.write)

    def shutdown(self) -> None:
        """Ends clients and modules, and closes the loop."""
        self.server.shutdown()
        for name in reversed(list(self.modules)):
            self.unload(name)
        self.reactor.close()
