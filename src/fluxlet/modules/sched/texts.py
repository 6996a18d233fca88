"""The texts that an allocation is told with: R, its summary, the KVS operation that keeps it. Pure.

They are made from pieces rather than encoded from objects: most allocations are of one rank, and this is done for
each job.
"""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import Sequence
from functools import lru_cache

from flux.core.fluid import kvs
from flux.hostlist import Hostlist
from flux.resource._pool import Grant
from flux.resource.Rv1Set import Rv1Set, mask, unmask

#: Sets of ids are the same few over and over.
ids = lru_cache(maxsize=4096)(unmask)
bits_of = lru_cache(maxsize=4096)(mask)


class Texts:
    """Makes texts.

    Args:
        resources: all there are: hosts, properties and the scheduling part of R come from there.
    """

    def __init__(self, resources: Rv1Set) -> None:
        self._hosts = {rank: node.host or f"rank{rank}" for rank, node in resources.nodes.items()}
        self._quoted = {rank: json.dumps(host) for rank, host in self._hosts.items()}
        self._properties = {
            name: sum(1 << rank for rank in ranks)
            for name, ranks in sorted(resources.properties.items())
            if not name.startswith("+")
        }
        scheduling = resources.scheduling
        self._end = "" if scheduling is None else f', "scheduling": {json.dumps(scheduling)}'

    def r(self, grants: Sequence[Grant], slots: int, start: float, expiration: float) -> str:
        """R of an allocation, as JSON; `grants` not empty, times in seconds since the epoch."""
        if len(grants) == 1:
            rank, cores, gpus = grants[0]
            lite = _group(str(rank), cores, gpus)
            hosts = self._quoted[rank]
        else:
            lite = ", ".join(_group(ids(ranks), cores, gpus) for ranks, cores, gpus in _groups(grants))
            hosts = json.dumps(Hostlist([self._hosts[rank] for rank, _, _ in sorted(grants)]).encode())
        properties = self._held(grants) if self._properties else ""
        return (
            f'{{"version": 1, "execution": {{"R_lite": [{lite}], "starttime": {start!r}, "expiration": {expiration!r}, '
            f'"nslots": {slots}, "nodelist": [{hosts}]{properties}}}{self._end}}}'
        )

    def _held(self, grants: Sequence[Grant]) -> str:
        """The properties of the ranks of an allocation."""
        here = sum(1 << grant.rank for grant in grants)
        held = {name: ids(ranks & here) for name, ranks in self._properties.items() if ranks & here}
        return f', "properties": {json.dumps(held)}' if held else ""


def _group(ranks: str, cores: int, gpus: int) -> str:
    children = f'"core": "{ids(cores)}"' + (f', "gpu": "{ids(gpus)}"' if gpus else "")
    return f'{{"rank": "{ranks}", "children": {{{children}}}}}'


def _groups(grants: Sequence[Grant]) -> list[tuple[int, int, int]]:
    """(ranks, cores, gpus) of ranks that have the same, in the order of their lowest ranks."""
    groups: dict[tuple[int, int], int] = {}
    for rank, cores, gpus in sorted(grants):
        groups[cores, gpus] = groups.get((cores, gpus), 0) | 1 << rank
    return [(ranks, cores, gpus) for (cores, gpus), ranks in groups.items()]


def _short(name: str, text: str) -> str:
    return name + text if text.isdecimal() else f"{name}[{text}]"


def summary(grants: Sequence[Grant]) -> str:
    """An allocation in short: ``rank[0-1]/core[0-3],gpu0 rank2/core0``."""
    return " ".join(
        f"{_short('rank', ids(ranks))}/{_short('core', ids(cores))}" + (f",{_short('gpu', ids(gpus))}" if gpus else "")
        for ranks, cores, gpus in _groups(grants)
    )


def operation(jobid: int, r: str) -> str:
    """The operation of kvs.commit that keeps a job's R, as JSON."""
    data = b2a_base64(r.encode(), newline=False).decode()
    return f'{{"key":"{kvs(jobid)}.R","flags":0,"dirent":{{"ver":1,"type":"val","data":"{data}"}}}}'


def commit(operations: Sequence[str]) -> bytes:
    """The payload of kvs.commit."""
    return f'{{"namespace":"primary","flags":0,"ops":[{",".join(operations)}]}}\0'.encode()


def success(jobid: int, r: str, annotations: str) -> bytes:
    """The answer to sched.alloc that gives resources; `annotations` are those of `sched` as JSON."""
    return f'{{"id": {jobid}, "type": 0, "R": {r}, "annotations": {{"sched": {annotations}}}}}\0'.encode()
