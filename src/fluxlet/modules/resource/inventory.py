"""Inventory: where R comes from (spec 07, 2.1).

On rank 0, the first of: the configuration; the KVS, which knows it from before; the enclosing instance; what all ranks
say they have. The other ranks say so.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from syslog import LOG_ERR
from typing import TYPE_CHECKING

from flux.constants import FLUX_NODEID_UPSTREAM, FLUX_RPC_NORESPONSE
from flux.resource.Rv1Set import Node, Rv1Set
from fluxlet.modules.resource import discovery
from fluxlet.modules.resource.settings import differences, read_text, rerank

if TYPE_CHECKING:
    from fluxlet.modules.resource.module import Resource
    from fluxlet.modules.resource.parent import ParentResources


class Inventory:
    """Finds R.

    Args:
        service: whose settings count.
        defined: called with R, and the name of the way it was found.
        expires: called with another time at which the instance loses its resources, seconds since the epoch.
    """

    def __init__(
        self, service: Resource, defined: Callable[[Rv1Set, str], None], expires: Callable[[float], None]
    ) -> None:
        self._service = service
        self._defined = defined
        self._expires = expires
        self._reduced = Rv1Set()
        self._count = 0
        self._parent: ParentResources | None = None

    def close(self) -> None:
        """Nobody is asked any more."""
        if self._parent is not None:
            self._parent.close()

    def _log(self, text: str) -> None:
        self._service.broker.log.write(LOG_ERR, text, "resource")

    def local(self) -> Rv1Set:
        """What this node has, under our rank."""
        broker = self._service.broker
        cores, gpus = discovery.discover(not self._service.settings.norestrict)
        found = Rv1Set()
        found.nodes[broker.rank] = Node(cores, gpus, broker.attributes.visible["hostname"])
        found.name_ranks()
        return found

    def _configured(self) -> Rv1Set:
        """R of the configuration, under the ranks of this instance. Raises ValueError."""
        settings = self._service.settings
        assert settings.configured is not None
        return rerank(settings.configured, self._service.hosts.names) if settings.by_hosts else settings.configured

    def mismatch(self, found: Rv1Set) -> str | None:
        """Why this rank must not be used, if it is not what the configuration says."""
        settings = self._service.settings
        if settings.verify is None or settings.configured is None:
            return None
        try:
            configured = self._configured()
        except ValueError:  # which rank 0 has reported
            return None
        return differences(settings.verify, self._service.broker.rank, configured, found)

    def find(self, stored: str) -> None:
        """Finds R, or has it found; `stored` is what the KVS has of it, "" if nothing."""
        service = self._service
        visible = service.broker.attributes.visible
        try:
            if service.settings.pretended is not None:
                self._defined(service.settings.pretended, "configuration")
                return
            if service.settings.configured is not None:
                self._defined(self._configured(), "configuration")
                return
            if stored:
                self._defined(Rv1Set(stored, keep_scheduling=True), "kvs")
                return
        except (ValueError, TypeError, KeyError) as exc:
            self._log(f"R: {exc}")
        if "jobid" in visible and visible.get("parent-uri"):
            from fluxlet.modules.resource.parent import ParentResources  # only for an instance within another

            self._parent = ParentResources(service, self._from_parent, self._expires)
        else:
            self._discover()

    def _from_parent(self, r: Rv1Set | None) -> None:
        """The instance that has started us has told what it gave us; None: it has not."""
        if r is None:
            self._discover()
        elif len(r.nodes) != self._service.size or self._service.settings.rediscover:
            self._reduced.set_expiration(r.get_expiration())
            self._discover()
        else:
            self._defined(r, "job-info")

    def _discover(self) -> None:
        self.reduce(1, self.local())

    def reduce(self, count: int, r: Rv1Set) -> None:
        """So many ranks have told what they have: on rank 0 the last one makes R, elsewhere it goes on upwards."""
        service = self._service
        if service.broker.rank:
            payload = {"count": count, "resource": r.to_dict()}
            service.handle.rpc("resource.topo-reduce", payload, FLUX_NODEID_UPSTREAM, FLUX_RPC_NORESPONSE)
            return
        self._reduced.append(r)
        self._count += count
        if self._count == int(service.broker.attributes.visible["size"]) and service.r is None:
            self._reduced.name_ranks()
            self._defined(self._reduced, "dynamic-discovery")


def read_topologies(directory: str, hosts: list[str]) -> Rv1Set:
    """The R of a directory of files RANK.xml, as hwloc writes them. Raises ValueError.

    Args:
        directory: its path.
        hosts: names by rank, for topologies that have none.
    """
    made = Rv1Set()
    try:
        for name in sorted(os.listdir(directory)):
            stem, _, suffix = name.partition(".")
            if not stem.isdecimal() or suffix != "xml":
                continue
            rank = int(stem)
            host = hosts[rank] if rank < len(hosts) else f"rank{rank}"
            host, cores, gpus = discovery.read_topology(read_text(os.path.join(directory, name)), host)
            made.nodes[rank] = Node(cores, gpus, host)
    except OSError as exc:
        raise ValueError(f"{directory}: {exc.strerror or os.strerror(exc.errno or errno.EIO)}") from None
    if not made.nodes:
        raise ValueError(f"{directory}: no topologies there, which are called 0.xml, 1.xml and so on")
    made.name_ranks()
    return made
