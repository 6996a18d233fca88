"""The modules in the broker's process: each with a handle of its own, all on the broker's loop.

A module sees what a program sees: a `flux.Flux`. Its connector hands messages to the broker, and what is for it
is dispatched where it arrives, without passing through a queue and the loop.

A handler that takes long stops everybody: that is logged, once it is over, with the module's name. What a callback
raises, of whatever kind it is, is the failure of its module (`fluxlet.broker.module_reactor`): it ends, not the broker.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from syslog import LOG_ERR, LOG_WARNING
from time import monotonic
from typing import TYPE_CHECKING

from flux.brokermod import BrokerModule
from flux.connector.inproc import InprocConnector
from flux.constants import FLUX_MSGFLAG_NORESPONSE, FLUX_MSGTYPE_RESPONSE
from flux.core.coroutine import spawn
from flux.core.flux_t import FluxT
from flux.core.handle import Flux
from flux.core.link import Link
from flux.message import Message
from flux.reactor import Timer, tls
from fluxlet.broker.loaded import STATUS_EXITED, STATUS_FINALIZING, STATUS_RUNNING, LoadedModule
from fluxlet.broker.module_reactor import PATIENCE, ModuleReactor
from fluxlet.broker.standard import StandardMethods
from fluxlet.service import Service

if TYPE_CHECKING:
    from fluxlet.broker.broker import Broker


class ModuleHandle(FluxT):
    """A module's opaque handle; what its callbacks raise is the module's failure, not the loop's."""

    def __init__(self, link: Link, module: Module) -> None:
        super().__init__(link)
        self._module = module

    def dispatch(self) -> bool:
        """As `FluxT.dispatch`."""
        started = monotonic()
        try:
            return super().dispatch()
        except KeyboardInterrupt:
            raise  # of the whole process
        except BaseException as exc:  # noqa: BLE001  # whatever a module raises must not end the broker's loop
            self._module.failed(exc)
            return False
        finally:
            if tls.exception is not None:
                self._module.take_exception()
            if monotonic() - started > PATIENCE:
                self._module.report_block(started, "a callback")


