"""Monitor: which ranks are online, torpid, or out of use by configuration (spec 07, 2.4)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from syslog import LOG_ERR, LOG_WARNING
from typing import Any

from flux.constants import FLUX_RPC_STREAMING
from flux.idset import IDset
from flux.message import Message
from flux.resource.Rv1Set import unmask
from fluxlet.modules.resource.acquisition import mask_of
from fluxlet.service import Service


class Monitor:
    """Watches the ranks.

    Args:
        service: asks on our behalf.
        size: how many ranks there are.
        happened: called with the name of an event and its context.
        changed: called when ranks have come or gone, with those that have gone offline, as bits.

    Attributes: size, and, all of them ranks as bits:
        online: those whose brokers are there.
        torpid: those of which nothing is heard.
        excluded: those that the configuration leaves out.
    """

    def __init__(
        self,
        service: Service,
        size: int,
        happened: Callable[[str, dict[str, Any]], Any],
        changed: Callable[[int], None],
    ) -> None:
        self._service = service
        self.size = size
        self._happened = happened
        self._changed = changed
        self.online = 0
        self.torpid = 0
        self.excluded = 0
        self._forced_down = 0
        self._waitups: list[tuple[Message, int]] = []

    def start(self, everybody: bool) -> None:
        """Begins; `everybody`: all ranks count as online."""
        if everybody:
            self._is_online((1 << self.size) - 1)
        else:
            self._watch("broker.online", self._is_online)
        self._watch("broker.torpid", self._is_torpid)

    def _watch(self, name: str, then: Callable[[int], None]) -> None:
        def answered(future: Any) -> None:
            try:
                members = future.get()["members"]
            except OSError as exc:
                if exc.errno != errno.EHOSTUNREACH:  # groups has been unloaded before us
                    self._service.broker.log.write(LOG_ERR, f"groups.get {name}: {exc.strerror}", "resource")
                return
            then(mask_of(set(IDset(members))))
            future.reset()

        self._service.handle.rpc("groups.get", {"name": name}, 0, FLUX_RPC_STREAMING).then(answered)

    def _is_online(self, online: int) -> None:
        online &= ~self._forced_down
        came, went = online & ~self.online, self.online & ~online
        self.online = online
        if came:
            self._happened("online", {"idset": unmask(came)})
        if went:
            self._happened("offline", {"idset": unmask(went)})
        self._changed(went)
        for waiting in tuple(self._waitups):
            if online.bit_count() >= waiting[1]:
                self._waitups.remove(waiting)
                self._service.answer(waiting[0])

    def _is_torpid(self, torpid: int) -> None:
        came, went = torpid & ~self.torpid, self.torpid & ~torpid
        self.torpid = torpid
        if came:
            self._happened("torpid", {"idset": unmask(came)})
        if went:
            self._happened("lively", {"idset": unmask(went)})
        self._changed(0)

    def exclude(self, ranks: set[int]) -> None:
        """The configuration leaves out these ranks, and no others. Those that there are not, are logged."""
        missing = {rank for rank in ranks if rank >= self.size}
        if missing:
            text = f"resource.exclude: there are no ranks {unmask(mask_of(missing))}"
            self._service.broker.log.write(LOG_WARNING, text, "resource")
        self.excluded = mask_of(ranks - missing)
        self._changed(0)

    def force_down(self, ranks: int) -> None:
        """Ranks count as offline from now on."""
        self._forced_down |= ranks
        self._is_online(self.online)

    def wait(self, msg: Message, wanted: int) -> None:
        """Answers `msg` once so many ranks are online. Raises OSError(EPROTO) for more than there are."""
        if not 0 <= wanted <= self.size:
            raise OSError(errno.EPROTO, "up value is out of range")
        if self.online.bit_count() >= wanted:
            self._service.answer(msg)
        else:
            self._waitups.append((msg, wanted))

    def forget(self, unwanted: Callable[[Message], bool]) -> None:
        """Waiting requests for which `unwanted` is true are not answered any more."""
        self._waitups = [waiting for waiting in self._waitups if not unwanted(waiting[0])]

    def waiting(self) -> list[Message]:
        """The requests that wait."""
        return [request for request, _ in self._waitups]
