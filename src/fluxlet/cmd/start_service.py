"""The service `start` of `flux start --test-size`, on a socket of its own: FLUX_START_URI (spec 04, 3.4). For tests.

start.status            -> {"procs": [{"pid": i}, ...]}, -1 for a broker that does not run
start.kill {"rank", "signum"}
start.wait {"rank"}     -> {"exit_rc": i}, once it has ended
start.run {"rank"}      starts one that does not run
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import msgspec

from flux.brokermod import request_handler
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.payload import decode
from fluxlet.service import Service, may_end

if TYPE_CHECKING:
    from fluxlet.cmd.test_instance import BrokerProcess, TestInstance


class RankRequest(msgspec.Struct):
    """Payload of start.wait and start.run."""

    rank: int


class KillRequest(msgspec.Struct):
    """Payload of start.kill."""

    rank: int
    signum: int


class StartService(Service):
    """Tells and changes how the brokers of a test instance do.

    Args:
        instance: them.
    """

    def __init__(self, handle: Flux, broker: Broker, instance: TestInstance) -> None:
        super().__init__(handle, broker)
        self.instance = instance
        self.waiting: list[tuple[int, Message]] = []

    def _process(self, rank: int) -> BrokerProcess:
        if not 0 <= rank < len(self.instance.brokers):
            raise OSError(errno.ESRCH, f"there is no rank {rank}")
        return self.instance.brokers[rank]

    @request_handler("status")
    def status(self, msg: Message) -> None:
        """Answers which process each broker is."""
        self.handle.respond(msg, {"procs": [{"pid": broker.pid or -1} for broker in self.instance.brokers]})

    @request_handler("kill")
    def kill(self, msg: Message) -> None:
        """Payload: `KillRequest`; ESRCH for one that does not run."""
        request = decode(msg, KillRequest)
        pid = self._process(request.rank).pid
        if not pid:
            raise OSError(errno.ESRCH, f"rank {request.rank} does not run")
        try:
            os.kill(pid, request.signum)
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror) from None
        self.handle.respond(msg)

    @request_handler("wait")
    def wait(self, msg: Message) -> None:
        """Payload: `RankRequest`; answered when the broker has ended."""
        broker = self._process(decode(msg, RankRequest).rank)
        if broker.pid:
            self.waiting.append((broker.rank, msg))
        elif broker.code is None:
            raise OSError(errno.ESRCH, f"rank {broker.rank} was not started")
        else:
            self.handle.respond(msg, {"exit_rc": broker.code})

    def ended(self, rank: int, code: int) -> None:
        """A broker has ended."""
        for waiting in [entry for entry in self.waiting if entry[0] == rank]:
            self.waiting.remove(waiting)
            self.handle.respond(waiting[1], {"exit_rc": code})

    @request_handler("run")
    def run_broker(self, msg: Message) -> None:
        """Payload: `RankRequest`; EEXIST for one that runs."""
        broker = self._process(decode(msg, RankRequest).rank)
        if broker.pid:
            raise OSError(errno.EEXIST, f"rank {broker.rank} runs already")
        self.instance.start_later(broker)
        self.handle.respond(msg)

    @request_handler("disconnect")
    def disconnect(self, msg: Message) -> None:
        """A client has gone: it waits no more."""
        self.waiting = [(rank, request) for rank, request in self.waiting if not may_end(request, msg)]
