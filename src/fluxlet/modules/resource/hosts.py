"""Which host has which rank: as requests, the configuration, and what was written down before name them. Pure."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from flux.hostlist import Hostlist
from flux.idset import IDset
from flux.resource.Rv1Set import Rv1Set
from fluxlet.payload import cut


class Hosts:
    """The hosts of an instance.

    Args:
        names: of the hosts, by rank.
        size: of the instance.
    """

    def __init__(self, names: list[str], size: int) -> None:
        self.names = names
        self.size = size

    def include(self, r: Rv1Set) -> None:
        """R may name hosts that have no broker: for who tries a scheduler on more nodes than there are."""
        last = max(r.nodes, default=-1)
        if last >= self.size:
            self.size = last + 1
            named = {rank: node.host for rank, node in r.nodes.items()}
            self.names = [named.get(rank) or "" for rank in range(self.size)]

    def on(self, ranks: Iterable[int]) -> str:
        """The hosts of ranks, as a host list."""
        return Hostlist([self.names[rank] for rank in sorted(ranks) if rank < len(self.names)]).encode()

    def targets(self, text: str) -> set[int]:
        """The ranks that a request names, by numbers or hosts. Raises OSError(EINVAL)."""
        text = cut(text)
        try:
            ranks = IDset(text)
        except ValueError:
            return self.ranks(text, "invalid targets")
        if not ranks.count():
            raise OSError(errno.EINVAL, "idset is empty")
        if ranks.last() >= self.size:
            raise OSError(errno.EINVAL, "idset is out of range")
        return set(ranks)

    def ranks(self, text: str, what: str) -> set[int]:
        """The ranks of hosts. Raises OSError(EINVAL), with `what` in its text."""
        try:
            hosts = [str(host) for host in Hostlist(text)]
        except ValueError as exc:
            raise OSError(errno.EINVAL, f"{what}: {exc}") from None
        unknown = [host for host in hosts if host not in self.names]
        if unknown:
            raise OSError(errno.EINVAL, f"{what}: invalid hosts: {Hostlist(unknown).encode()}")
        return {rank for rank, host in enumerate(self.names) if host in hosts}

    def now(self, nodelist: str, ranks: set[int]) -> set[int]:
        """The ranks that hosts have now which had `ranks` when that was written down."""
        hosts = [str(host) for host in Hostlist(nodelist)]
        if len(hosts) != len(ranks):
            return {rank for rank in ranks if rank < self.size}
        found = set()
        for rank, host in zip(sorted(ranks), hosts, strict=True):
            places = [place for place, name in enumerate(self.names) if name == host]
            if rank in places:
                found.add(rank)
            elif len(places) == 1:
                found.add(places[0])
        return found
