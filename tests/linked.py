"""An instance of several ranks in one process: real brokers on one reactor, their overlay a function call.

For tests that want more than one rank and no launcher. Each broker has its socket `DIR/local-RANK` and its
built-in services.

    python tests/linked.py DIR PARENT...     runs until its input ends; one parent for each rank but 0
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import flux
from flux.constants import FLUX_POLLIN, FLUX_RPC_STREAMING
from flux.message import Message
from flux.reactor import Reactor
from fluxlet.broker import local_server
from fluxlet.broker.attributes import Attributes
from fluxlet.broker.broker import Broker
from fluxlet.broker.builtins import load_builtins
from fluxlet.broker.router import Peer


class Link(Peer):
    """The other end of a connection between two brokers."""

    def __init__(self, here: Broker, there: Broker, is_parent: bool) -> None:
        super().__init__(there.rank, there.uuid, is_parent)
        self.there = there
        self.back: Link | None = None

    def deliver(self, message: Message) -> None:
        assert self.back is not None
        self.there.submit(self.back, message.copy())


def link(child: Broker, parent: Broker) -> None:
    """Connects two brokers."""
    up, down = Link(child, parent, True), Link(parent, child, False)
    up.back, down.back = down, up
    child.router.attach(up)
    parent.router.attach(down)


class LinkedInstance:
    """Brokers in a tree.

    Args:
        directory: for the sockets.
        parents: the parent of each rank but 0, in order of the ranks.
        config: the configuration of all of them.
    """

    def __init__(self, directory: str, *parents: int, config: dict[str, Any] | None = None) -> None:
        self.directory = directory
        self.parents = (-1, *parents)
        self.reactor = Reactor()
        self.brokers: list[Broker] = []
        self._thread: threading.Thread | None = None
        for rank in range(len(self.parents)):
            self.brokers.append(self._broker(rank, config or {}))
        for child, parent in enumerate(self.parents[1:], 1):
            link(self.brokers[child], self.brokers[parent])
        for broker in self.brokers:
            load_builtins(broker)
        for broker in self.brokers:
            broker.server.listen(f"{directory}/local-{broker.rank}")

    def _broker(self, rank: int, config: dict[str, Any]) -> Broker:
        size = len(self.parents)
        attributes = Attributes({})
        values = {
            "rank": str(rank),
            "size": str(size),
            "hostname": "host0",
            "hostlist": ",".join(["host0"] * size),
            "version": "0.88.0",
            "local-uri": f"local://{self.directory}/local-{rank}",
            "instance-level": "0",
            "security.owner": str(os.getuid()),
            "rundir": self.directory,
            "broker.starttime": f"{time.time():.2f}",
        }
        for name, value in values.items():
            attributes.set_internal(name, value)
        return Broker(attributes, config, None, self._child_towards(rank), self.reactor)

    def _child_towards(self, rank: int) -> Callable[[int], int | None]:
        def towards(target: int) -> int | None:
            if not 0 <= target < len(self.parents):
                return None
            while target > 0 and self.parents[target] != rank:
                target = self.parents[target]
            return target if target > 0 else None

        return towards

    def start(self) -> None:
        """Runs the brokers in a thread."""
        self._thread = threading.Thread(target=self.reactor.run)
        self._thread.start()

    def settle(self) -> None:
        """Waits for what modules do once they are loaded, which ends with the scheduler's word in the log."""
        with flux.Flux(f"local://{self.directory}/local-0") as handle:
            lines = handle.rpc("log.dmesg", {"follow": True}, flags=FLUX_RPC_STREAMING)
            while " sched-simple " not in (line := lines.get_str() or "") or " ready: mode" not in line:
                lines.reset()

    def stop(self) -> None:
        """Ends them."""
        if self._thread is not None:
            self.reactor.stop()
            self.reactor.wake()
            self._thread.join()
        for broker in reversed(self.brokers):
            broker.server.shutdown()
            for name in reversed(list(broker.modules)):
                broker.unload(name)
        self.reactor.close()


class PlayedCredentials:
    """Lets connections of this process pass for those of other users."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.uid = os.getuid()
        monkeypatch.setattr(local_server, "peer_credentials", lambda sock: (os.getpid(), self.uid))


def main() -> None:
    instance = LinkedInstance(sys.argv[1], *map(int, sys.argv[2:]))
    # In the main thread, as brokers are: that is where signals come.
    instance.reactor.fd(0, FLUX_POLLIN, lambda fd, revents: instance.reactor.stop()).start()
    print("ready", flush=True)
    instance.reactor.run()
    instance.stop()


if __name__ == "__main__":
    main()
