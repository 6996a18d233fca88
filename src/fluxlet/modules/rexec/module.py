"""The module `rexec`: the subprocess server of a broker (spec 04, section 5)."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from syslog import LOG_ERR

from flux.brokermod import request_handler
from flux.constants import FLUX_ROLE_LOCAL
from flux.core.handle import Flux
from flux.message import Message
from flux.reactor import Reactor
from fluxlet.broker.broker import Broker
from fluxlet.broker.guardian import Guardian
from fluxlet.broker.process_module import ProcessModule
from fluxlet.broker.program import program_environment
from fluxlet.flow import Drain, DrainedRequest, Flow
from fluxlet.modules.rexec.server import Helper, Server
from fluxlet.payload import decode
from fluxlet.service import Service

#: Seconds from SIGTERM to SIGKILL for what runs when the broker ends.
_GRACE = 5.0


class BrokerHost:
    """A broker, as its subprocess server sees it."""

    def __init__(self, service: Service) -> None:
        broker = service.broker
        self.rank = broker.rank
        self.reactor: Reactor = service.module.reactor
        self.uri = broker.attributes.visible.get("local-uri") or ""
        self.guardian: Guardian | None = broker.life.guardian if broker.life is not None else None
        self.flow = Flow(service.handle, broker)
        self._service = service
        self._broker = broker

    def respond(self, request: Message, raw: bytes | None) -> None:
        """Answers."""
        self._service.answer(request, raw)
        if raw is not None:
            self.flow.sent(request, len(raw))

    def respond_error(self, request: Message, errnum: int, text: str | None) -> None:
        """Answers with an error."""
        self._service.handle.respond_error(request, errnum, text)

    def congested(self, request: Message) -> bool:
        """Too much is under way to whoever has sent `request`."""
        return self.flow.congested(request)

    def log(self, severity: int, text: str) -> None:
        """Logs in the name of the module."""
        self._broker.log.write(severity, text, self._service.name)

    def environment(self) -> Mapping[str, str]:
        """What programs of this broker get."""
        return program_environment(os.environ, self.uri, self._broker.attributes.visible.get("jobid"))

    def helpers(self) -> Sequence[Helper]:
        """The initial program, and the modules that are processes."""
        found = [
            Helper(module.pid, module.argv, "")
            for module in self._broker.modules.values()
            if isinstance(module, ProcessModule) and module.pid
        ]
        life = self._broker.life
        if life is not None and life.program_pid and life.program is not None:
            found.append(Helper(life.program_pid, life.program.argv, "rc2"))
        return found


class Rexec(Service):
    """Runs processes for the instance owner."""

    def __init__(self, handle: Flux, broker: Broker) -> None:
        super().__init__(handle, broker)
        self.host = BrokerHost(self)
        self.server = Server(self.host)
        self.drain = Drain(broker, self.answer)

    def stop_service(self) -> None:
        """Nothing that was started here outlives the broker."""
        self.server.stop(_GRACE)
        self.abandon(self.drain.stop())

    # Requests.

    def _check(self, msg: Message) -> None:
        """Where guests may connect, what comes from other ranks does not run as the owner on the first one."""
        if not self.broker.rank and self.broker.access.allow_guest_user and not msg.rolemask & FLUX_ROLE_LOCAL:
            raise OSError(errno.EPERM, "Remote rexec requests are not allowed on rank 0")

    @request_handler("exec")
    def exec(self, msg: Message) -> None:
        """Payload: `ExecRequest`; answers as spec 04, 5.2 has it."""
        self._check(msg)
        self.server.exec(msg)

    @request_handler("write")
    def write(self, msg: Message) -> None:
        """Payload: `WriteRequest`; not answered."""
        try:
            self._check(msg)
        except OSError as exc:
            self.host.log(LOG_ERR, f"rexec.write: {exc.strerror}")
            return
        self.server.write(msg)

    @request_handler("kill")
    def kill(self, msg: Message) -> None:
        """Payload: `KillRequest`; answers nothing."""
        self._check(msg)
        self.server.kill(msg)

    @request_handler("list")
    def list(self, msg: Message) -> None:
        """Answers `{"rank": i, "procs": [{"pid": i, "cmd": s, "label": s, "state": s}]}`."""
        self._check(msg)
        self.server.list(msg)

    @request_handler("wait")
    def wait(self, msg: Message) -> None:
        """Payload: `TargetRequest`; answers `{"status": i, "output": [IO, ...]}`."""
        self._check(msg)
        self.server.wait(msg)

    @request_handler("attach")
    def attach(self, msg: Message) -> None:
        """Payload: `AttachRequest`; answers as spec 04, 5.3 has it."""
        self._check(msg)
        self.server.attach(msg)

    @request_handler("disconnect", allow_guest=True)
    def disconnect(self, msg: Message) -> None:
        """A client has gone."""
        self.server.disconnect(msg)
        self.host.flow.forget(msg)
        self.drain.forget(msg)

    @request_handler("drained")
    def drained(self, msg: Message) -> None:
        """Payload: `DrainedRequest`; answers nothing, when the client has read what was sent to it. For other ranks."""
        self.drain.wait(msg, decode(msg, DrainedRequest).uuid)
