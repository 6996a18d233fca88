"""Brokers in the test's own process, to be talked to by real handles over real sockets (fixtures: fluxlet/conftest)."""

from __future__ import annotations

import os
import queue
import select
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

import flux
from flux.constants import FLUX_O_NONBLOCK, FLUX_POLLIN
from flux.message import Message
from flux.reactor import tls
from fluxlet.broker.attributes import Attributes
from fluxlet.broker.broker import Broker
from fluxlet.broker.builtins import load_builtins
from fluxlet.broker.loaded import STATUS_RUNNING

T = TypeVar("T")

_PATIENCE = 60.0


class BrokerThread:
    """A broker with the built-in services, its loop in a thread of its own.

    Args:
        settings: attributes, over rank 0 and size 1.
        config: the configuration.
        prepare: called with the broker before its services are loaded.
    """

    def __init__(
        self,
        settings: dict[str, str | None] | None = None,
        config: dict[str, Any] | None = None,
        prepare: Callable[[Broker], None] = lambda broker: None,
    ) -> None:
        self.rundir = tempfile.mkdtemp(prefix="fluxlet-")
        self.uri = f"local://{self.rundir}/local-0"
        defaults: dict[str, str | None] = {
            "rank": "0",
            "size": "1",
            "hostname": "testhost",
            "hostlist": "testhost",
            "security.owner": str(os.getuid()),
            "local-uri": self.uri,
            "rundir": self.rundir,
            "statedir": self.rundir,
            "statedir-cleanup": "1",
        }
        self.broker = Broker(Attributes({**defaults, **(settings or {})}), config)
        prepare(self.broker)
        load_builtins(self.broker)
        if self.broker.rank:
            self.broker.unload("job-ingest")  # which has to ask who is above it, and here nobody is
        self.broker.server.listen(f"{self.rundir}/local-0")
        self.failure: BaseException | None = None
        self._calls: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._bell, ring = socket.socketpair()
        self._ring = ring
        self._event = self.broker.reactor.fd(self._bell.fileno(), FLUX_POLLIN, self._on_ring)
        self._event.start()
        self._thread = threading.Thread(target=self._run, name="broker")
        self._thread.start()
        # Some modules ask others before they run. Of several ranks the others are not here, and a job's resources are
        # known when who started it has told: what such a broker does first, tests of it see.
        if (settings or {}).keys().isdisjoint({"size", "jobid"}):
            until(lambda: self.call(self._all_run))

    def _all_run(self) -> bool:
        modules = self.broker.modules
        if not all(module.status == STATUS_RUNNING for module in modules.values()):
            return False
        # It says so when it has resources: what it logs later would be in the way of tests of the log.
        return "sched-simple" not in modules or any(b"sched-simple" in line for line in self.broker.log.ring)

    def _run(self) -> None:
        self.broker.reactor.run()
        self.failure, tls.exception = tls.exception, None
        self.broker.shutdown()

    def _on_ring(self, fd: int, revents: int) -> None:
        self._bell.recv(4096)
        while not self._calls.empty():
            self._calls.get()()

    def call(self, function: Callable[[], T]) -> T:
        """Calls `function` in the broker's thread, and returns what it returns."""
        answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

        def run() -> None:
            try:
                answers.put((function(), None))
            except Exception as exc:  # noqa: BLE001  # raised in the test's thread
                answers.put((None, exc))

        self._calls.put(run)
        self._ring.send(b"!")
        result, error = answers.get(timeout=_PATIENCE)
        if error is not None:
            raise error
        return result  # type: ignore[return-value]

    def open(self) -> flux.Flux:
        """A new connection."""
        return flux.Flux(self.uri)

    def stop(self) -> None:
        """Ends the broker; raises what has ended it before."""
        if self._thread.is_alive():
            self._calls.put(self.broker.reactor.stop)
            self._ring.send(b"!")
            self._thread.join(_PATIENCE)
            assert not self._thread.is_alive(), "the broker's loop does not end"
        self._bell.close()
        self._ring.close()
        shutil.rmtree(self.rundir, ignore_errors=True)
        if self.failure is not None:
            raise self.failure


def error_of(call: Callable[[], Any]) -> tuple[int, str]:
    """(errno, text) of the OSError that a call raises."""
    with pytest.raises(OSError) as info:  # noqa: PT011  # the caller compares it
        call()
    return info.value.errno, info.value.strerror


def receive(handle: flux.Flux) -> Message:
    """The next message; a test whose message does not come fails, and does not hang."""
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        try:
            return handle.recv(flags=FLUX_O_NONBLOCK)
        except BlockingIOError:
            select.select([handle.pollfd()], [], [], 1.0)
    raise AssertionError("no message comes")


def until(condition: Callable[[], bool]) -> None:
    """Waits for something that no message tells of."""
    deadline = time.monotonic() + _PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "what the test waits for does not come"
        time.sleep(0.001)


def ask(
    handle: flux.Flux,
    topic: str,
    payload: Any = None,
    userid: int | None = None,
    rolemask: int | None = None,
    flags: int = 0,
    matchtag: int = 77,
) -> Message:
    """Sends a request in somebody's name, and returns the response message as it is on the wire."""
    tell(handle, topic, payload, userid, rolemask, flags, matchtag)
    return receive(handle)


def tell(
    handle: flux.Flux,
    topic: str,
    payload: Any = None,
    userid: int | None = None,
    rolemask: int | None = None,
    flags: int = 0,
    matchtag: int = 0,
) -> None:
    """Sends a request in somebody's name."""
    request = Message.request(topic.encode(), None, matchtag=matchtag, flags=flags)
    request.payload = payload
    if userid is not None:
        request.userid = userid
    if rolemask is not None:
        request.rolemask = rolemask
    handle.send(request)


def outcome(response: Message) -> tuple[int, str | None]:
    """(errno, payload text) of a response message."""
    return response.aux1, response.payload_str


GUEST = {"userid": 1234, "rolemask": 2}
