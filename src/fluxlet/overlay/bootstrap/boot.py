"""What a broker knows of its instance once it has found the others, and the steps to get there (spec 04, 3.1).

    method = choose(...)           who am I: rank and size
    boot = method.exchange(local)  who are the others; sockets are bound and connected

Rules:
- All of this happens before the broker's loop runs: it may wait, for the others too.
- What does not work is a BootError whose text goes to the log; sockets that were made are closed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from flux.util.durations import parse_fsd
from fluxlet.overlay.settings import Settings
from fluxlet.overlay.topology import Topology, TopologyError

if TYPE_CHECKING:
    from fluxlet.overlay.zmq import Transport  # who is alone does not pay for it

_DEFAULT_TOPOLOGY = "kary:32"


class BootError(Exception):
    """The brokers cannot find each other; the text says why."""


class Boot(NamedTuple):
    """What was found out.

    Args:
        topology: of the instance.
        hosts: the names of the hosts, by rank.
        transport: bound and connected; None for an instance of one.
        endpoint: where children connect to; None without children.
        parent_endpoint: where the parent is; None for rank 0.
        mapping: which rank is on which node, as a taskmap in JSON; None: not known.
        interface_hint: as the launcher has it; None if it says nothing.
        patient: the parent may come later, or again; else it was there, and who cannot reach it never will.
    """

    topology: Topology
    hosts: Sequence[str]
    transport: Transport | None = None
    endpoint: str | None = None
    parent_endpoint: str | None = None
    mapping: str | None = None
    interface_hint: str | None = None
    patient: bool = False


class Local:
    """What a broker knows by itself.

    Args:
        hostname: of this host.
        rundir: for sockets in the file system.
        uuid: of this broker.
        attributes: as the command line sets them.
        config: the configuration.
        environ: the environment.
    """

    def __init__(
        self,
        hostname: str,
        rundir: str,
        uuid: str,
        attributes: Mapping[str, str | None],
        config: Mapping[str, Any],
        environ: Mapping[str, str],
    ) -> None:
        self.hostname = hostname
        self.rundir = rundir
        self.uuid = uuid
        self.attributes = attributes
        self.config = config
        self.environ = environ
        table = config.get("tbon")
        self.table: Mapping[str, Any] = table if isinstance(table, dict) else {}

    def setting(self, name: str, default: str) -> str:
        """A `tbon.` attribute: by the command line, else by the configuration."""
        value = self.attributes.get(f"tbon.{name}")
        if value is None:
            value = self.table.get(name)
        return default if value is None else str(value)

    def topology_uri(self, default: str = _DEFAULT_TOPOLOGY) -> str:
        """What the user says of the shape of the tree."""
        if self.attributes.get("tbon.topo") is None and self.attributes.get("tbon.fanout") is not None:
            return f"kary:{self.attributes['tbon.fanout']}"
        return self.setting("topo", default)

    def topology(
        self, size: int, error: str, default: str = _DEFAULT_TOPOLOGY, parents: Sequence[int] = ()
    ) -> Topology:
        """The shape of the tree. Raises BootError; its text begins with `error`, in which {} is what the user says."""
        uri = self.topology_uri(default)
        try:
            return Topology.parse(uri, size, parents)
        except TopologyError as exc:
            raise BootError(f"{error.format(uri)}: {exc}") from None

    def interface_hint(self, launcher: str | None) -> str:
        """Which interface to use; the launcher's hint counts for less than the command line (spec 04, 3.3)."""
        given = self.attributes.get("tbon.interface-hint") or launcher or self.table.get("interface-hint")
        if given is None:
            given = self.environ.get("FLUX_IPADDR_INTERFACE")
        if given is None and "FLUX_IPADDR_HOSTNAME" in self.environ:
            given = "hostname"
        return str(given or "default-route")

    def sockets(self, rank: int, ipv6: bool) -> Settings:
        """Options of the sockets. Raises BootError."""
        threads = self._number("zmq_io_threads", 1)
        if threads < 1:
            raise BootError("tbon.zmq_io_threads must be at least 1")
        rcvhwm = self._number("child_rcvhwm", 0)
        if rcvhwm == 1:
            raise BootError("tbon.child_rcvhwm must be 0 or at least 2")
        return Settings(
            io_threads=threads if rank == 0 else 1,
            child_rcvhwm=rcvhwm,
            tcp_user_timeout=self._seconds("tcp_user_timeout", "20s"),
            connect_timeout=self._seconds("connect_timeout", "30s"),
            ipv6=ipv6,
        )

    def prefer_tcp(self) -> bool:
        """True if sockets in the file system are not to be used."""
        return self._number("prefertcp", 0) != 0

    def _number(self, name: str, default: int) -> int:
        text = self.setting(name, str(default))
        if not text.isascii() or not text.isdigit():
            raise BootError(f"tbon.{name}: '{text}' is not a number")
        return int(text)

    def _seconds(self, name: str, default: str) -> float:
        text = self.setting(name, default)
        try:
            return parse_fsd(text)
        except ValueError:
            raise BootError(f"tbon.{name}: '{text}' is no duration") from None


class Bootstrap:
    """A way to find the others.

    Args:
        method: its name, for the attribute broker.boot-method.
        rank, size: of this broker, and of the instance.
        level: attribute instance-level.
        jobid: of the job that the instance is; None if it is none.
    """

    def __init__(self, method: str, rank: int, size: int, level: str = "0", jobid: str | None = None) -> None:
        self.method = method
        self.rank = rank
        self.size = size
        self.level = level
        self.jobid = jobid

    def exchange(self, local: Local) -> Boot:
        """Finds the others; returns when all is known. Raises BootError."""
        raise NotImplementedError

    def abandon(self) -> None:
        """The broker cannot start: whatever waits for it must not."""


class Single(Bootstrap):
    """There are no others."""

    def __init__(self) -> None:
        super().__init__("single", 0, 1)

    def exchange(self, local: Local) -> Boot:
        topology = local.topology(1, "error creating '{}' topology")
        return Boot(topology, [local.hostname], mapping="[[0,1,1,1]]")
