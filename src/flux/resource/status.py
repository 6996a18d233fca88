"""How the nodes of an instance do: online, drained, excluded, in use (spec 07, 8.3)."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, NamedTuple

from flux.hostlist import Hostlist
from flux.idset import IDset
from flux.resource.list import included, resource_list
from flux.resource.ResourceSet import ResourceSet

if TYPE_CHECKING:
    from flux.core.handle import Flux


class DrainInfo(NamedTuple):
    """Ranks that are drained, since when, seconds since the epoch, and why."""

    ranks: IDset
    timestamp: float
    reason: str


#: The states that a ResourceStatus has a set of ranks for.
_STATES = (
    "all",
    "avail",
    "offline",
    "online",
    "exclude",
    "torpid",
    "housekeeping",
    "allocated",
    "drained",
    "draining",
)


class ResourceStatus:
    """The state of nodes: an IDset of ranks for each state.

    Args:
        rstatus: as `resource.status` answers.
        allocated_ranks: those that jobs use.
        housekeeping_ranks: those that are put in order after a job.

    Attributes:
        nodelist: the hosts, by rank.
        rset: the resources.
        all, avail, offline, online, exclude, torpid, housekeeping, allocated, drained, draining: ranks.
        drain_info: what is drained, a list of DrainInfo.
    """

    def __init__(self, rstatus: Any = None, allocated_ranks: Any = None, housekeeping_ranks: Any = None) -> None:
        if rstatus is None:
            rstatus = {"R": ResourceSet().to_dict(), "drain": {}}
        self.rstatus: dict[str, Any] = rstatus
        self.allocated_ranks = IDset() if allocated_ranks is None else allocated_ranks
        self.housekeeping_ranks = IDset() if housekeeping_ranks is None else housekeeping_ranks
        self.rset = ResourceSet(rstatus["R"])
        self._update(None)

    def _update(self, include: IDset | None) -> None:
        """Works out all sets anew; of some ranks only, if `include` says so."""

        def ranks(text: Any) -> IDset:
            found = IDset(str(text))
            return found if include is None else found.intersect(include)

        status = self.rstatus
        self.nodelist: Hostlist = self.rset.nodelist
        self.all = ranks(self.rset.ranks)
        self.online = ranks(status.get("online", ""))
        self.offline = ranks(status.get("offline", ""))
        self.exclude = ranks(status.get("exclude", ""))
        self.torpid = ranks(status.get("torpid", ""))
        self.allocated = ranks(self.allocated_ranks)
        self.housekeeping = ranks(self.housekeeping_ranks)
        self.drained, self.draining = IDset(), IDset()
        self.drain_info: list[DrainInfo] = []
        busy = self.allocated.union(self.housekeeping)
        for text, info in status.get("drain", {}).items():
            drained = ranks(text)
            if drained.count():
                self.drain_info.append(DrainInfo(drained, info["timestamp"], info["reason"]))
                self.draining.add(drained.intersect(busy))
                self.drained.add(drained.difference(busy))
        out = self.get_idset("offline", "exclude", "drained", "draining")
        self.avail = self.all.difference(out)

    def __getitem__(self, state: str) -> IDset:
        if state not in _STATES:
            raise AttributeError(f"Invalid ResourceStatus state {state}")
        ranks: IDset = getattr(self, state)
        return ranks

    def get_idset(self, *args: str) -> IDset:
        """The ranks that are in any of the states. Raises AttributeError for one that is none."""
        ranks = IDset()
        for state in args:
            ranks.add(self[state])
        return ranks

    def get_drain_info(self, rank: int) -> DrainInfo | None:
        """Since when and why a rank is drained; None if it is not."""
        return next((info for info in self.drain_info if rank in info.ranks), None)

    def filter(self, include: Any) -> None:
        """Leaves only some ranks.

        Args:
            include: an idset of ranks, or a hostlist. Hosts that are not there are no error.

        Raises ValueError for text that is neither.
        """
        ranks = included(self.rset, include)
        self.rset = self.rset.copy_ranks(ranks)
        self._update(ranks)


class ResourceStatusRPC:
    """Asks for all that a ResourceStatus is made of.

    Args:
        handle: a connected handle.
    """

    def __init__(self, handle: Flux) -> None:
        self.rpcs = [
            handle.rpc("resource.status", nodeid=0),
            resource_list(handle),
            handle.rpc("job-manager.stats-get", nodeid=0),
        ]

    def get_status(self) -> Any:
        """What `resource.status` answers. Raises OSError."""
        return self.rpcs[0].get()

    def get_allocated_ranks(self) -> IDset:
        """The ranks that jobs use; none if there is nobody who knows."""
        try:
            ranks: IDset = self.rpcs[1].get().allocated.ranks
        except OSError as exc:
            if exc.errno != errno.ENOSYS:
                raise
            return IDset()
        return ranks

    def get_housekeeping_ranks(self) -> IDset:
        """The ranks that are put in order after a job; none if there is nobody who knows."""
        ranks = IDset()
        try:
            running = self.rpcs[2].get()["housekeeping"]["running"]
        except (OSError, KeyError) as exc:
            if isinstance(exc, OSError) and exc.errno != errno.ENOSYS:
                raise
            return ranks
        for job in running.values():
            ranks.add(IDset(job["pending"]))
        return ranks

    def get(self) -> ResourceStatus:
        """The ResourceStatus. Raises OSError."""
        return ResourceStatus(self.get_status(), self.get_allocated_ranks(), self.get_housekeeping_ranks())


def resource_status(flux_handle: Flux) -> ResourceStatusRPC:
    """Asks how the nodes do; returns something whose `get` gives a ResourceStatus."""
    return ResourceStatusRPC(flux_handle)
