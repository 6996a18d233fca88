"""Brokers on networks of their own: three network namespaces joined by veth pairs and a bridge (spec 04, 2.8 and 8).

A link that is cut and restored, one that is cut for good, and a broker that comes back. Skipped where namespaces
cannot be made.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import PATIENCE, wait_until

import flux
from fluxlet.overlay.certificate import Certificate

FLUX = str(Path(sys.executable).parent / "flux")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=PATIENCE)


class Network:
    """Three hosts, 10.199.0.1 to .3, on a bridge at the first one."""

    def __init__(self) -> None:
        self.names = [f"fl{os.getpid()}-{number}" for number in range(3)]
        try:
            for name in self.names:
                ip("netns", "add", name)
                self.run(name, "ip", "link", "set", "lo", "up")
            hub = self.names[0]
            self.run(hub, "ip", "link", "add", "br0", "type", "bridge")
            self.run(hub, "ip", "addr", "add", "10.199.0.1/24", "dev", "br0")
            self.run(hub, "ip", "link", "set", "br0", "up")
            for number, name in enumerate(self.names[1:], 1):
                leg = f"leg{number}"
                self.run(hub, "ip", "link", "add", leg, "type", "veth", "peer", "name", "eth0", "netns", name)
                self.run(hub, "ip", "link", "set", leg, "master", "br0")
                self.run(hub, "ip", "link", "set", leg, "up")
                self.run(name, "ip", "addr", "add", f"10.199.0.{number + 1}/24", "dev", "eth0")
                self.run(name, "ip", "link", "set", "eth0", "up")
        except BaseException:
            self.close()
            raise

    def run(self, name: str, *words: str) -> None:
        """Runs a command in a namespace."""
        ip("netns", "exec", name, *words)

    def link(self, number: int, state: str) -> None:
        """Takes the link of a host `down`, or `up`."""
        self.run(self.names[0], "ip", "link", "set", f"leg{number}", state)

    def close(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True, timeout=PATIENCE)


class Brokers:
    """An instance of three: rank 0 has the others as children."""

    def __init__(self, network: Network, directory: Path, timeout: str) -> None:
        self.network = network
        self.directory = directory
        Certificate.new().write(str(directory / "curve.cert"))
        uri = "tcp://10.199.0.1:8050"
        (directory / "flux.toml").write_text(
            f'[bootstrap]\ncurve_cert = "{directory}/curve.cert"\n'
            f'hosts = [{{host="net[0-2]", bind="{uri}", connect="{uri}"}}]\n'
            f'[tbon]\ntcp_user_timeout = "{timeout}"\n'
            'torpid_min = "0.5s"\ntorpid_max = "1.5s"\n'
            '[heartbeat]\nperiod = "0.5s"\n'
        )
        self.processes: list[subprocess.Popen[str]] = []
        for rank in range(3):
            self.processes.append(self.start(rank))

    def start(self, rank: int) -> subprocess.Popen[str]:
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("FLUX_", "PMI_"))}
        words = ["-c", str(self.directory), f"-Shostname=net{rank}", f"-Srundir={self.directory}/{rank}"]
        if rank == 0:
            words += ["-Sbroker.rc2_none=1"]
        with (self.directory / f"log{rank}").open("a") as log:
            return subprocess.Popen(
                ["ip", "netns", "exec", self.network.names[rank], FLUX, "broker", *words],
                env={**environ, "SHELL": "/bin/sh"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )

    def handle(self, rank: int) -> flux.Flux:
        path = self.directory / str(rank) / f"local-{rank}"
        wait_until(path.exists, f"the socket of rank {rank}")
        return flux.Flux(f"local://{path}")

    def log(self, rank: int) -> str:
        return (self.directory / f"log{rank}").read_text()

    def close(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    if shutil.which("ip") is None:
        pytest.skip("there is no command ip")
    try:
        made = Network()
    except subprocess.CalledProcessError as exc:
        pytest.skip(f"namespaces cannot be made: {exc.stderr.decode().strip()}")
    yield made
    made.close()


@pytest.fixture
def brokers(
    request: pytest.FixtureRequest, network: Network, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Brokers]:
    """Three brokers; indirectly, for how long one may be out of reach."""
    directory = tmp_path_factory.mktemp("n")
    directory.chmod(0o700)
    instance = Brokers(network, directory, getattr(request, "param", "8s"))
    yield instance
    for number in (1, 2):
        network.link(number, "up")
    instance.close()


def members(handle: flux.Flux, group: str) -> str:
    return str(handle.rpc("groups.get", {"name": group}, 0).get()["members"])


def test_a_link_that_is_cut_for_a_moment_loses_nothing(brokers: Brokers) -> None:
    with brokers.handle(0) as handle:
        wait_until(lambda: members(handle, "broker.online") == "0-2", "all ranks")
        with brokers.handle(1) as far:
            far.event_subscribe("cut.")
            brokers.network.link(1, "down")
            pending = [handle.rpc("broker.ping", {"seq": number}, 1) for number in range(10)]
            for number in range(10):
                handle.rpc("event.publish", {"topic": f"cut.{number}", "flags": 0}, 0).get()
            wait_until(lambda: members(handle, "broker.torpid") == "1", "torpidity of rank 1")
            assert members(handle, "broker.online") == "0-2"
            assert handle.rpc("broker.ping", {}, 2).get()
            brokers.network.link(1, "up")
            assert [ping.get()["seq"] for ping in pending] == list(range(10))
            assert [far.event_recv().topic for _ in range(10)] == [f"cut.{number}" for number in range(10)]
            wait_until(lambda: members(handle, "broker.torpid") == "", "the end of torpidity")
        assert handle.rpc("overlay.health").get()["status"] == "full"


@pytest.mark.parametrize("brokers", ["2s"], indirect=True)
def test_a_link_that_stays_cut_is_a_loss_and_who_comes_back_is_let_in(brokers: Brokers) -> None:
    with brokers.handle(0) as handle:
        wait_until(lambda: members(handle, "broker.online") == "0-2", "all ranks")
        pending = handle.rpc("overlay.health", None, 1, 2)
        pending.get()
        pending.reset()
        brokers.network.link(1, "down")
        with pytest.raises(OSError, match="No route to host"):
            pending.get()
        wait_until(lambda: members(handle, "broker.online") == "0,2", "the loss of rank 1")
        assert handle.rpc("overlay.health").get()["status"] == "degraded"
        # The other side of the cut: a broker that cannot reach its parent is nobody's, and ends.
        assert brokers.processes[1].wait(PATIENCE) == 1
        assert re.search(r"net0 \(rank 0\) lost connection", brokers.log(1))
        brokers.network.link(1, "up")
        brokers.processes[1] = brokers.start(1)
        wait_until(lambda: members(handle, "broker.online") == "0-2", "rank 1")
        assert handle.rpc("overlay.health").get()["status"] == "full"
        assert handle.rpc("broker.ping", {}, 1).get()


def test_a_parent_that_comes_late_is_waited_for(brokers: Brokers) -> None:
    with brokers.handle(0) as handle:
        wait_until(lambda: members(handle, "broker.online") == "0-2", "all ranks")
    brokers.processes[0].terminate()
    for rank in range(3):
        brokers.processes[rank].wait(PATIENCE)
    for rank in (2, 1, 0):
        brokers.processes[rank] = brokers.start(rank)
        if rank:
            wait_until((brokers.directory / str(rank) / f"local-{rank}").exists, f"rank {rank}")
    with brokers.handle(0) as handle:
        wait_until(lambda: members(handle, "broker.online") == "0-2", "all ranks")
