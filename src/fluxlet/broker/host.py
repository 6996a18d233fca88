"""The modules in the broker's process: each with a handle of its own, all on the broker's loop.

A module sees what a program sees: a `flux.Flux`. Its connector hands messages to the broker, and what is for it
is dispatched where it arrives, without passing through a queue and the loop.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from flux.brokermod import BrokerModule
from flux.connector.inproc import InprocConnector
from flux.constants import FLUX_MSGTYPE_RESPONSE, FLUX_ROLE_NONE, FLUX_USERID_UNKNOWN
from flux.core.flux_t import FluxT
from flux.core.handle import Flux
from flux.core.link import Link
from flux.message import Message
from fluxlet.broker.router import LOCAL_OWNER, Endpoint
from fluxlet.broker.standard import StandardMethods
from fluxlet.service import Service

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker

#: As `module.list` numbers them.
STATUS_INIT, STATUS_RUNNING, STATUS_FINALIZING, STATUS_EXITED = range(4)


class ModuleHandle(FluxT):
    """A module's opaque handle; what its callbacks raise is the module's failure, not the loop's."""

    def __init__(self, link: Link, failed: Callable[[Exception], None]) -> None:
        super().__init__(link)
        self._failed = failed

    def dispatch(self) -> bool:
        """As `FluxT.dispatch`."""
        try:
            return super().dispatch()
        except Exception as exc:  # noqa: BLE001  # whatever a module raises must not end the broker's loop
            self._failed(exc)
            return False


class Module(Endpoint):
    """A loaded module.

    Args:
        broker: that hosts it.
        name: its service name.
        path: for `module.list`.
        internal: one of the broker's own services, which `module.list` does not show.
    """

    def __init__(self, broker: Broker, name: str, path: str = "builtin", internal: bool = False) -> None:
        identity = str(uuid.uuid4()).encode()
        super().__init__(identity, (identity,))
        self.broker = broker
        self.name = name
        self.path_name = path
        self.internal = internal
        self.status = STATUS_INIT
        self.debug_flags = 0
        self.last_used = broker.now
        # Messages sent and received, by their type number.
        self.sent = [0] * 9
        self.received = [0] * 9
        self.instance: BrokerModule | None = None
        connector = InprocConnector(self.post, broker.attributes.visible, self._subscribe)
        self.link = Link(connector, 0)
        self.core = ModuleHandle(self.link, self._failed)
        self.core.set_reactor(broker.reactor)
        self.core.aux[b"flux::name"] = name.encode()
        self.core.aux[b"fluxlet::module"] = self
        self.flux = Flux(handle=self.core)
        self.flux.log_set_appname(name)
        self.standard: StandardMethods | None = None

    def start(self, factory: type[Service], args: tuple[str, ...] = ()) -> None:
        """Makes the module's object, which registers its handlers. Raises what its constructor raises."""
        self.broker.router.attach(self)
        self.broker.router.services[self.name.encode()] = self
        if not self.internal or self.name == "broker":
            self.standard = StandardMethods(self)
        self.instance = factory(self.flux, self.broker, *args)
        self.status = STATUS_RUNNING

    def stop(self) -> None:
        """Ends the module: its handlers and timers, then its services; what it was asked and left open fails."""
        self.status = STATUS_FINALIZING
        if isinstance(self.instance, Service):
            self.instance.stop_service()
        for watcher in list(self.flux._active_watchers):
            if hasattr(watcher, "destroy"):
                watcher.destroy()
        self.broker.route(self.broker.router.detach(self, "module disconnect"))
        self.flux.handle = None
        self.instance = None
        self.status = STATUS_EXITED

    def _failed(self, exc: Exception) -> None:
        self.broker.module_failed(self, exc)

    def post(self, message: Message) -> None:
        """Takes a message that the module sends."""
        if message._userid == FLUX_USERID_UNKNOWN and message._rolemask == FLUX_ROLE_NONE:
            message._userid = self.broker.owner
            message._rolemask = LOCAL_OWNER
        self.sent[message._type] += 1
        self.broker.submit(self, message)

    def _subscribe(self, topic: bytes, subscribe: bool) -> None:
        if subscribe:
            self.broker.router.subscribe(self, topic)
        elif not self.broker.router.unsubscribe(self, topic):
            raise FileNotFoundError(2, "no such subscription")

    def deliver(self, message: Message) -> None:
        """Hands a message to the module's handlers at once."""
        kind = message._type
        self.received[kind] += 1
        self.last_used = self.broker.now
        try:
            if kind != FLUX_MSGTYPE_RESPONSE or not self.link.deliver(message):
                self.core.dispatcher.dispatch(self.core, message)
        except Exception as exc:  # noqa: BLE001  # whatever a module raises must not end the broker
            self._failed(exc)
