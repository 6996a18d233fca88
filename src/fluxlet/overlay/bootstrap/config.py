"""Bootstrap by the configuration: all hosts are named there, and all brokers share a certificate (spec 04, 3.5).

There is no exchange: brokers start in any order, and one that was restarted joins again.
"""

from __future__ import annotations

from collections.abc import Mapping as Configuration
from typing import Any

from fluxlet.overlay.bootstrap.boot import Boot, BootError, Bootstrap, Local
from fluxlet.overlay.bootstrap.hosts import Hosts, parse
from fluxlet.overlay.certificate import Certificate, CertificateError


class ConfigBootstrap(Bootstrap):
    """Finds the others in the configuration.

    Args:
        hosts: what it says of them.
        hostname: of this broker.

    Raises BootError.
    """

    def __init__(self, hosts: Hosts, hostname: str) -> None:
        self.hosts = hosts
        rank: int | None = 0
        if hosts.names:
            rank = hosts.rank(hostname)
        if rank is None:
            raise BootError(_error(f"{hostname} not found in hosts"))
        super().__init__("config", rank, max(1, len(hosts.names)))

    @classmethod
    def from_config(cls, config: Configuration[str, Any], hostname: str) -> ConfigBootstrap | None:
        """By the table `[bootstrap]`; None without one. Raises BootError."""
        table = config.get("bootstrap")
        if table is None:
            return None
        try:
            hosts = parse(table)
        except ValueError as exc:
            raise BootError(_error(str(exc))) from None
        return cls(hosts, hostname)

    def exchange(self, local: Local) -> Boot:
        parents = self.hosts.parents() if self.hosts.names else []
        topology = local.topology(self.size, "Error creating {} topology", "custom", parents)
        names = self.hosts.names or [local.hostname]
        mapping = f"[[0,{self.size},1,1]]"
        if self.size == 1:
            return Boot(topology, names, mapping=mapping)
        assert self.hosts.certificate is not None
        try:
            certificate = Certificate.read(self.hosts.certificate)
        except CertificateError as exc:
            raise BootError(f"Error loading certificate: {exc}") from None
        from fluxlet.overlay.zmq import Transport  # an instance of one does without

        transport = Transport(certificate, local.sockets(self.rank, self.hosts.ipv6))
        transport.authorized.add(certificate.raw_public)
        try:
            endpoint = parent_endpoint = None
            if topology.children(self.rank):
                uri = self.hosts.bind(self.rank)
                if uri is None:
                    raise BootError(f"bind URI is undefined for rank {self.rank}")
                endpoint = transport.bind([uri])[0]
            if self.rank:
                above = topology.parent(self.rank)
                parent_endpoint = self.hosts.connect(above)
                if parent_endpoint is None:
                    raise BootError(f"connect URI is undefined for rank {above}")
                transport.connect(parent_endpoint, certificate.public, local.uuid.encode())
        except OSError as exc:
            transport.close()
            raise BootError(exc.strerror or str(exc)) from None
        except BootError:
            transport.close()
            raise
        return Boot(topology, names, transport, endpoint, parent_endpoint, mapping, patient=True)


def _error(text: str) -> str:
    return f"bootstrap: config: initialize: Config file error [bootstrap]: {text}"