class Module(LoadedModule):
    """A module in the broker's own process. Arguments: as of LoadedModule."""

    def __init__(self, broker: Broker, name: str, path: str = "builtin", internal: bool = False) -> None:
        super().__init__(broker, name, path, internal)
        self.debug_flags = 0
        self.instance: BrokerModule | None = None
        self.connector = InprocConnector(self.post, broker.attributes.visible, self._subscribe)
        self.link = Link(self.connector, 0)
        self.core = ModuleHandle(self.link, self)
        self.reactor = ModuleReactor(broker.reactor, self)
        self.core.set_reactor(self.reactor)
        self.core.aux[b"flux::name"] = name.encode()
        self.core.aux[b"fluxlet::module"] = self
        self.flux = Flux(handle=self.core)
        self.flux.log_set_appname(name)
        self.standard: StandardMethods | None = None
        self._failed = False
        self._started: Callable[[OSError | None], None] | None = None
        self._finishing: Timer | None = None

    @property
    def rank(self) -> int:
        """The broker's."""
        return self.broker.rank

    def start(
        self,
        factory: Callable[..., BrokerModule],
        args: tuple[str, ...] = (),
        started: Callable[[OSError | None], None] | None = None,
    ) -> None:
        """Makes the module's object, which registers its handlers. `started`: as of `Broker.load`.

        Raises what its constructor raises.
        """
        self.attach()
        if self.has_standard_methods:
            self.standard = StandardMethods(self, "" if self.internal else self.broker.router.uuid.decode())
        self.instance = factory(self.flux, self.broker, *args)
        self._started = started
        if isinstance(self.instance, Service) and type(self.instance).start_service is not Service.start_service:
            spawn(self.flux, self._start_up(self.instance))
        else:
            self._runs()

    def attach(self) -> None:
        """Has the broker know the module, and route to it what is for its name."""
        self.broker.router.attach(self)
        self.broker.router.services[self.name.encode()] = self

    async def _start_up(self, service: Service) -> None:
        try:
            await service.start_service()
        except OSError as exc:
            if self._started is None:
                self.failed(exc)
            else:
                self.broker.unload_soon(self)
                self._tell(exc)
        else:
            self._runs()

    def _runs(self) -> None:
        self.status = STATUS_RUNNING
        self._tell(None)

    def _tell(self, error: OSError | None) -> None:
        """Tells who waits for the module to run."""
        started, self._started = self._started, None
        if started is not None:
            started(error)

    def finish(self, then: Callable[[], None]) -> None:
        """Lets the module come to its end while it still serves; `then` is called from the loop when it has."""
        timer = self.broker.reactor.timer(0.0, 0.0, then)
        service = self.instance
        takes_time = isinstance(service, Service) and type(service).finish_service is not Service.finish_service
        if not takes_time or self.status != STATUS_RUNNING:
            timer.start()
            return
        assert isinstance(service, Service)
        self.uncalled()
        self.status = STATUS_FINALIZING
        self._finishing = timer
        spawn(self.flux, self._finish(service))

    async def _finish(self, service: Service) -> None:
        try:
            await service.finish_service()
        except OSError as exc:
            self.broker.log.write(LOG_ERR, f"at its end: {exc.strerror}", self.name)
        self._finished()

    def _finished(self) -> None:
        timer, self._finishing = self._finishing, None
        if timer is not None:
            timer.start()

    def uncalled(self) -> None:
        """As of LoadedModule."""
        if self.may_be_called and isinstance(self.instance, Service):
            self.instance.by_messages()

    def leave(self) -> None:
        """Ends the module, as soon as nothing of it runs."""
        self.broker.unload_soon(self)

    def stop(self) -> None:
        """Ends the module: its handlers and timers, then its services; what it was asked and left open fails."""
        self.status = STATUS_FINALIZING
        if isinstance(self.instance, Service):
            self.instance.stop_service()
            self.instance.forget_asked()
        if self.pending is None:
            # Of those who keep their requests themselves; what others leave open, the router knows.
            self._abandon_coroutines()
        for watcher in list(self.flux._active_watchers):
            if hasattr(watcher, "destroy"):
                watcher.destroy()
        self.detach()
        self.flux.handle = None
        self.instance = None
        self.status = STATUS_EXITED
        self._tell(OSError(errno.ECONNRESET, "the module has ended before it ran"))
        self._finished()

    def _abandon_coroutines(self) -> None:
        """Fails the requests whose `async def` handlers have not come to their end."""
        for due in tuple(self.core.alive):
            request = getattr(due, "request", None)
            if request is not None and not request.flags & FLUX_MSGFLAG_NORESPONSE:
                self.flux.respond_error(request, errno.EHOSTUNREACH, "module disconnect")

    def failed(self, exc: BaseException) -> None:
        """A callback of the module has raised. It is over: what else fails until it is gone says nothing new."""
        if not self._failed:
            self._failed = not self.internal
            self.broker.module_failed(self, exc)

    def take_exception(self) -> None:
        """What was kept for a `reactor_run` of the module's to raise is its failure."""
        exc, tls.exception = tls.exception, None
        if exc is not None:
            self.failed(exc)

    def _subscribe(self, topic: bytes, subscribe: bool) -> None:
        if subscribe:
            self.broker.router.subscribe(self, topic)
        elif not self.broker.router.unsubscribe(self, topic):
            raise FileNotFoundError(2, "no such subscription")

    def _redirect(self) -> None:
        super()._redirect()
        self.connector._post = self.post

    def deliver(self, message: Message) -> None:
        """Hands a message to the module's handlers at once."""
        kind = message._type
        self.received[kind] += 1
        self.last_used = started = monotonic()
        try:
            if kind != FLUX_MSGTYPE_RESPONSE or not self.link.deliver(message):
                self.core.dispatcher.dispatch(self.core, message)
        except KeyboardInterrupt:
            raise  # of the whole process
        except BaseException as exc:  # noqa: BLE001  # whatever a module raises must not end the broker
            self.failed(exc)
        if tls.exception is not None:
            self.take_exception()
        if monotonic() - started > PATIENCE:
            self.report_block(started, f"handler of {message.topic}")

    def report_block(self, started: float, what: str) -> None:
        """Logs that the module has kept the broker's one thread for itself since `started`."""
        # One that has run within this one has been reported for its part.
        now = monotonic()
        seconds = now - max(started, self.broker.blocked_until)
        if seconds > PATIENCE:
            self.broker.blocked_until = now
            self.broker.log.write(LOG_WARNING, f"{what} blocked the broker for {seconds:.1f}s", self.name)
