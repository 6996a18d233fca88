"""What of an instance's resources is up, down, free and in use (spec 07, 8.3)."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from flux.future import FutureExt
from flux.idset import IDset
from flux.resource.ResourceSet import ResourceSet

if TYPE_CHECKING:
    from flux.core.handle import Flux

_NO_RESOURCES: dict[str, Any] = {
    "version": 1,
    "execution": {"R_lite": [], "starttime": 0, "expiration": 0, "nodelist": [""]},
}


def included(rset: ResourceSet, include: Any) -> IDset:
    """The ranks that a selection means.

    Args:
        rset: where the hosts are looked up.
        include: an idset of ranks, or a hostlist. Hosts that are not there are no error.

    Raises ValueError for text that is neither.
    """
    try:
        return IDset(include)
    except ValueError:
        ranks = IDset()
        for rank in rset.host_ranks(include, ignore_nomatch=True):
            ranks.add(rank)
        return ranks


class SchedResourceList:
    """Sets of resources by their state, each a ResourceSet: `all`, `down`, `allocated`, `up`, `free`.

    Args:
        resp: an object with R for all, down, allocated; what is missing or null is empty.
    """

    def __init__(self, resp: Any) -> None:
        self._sets: dict[str, ResourceSet] = {}
        for state in ("all", "down", "allocated"):
            r = resp.get(state)
            self._set(state, ResourceSet(_NO_RESOURCES if r is None else r))

    def _set(self, state: str, rset: ResourceSet) -> ResourceSet:
        rset.state = state
        self._sets[state] = rset
        return rset

    def __getattr__(self, attr: str) -> Any:
        sets = self.__dict__.get("_sets", {})
        if attr in sets:
            return sets[attr]
        raise AttributeError(f"Invalid SchedResourceList attr {attr}")

    def __getitem__(self, item: str) -> Any:
        return getattr(self, item)

    @property
    def up(self) -> ResourceSet:
        """All that is not down."""
        return self._sets.get("up") or self._set("up", self.all - self.down)

    @property
    def free(self) -> ResourceSet:
        """What is up and in nobody's use."""
        return self._sets.get("free") or self._set("free", self.up - self.allocated)

    def filter(self, include: Any) -> None:
        """Leaves only some ranks.

        Args:
            include: an idset of ranks, or a hostlist. Hosts that are not there are no error.

        Raises ValueError for text that is neither.
        """
        ranks = included(self.all, include)
        for state in ("all", "down", "allocated"):
            self._set(state, self._sets[state].copy_ranks(ranks))
        for state in ("up", "free"):
            self._sets.pop(state, None)

    def copy_constraint(self, constraint: Any) -> SchedResourceList:
        """A list of only the resources that a constraint (RFC 31) lets in. Raises ValueError."""
        ranks = self.all.copy_constraint(constraint).ranks
        new = SchedResourceList({})
        for state in ("all", "down", "allocated"):
            new._set(state, self._sets[state].copy_ranks(ranks))
        return new


class ResourceListRPC(FutureExt):
    """The future of a SchedResourceList.

    Args:
        flux_handle: a connected handle.
        topic: whom to ask; if there is no such service, the scheduler is asked.
        nodeid: where.
    """

    def __init__(self, flux_handle: Flux, topic: str, nodeid: int = 0) -> None:
        super().__init__(self._begin, flux_handle=flux_handle)
        self._topic = topic
        self._nodeid = nodeid

    def _begin(self, future: Any, arg: Any = None) -> None:
        handle = future.get_flux()
        handle.rpc(self._topic, nodeid=self._nodeid).then(self._answered, future)

    def _answered(self, rpc: Any, future: Any) -> None:
        try:
            future.fulfill(rpc.get())
        except OSError as exc:
            if exc.errno == errno.ENOSYS and self._topic != _FALLBACK:
                self._topic = _FALLBACK
                self._begin(future)
            else:
                future.fulfill_error(exc.errno, exc.strerror)

    def get(self) -> SchedResourceList:
        """The list. Raises OSError."""
        return SchedResourceList(super().get())


_FALLBACK = "sched.resource-status"


def resource_list(flux_handle: Flux) -> ResourceListRPC:
    """Asks for the state of resources; returns a future whose `get` gives a SchedResourceList.

    Whom it asks can be set by the environment variable FLUX_RESOURCE_LIST_RPC.
    """
    return ResourceListRPC(flux_handle, os.environ.get("FLUX_RESOURCE_LIST_RPC", "resource.sched-status"))
