"""What the enclosing instance gave to the job that this instance is, and until when (spec 07, 2.1 and 7.2)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from syslog import LOG_ERR, LOG_WARNING
from typing import TYPE_CHECKING, Any

from flux.constants import FLUX_RPC_STREAMING
from flux.core import fluid
from flux.core.handle import Flux
from flux.resource.Rv1Set import Rv1Set
from fluxlet.broker.host import Module
from fluxlet.broker.module_reactor import ModuleReactor
from fluxlet.service import Service

if TYPE_CHECKING:
    from fluxlet.modules.resource.module import Resource


class _Loop(ModuleReactor):
    """The module's loop, for a connection whose loss is not the module's failure."""

    __slots__ = ("_lost",)

    def __init__(self, service: Service, lost: Callable[[], None]) -> None:
        assert isinstance(service.module, Module)
        super().__init__(service.broker.reactor, service.module)
        self._lost = lost

    def stop_error(self) -> None:
        """The connection is lost."""
        self._lost()


class ParentResources:
    """Asks the enclosing instance for R, and watches it.

    Args:
        service: whose instance it is.
        found: called once, with R whose ranks begin at 0; or None, if there is none to be had.
        expires: called with each new expiration, seconds since the epoch.
    """

    def __init__(
        self, service: Resource, found: Callable[[Rv1Set | None], None], expires: Callable[[float], None]
    ) -> None:
        self._service = service
        self._found = found
        self._expires = expires
        self._told = False
        self._expiration = 0.0
        self._handle: Flux | None = None
        visible = service.broker.attributes.visible
        try:
            self._id = fluid.parse(visible["jobid"])
            self._handle = Flux(visible["parent-uri"])
        except (OSError, ValueError) as exc:
            self._log(LOG_ERR, f"connecting to the enclosing instance: {exc}")
            found(None)
            return
        self._handle.core.set_reactor(_Loop(service, self._lost))
        payload = {"id": self._id, "key": "R", "flags": 0}
        self._handle.rpc("job-info.update-watch", payload, flags=FLUX_RPC_STREAMING).then(self._answered)

    def _log(self, level: int, text: str) -> None:
        self._service.broker.log.write(level, text, "resource")

    def _lost(self) -> None:
        """The enclosing instance is gone: what it had to tell, it has told."""
        if self._handle is not None:
            self._log(LOG_WARNING, "the connection to the enclosing instance is lost")
            # Not at once: we are in its dispatch.
            self._service.broker.reactor.timer(0.0, 0.0, self.close).start()

    def close(self) -> None:
        """Asks no more."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.handle = None

    def _answered(self, future: Any) -> None:
        try:
            r = future.get()["R"]
        except OSError as exc:
            if exc.errno == errno.ENOSYS and not self._told and self._handle is not None:
                payload = {"id": self._id, "keys": ["R"], "flags": 1}
                self._handle.rpc("job-info.lookup", payload).then(self._looked_up)
            elif not self._told:
                self._log(LOG_ERR, f"job-info.update-watch: {exc.strerror}")
                self._tell(None)
            return
        self._tell(r)
        if self._service.settings.watches_parent:
            future.reset()

    def _looked_up(self, future: Any) -> None:
        try:
            self._tell(future.get()["R"])
        except OSError as exc:
            self._log(LOG_ERR, f"job-info.lookup: {exc.strerror}")
            self._tell(None)

    def _tell(self, r: Any) -> None:
        try:
            made = None if r is None else renumbered(Rv1Set(r), self._service.hosts.names)
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            self._log(LOG_ERR, f"R of the enclosing instance: {exc}")
            made = None
        expiration = 0.0 if made is None else made.get_expiration()
        if not self._told:
            self._told = True
            self._expiration = expiration
            self._found(made)
        elif made is not None and expiration != self._expiration:
            self._expiration = expiration
            self._expires(expiration)


def renumbered(r: Rv1Set, hosts: list[str]) -> Rv1Set:
    """R with ranks from 0; by hosts, if no two ranks are on one, else in order.

    Args:
        r: of a job.
        hosts: of the instance, by rank.
    """
    ranks = sorted(r.nodes)
    places = {host: rank for rank, host in enumerate(hosts)}
    named = [r.nodes[rank].host or "" for rank in ranks]
    by_host = len(places) == len(hosts) and len(set(named)) == len(named) and set(named) == places.keys()
    order = {rank: places[host] for rank, host in zip(ranks, named, strict=True)} if by_host else None
    number = order or {rank: place for place, rank in enumerate(ranks)}
    new = r.renumbered(number)
    new.set_starttime(0.0)
    return new
