"""Bootstrap by a PMI launcher: brokers exchange business cards (spec 04, 3.3).

    put my card -- barrier -- get my parent's and my children's -- (rank 0: gets all, puts the host list) -- barrier
    -- get the host list

The reference has every broker get every card, which is the square of the size; where rank 0 is ours, it does that for
all. Where it is not, there is no such list, and the cards are read as the reference does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping as EnvironmentMapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from flux.hostlist import Hostlist
from fluxlet.overlay.bootstrap.address import find_address
from fluxlet.overlay.bootstrap.boot import Boot, BootError, Bootstrap, Local
from fluxlet.overlay.bootstrap.mapping import Mapping
from fluxlet.overlay.bootstrap.pmi_client import PmiClient
from fluxlet.overlay.bootstrap.pmi_wire import VALUE_MAX, PmiError
from fluxlet.overlay.certificate import Certificate, decode_key
from fluxlet.overlay.topology import Topology
from fluxlet.payload import UNREADABLE

if TYPE_CHECKING:
    from fluxlet.overlay.zmq import Transport

_HOSTLIST = "fluxlet.hostlist"


class Card(msgspec.Struct):
    """A business card.

    Args:
        host: name of the host.
        uri: where children connect to; none on leaves.
        pubkey: public key, in Z85.
    """

    host: str
    uri: list[str]
    pubkey: str


class Client(Protocol):
    """Who has rank and size, and passes values on: see `PmiClient`."""

    rank: int
    size: int
    kvsname: str

    def init(self) -> None: ...
    def put(self, key: str, value: str) -> None: ...
    def get(self, key: str) -> str | None: ...
    def barrier(self) -> None: ...
    def finalize(self) -> None: ...
    def close(self) -> None: ...


class PmiBootstrap(Bootstrap):
    """Finds the others by the launcher's key-value space.

    Args:
        client: the connection with the launcher.
        method: the name of this way.

    Raises BootError.
    """

    def __init__(self, client: Client, method: str = "simple") -> None:
        self.client = client
        try:
            client.init()
            level = client.get("flux.instance-level")
        except PmiError as exc:
            client.close()
            raise BootError(f"bootstrap: {method}: {exc}") from None
        jobid = None if level is None else client.kvsname
        super().__init__(method, client.rank, client.size, level or "0", jobid)
        self._nested = level is not None

    @classmethod
    def from_environment(cls, environ: EnvironmentMapping[str, str]) -> PmiBootstrap | None:
        """By the launcher that the environment names; None without one. Raises BootError."""
        try:
            client = PmiClient.from_environment(environ)
        except PmiError as exc:
            raise BootError(f"bootstrap: simple: {exc}") from None
        return None if client is None else cls(client)

    def abandon(self) -> None:
        self.client.close()

    def exchange(self, local: Local) -> Boot:
        try:
            boot = self._exchange(local)
            self.client.finalize()
        except PmiError as exc:
            raise BootError(f"bootstrap: {self.method}: {exc}") from None
        finally:
            self.client.close()
        return boot

    def _mapping(self) -> Mapping | None:
        if self._nested:
            text = self.client.get("flux.taskmap")
            if text is not None:
                return Mapping.parse_taskmap(text, self.size)
        text = self.client.get("PMI_process_mapping")
        return None if text is None else Mapping.parse_pmi(text, self.size)

    def _exchange(self, local: Local) -> Boot:
        topology = local.topology(self.size, "error creating '{}' topology")
        hint = self.client.get("flux.tbon-interface-hint") if self._nested else None
        mapping = self._mapping()
        text = None if mapping is None else str(mapping)
        if self.size == 1:
            return Boot(topology, [local.hostname], mapping=text, interface_hint=hint)
        from fluxlet.overlay.zmq import Transport  # who is alone does not pay for it

        ipv6 = os.path.exists("/proc/net/if_inet6")
        transport = Transport(Certificate.new(), local.sockets(self.rank, ipv6))
        try:
            return self._connect(local, topology, mapping, transport, hint)
        except (BootError, PmiError):
            transport.close()
            raise

    def _connect(
        self, local: Local, topology: Topology, mapping: Mapping | None, transport: Transport, hint: str | None
    ) -> Boot:
        client, rank = self.client, self.rank
        children = topology.children(rank)
        endpoints = []
        if children:
            try:
                endpoints = transport.bind(self._endpoints(local, children, mapping, hint))
            except OSError as exc:
                raise BootError(f"bootstrap: {exc.strerror}") from None
        card = Card(local.hostname, endpoints, transport.certificate.public)
        client.put(str(rank), msgspec.json.encode(card).decode())
        client.barrier()
        parent_endpoint = None
        if rank:
            above = topology.parent(rank)
            parent = self._card(above)
            parent_endpoint = self._reach(local, parent, above, mapping)
            try:
                transport.connect(parent_endpoint, parent.pubkey, local.uuid.encode())
            except (OSError, ValueError) as exc:
                raise BootError(f"bootstrap: {exc}") from None
        for child in children:
            try:
                transport.authorized.add(decode_key(self._card(child).pubkey))
            except ValueError as exc:
                raise BootError(f"bootstrap: card of rank {child}: {exc}") from None
        hosts: list[str] | None = None
        if rank == 0:
            hosts = [self._card(other).host if other else local.hostname for other in range(self.size)]
            self._publish(hosts)
        client.barrier()
        if hosts is None:
            hosts = self._hosts()
        mapped = None if mapping is None else str(mapping)
        endpoint = endpoints[0] if endpoints else None
        return Boot(topology, hosts, transport, endpoint, parent_endpoint, mapped, hint)

    def _card(self, rank: int) -> Card:
        text = self.client.get(str(rank))
        if text is None:
            raise BootError(f"bootstrap: rank {rank} has left no card")
        try:
            return msgspec.json.decode(text, type=Card)
        except UNREADABLE as exc:
            raise BootError(f"bootstrap: card of rank {rank}: {exc}") from None

    def _near(self, rank: int, mapping: Mapping | None) -> bool:
        """True if that rank is known to be on this node."""
        return mapping is not None and mapping.node(rank) == mapping.node(self.rank) >= 0

    def _endpoints(self, local: Local, children: Any, mapping: Mapping | None, hint: str | None) -> list[str]:
        """What to bind to: for children on this node a socket in the file system, for others TCP."""
        near = 0 if local.prefer_tcp() else sum(self._near(child, mapping) for child in children)
        endpoints = []
        if near < len(children):
            address = find_address(local.interface_hint(hint), "FLUX_IPADDR_V6" in local.environ)
            endpoints.append(f"tcp://{address}:*")
        if near:
            endpoints.append(f"ipc://{os.path.join(local.rundir, f'tbon-{self.rank}')}")
        return endpoints

    def _reach(self, local: Local, parent: Card, rank: int, mapping: Mapping | None) -> str:
        """Where to connect to."""
        for uri in parent.uri:
            if uri.startswith("ipc://") and self._near(rank, mapping) and not local.prefer_tcp():
                return uri
        if not parent.uri:
            raise BootError(f"bootstrap: rank {rank} can be reached nowhere")
        return parent.uri[0]

    # The list of hosts: one value, or several if it is long.

    def _publish(self, hosts: list[str]) -> None:
        text = str(Hostlist(hosts))
        length = VALUE_MAX - 32
        pieces = [text[start : start + length] for start in range(0, len(text), length)] or [""]
        self.client.put(_HOSTLIST, f"{len(pieces)} {pieces[0]}")
        for number, piece in enumerate(pieces[1:], 1):
            self.client.put(f"{_HOSTLIST}.{number}", piece)

    def _hosts(self) -> list[str]:
        text = self.client.get(_HOSTLIST)
        if text is None:
            return [self._card(rank).host for rank in range(self.size)]
        count, _, text = text.partition(" ")
        for number in range(1, int(count) if count.isdigit() else 1):
            text += self.client.get(f"{_HOSTLIST}.{number}") or ""
        hosts = list(Hostlist(text))
        if len(hosts) != self.size:
            raise BootError(f"bootstrap: {len(hosts)} hosts for {self.size} brokers: {json.dumps(text)}")
        return hosts
