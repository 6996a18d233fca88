"""The module `job-shell`: the shell process of a rank, which runs the tasks of all jobs there (spec 07, section 5).

    job-exec (rank 0) --run--> job-shell --attach, a stream--> shell process
                      <--connect, a stream-- job-shell <--report--

It is ours alone: the reference starts a process for each job and rank. The shell is started when the first job comes,
and again if it has been lost and there is another job.

Rules:
- Commands and reports are passed on as they are. Of commands only the names of services are looked at, of reports what
  of them is gone.
- While there is no shell yet, commands wait; a shell that cannot be started, or ends, is reported as lost.
- The shell is who has the token; the services of jobs are its own, as if it had asked for them.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from typing import TYPE_CHECKING, Any

import msgspec

from flux.brokermod import request_handler
from flux.core.codec import dump_payload
from flux.core.handle import Flux
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.broker.child import Child
from fluxlet.broker.forked import may_fork
from fluxlet.broker.program import program_environment
from fluxlet.payload import UNREADABLE, decode
from fluxlet.service import Service, may_end, require_streaming, sender
from fluxlet.shell.__main__ import main as shell_main

if TYPE_CHECKING:
    from fluxlet.broker.clients import Client

#: Seconds that the shell has to end its tasks and itself.
_GRACE = 5.0
_LAST_GRACE = 1.0


class Named(msgspec.Struct):
    """Of a job that is to be started: the name of its service."""

    service: str


class RunRequest(msgspec.Struct):
    """Payload of job-shell.run, as far as it is ours; all of it is for the shell."""

    jobs: list[Named] = []


class ReportRequest(msgspec.Struct):
    """Payload of job-shell.report, as far as it is ours: services that are over."""

    gone: list[str] = []


class AttachRequest(msgspec.Struct):
    """Payload of job-shell.attach."""

    token: str


class CleanRequest(msgspec.Struct):
    """Payload of job-shell.clean."""

    names: list[str]


#: The names of services of jobs' shells.
_is_shell_service = re.compile(rb"[0-9]+-shell-f[1-9A-Za-z]+").fullmatch

_decode_run = msgspec.json.Decoder(RunRequest).decode
_decode_report = msgspec.json.Decoder(ReportRequest).decode


class JobShell(Service):
    """The shell process of one rank."""

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        super().__init__(handle, broker, *args)
        self.child: Child | None = None
        self.starts = 0
        self._token = ""
        self._listener: Message | None = None
        self._attached: Message | None = None
        self._shell: Client | None = None
        self._waiting: list[tuple[bytes, list[bytes]]] = []  # commands, and the services of the jobs in them
        self._grace = broker.reactor.timer(_GRACE, 0.0, self._kill)
        self._ending: list[Message] = []
        self._abandoned = False

    # For job-exec.

    @request_handler("connect")
    def connect(self, msg: Message) -> None:
        """A stream of reports, as the shell makes them; ``{"lost": {...}}`` when it has ended.

        One has it at a time; what runs for somebody who had it before is ended.
        """
        require_streaming(msg)
        if self._listener is not None:
            self.handle.respond_error(self._listener, errno.ENODATA, None)
        self._abandon()
        self._listener = msg
        self.answer(msg, b"{}\0")

    def _abandon(self) -> None:
        """Whatever runs was started for a job-exec that does not know it any more."""
        if self.child is not None and not self._abandoned:
            self._abandoned = True
            self._end_shell()

    @request_handler("run")
    def run_jobs(self, msg: Message) -> None:
        """Payload: commands for the shell (`fluxlet.shell.server.Commands`). No answer."""
        raw = msg.raw or b"{}\0"
        try:
            names = [job.service.encode() for job in _decode_run(raw[:-1]).jobs]
        except UNREADABLE as exc:
            raise OSError(errno.EPROTO, f"bad payload of job-shell.run: {exc}") from None
        for name in names:
            if not _is_shell_service(name):
                raise OSError(errno.EPROTO, f"bad payload of job-shell.run: {name.decode()} is no service of a job's")
        if self._attached is not None:
            self._pass_on(raw, names)
            return
        self._waiting.append((raw, names))
        if self.child is None:
            self._start()

    def _pass_on(self, raw: bytes, names: list[bytes]) -> None:
        assert self._attached is not None
        assert self._shell is not None
        services = self.broker.router.services
        for name in names:
            services[name] = self._shell
            self._shell.services.add(name)
        self.answer(self._attached, raw)

    # The process.

    def _start(self) -> None:
        broker = self.broker
        self._token = os.urandom(16).hex()
        visible = broker.attributes.visible
        environ = program_environment(os.environ, visible["local-uri"], visible.get("jobid"))
        environ["FLUXLET_SHELL_TOKEN"] = self._token
        try:
            if broker.life is not None and may_fork():
                self.child = Child.forked(broker.reactor, broker.life.guardian, shell_main, environ, self._ended)
            else:
                self.child = self._new_process(environ)
            self.starts += 1
        except OSError as exc:
            self._lost({"status": 256, "text": f"the job shell cannot be started: {exc.strerror}"})

    def _new_process(self, environ: dict[str, str]) -> Child:
        """A shell that is no copy of the broker."""
        argv = [sys.executable, "-P", "-m", "fluxlet.shell"]
        guardian = self.broker.life.guardian if self.broker.life is not None else None
        null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return Child(self.broker.reactor, guardian, argv[0], argv, environ, (null, 0), self._ended)
        finally:
            os.close(null)

    def _ended(self, code: int) -> None:
        self._grace.stop()
        self.child = None
        self._detach()
        for request in self._ending:
            self.answer(request)
        self._ending.clear()
        if self._abandoned:
            self._abandoned = False
            if self._waiting:
                self._start()
            return
        status = -code if code < 0 else code << 8 if code <= 128 else code - 128
        self._lost({"status": status, "text": "the job shell has ended"})

    def _lost(self, why: dict[str, Any]) -> None:
        self._waiting.clear()
        if self._listener is not None:
            self.answer(self._listener, dump_payload({"lost": why}))

    def _kill(self) -> None:
        if self.child is not None:
            self.child.kill()

    @request_handler("clean")
    def clean(self, msg: Message) -> None:
        """Payload `{"names": [s]}`: directories of jobs that a lost shell has left in rundir are removed. No answer."""
        rundir = self.broker.attributes.visible["rundir"]
        names = [name for name in decode(msg, CleanRequest).names if name.startswith("jobtmp-") and "/" not in name]
        if names:
            # They may hold anything: not in the broker's own time.
            environ = program_environment(os.environ, self.broker.attributes.visible["local-uri"])
            argv = ["rm", "-rf", "--", *(os.path.join(rundir, name) for name in names)]
            null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            try:
                guardian = self.broker.life.guardian if self.broker.life is not None else None
                Child(self.broker.reactor, guardian, "/bin/rm", argv, environ, (null, 0), lambda code: None)
            finally:
                os.close(null)

    # For the shell.

    @request_handler("attach")
    def attach(self, msg: Message) -> None:
        """Payload `{"token": s}`: a stream of commands. EPERM for who is not the shell that was started."""
        require_streaming(msg)
        client = self.broker.clients.all.get(sender(msg))
        if not self._token or decode(msg, AttachRequest).token != self._token or client is None:
            raise OSError(errno.EPERM, "this is not the job shell of this rank")
        self._token = ""
        self._attached = msg
        self._shell = client
        waiting, self._waiting = self._waiting, []
        for raw, names in waiting:
            self._pass_on(raw, names)

    @request_handler("report")
    def report(self, msg: Message) -> None:
        """Payload: the shell's reports. No answer."""
        if self._attached is None or sender(msg) != sender(self._attached) or self._shell is None:
            raise OSError(errno.EPERM, "this is not the job shell of this rank")
        raw = msg.raw or b"{}\0"
        try:
            gone = _decode_report(raw[:-1]).gone
        except UNREADABLE as exc:
            raise OSError(errno.EPROTO, f"bad payload of job-shell.report: {exc}") from None
        services = self.broker.router.services
        for service in gone:
            name = service.encode()
            if services.get(name) is self._shell:
                del services[name]
            self._shell.services.discard(name)
        if self._listener is not None:
            self.answer(self._listener, raw)

    @request_handler("disconnect", allow_guest=True)
    def disconnect(self, msg: Message) -> None:
        """Who listened has gone; or the shell, whose end is near then."""
        if self._listener is not None and may_end(self._listener, msg):
            self._listener = None
            self._abandon()
        if self._attached is not None and may_end(self._attached, msg):
            self._detach()
            self._grace.start()

    def _detach(self) -> None:
        self._attached = None
        self._shell = None

    @request_handler("stats-get", allow_guest=True)
    def stats_get(self, msg: Message) -> None:
        """Answers `{"pid": i, "starts": i, "attached": b}`: the shell's parent, how often it was started."""
        pid = self.child.pid if self.child is not None else 0
        self.handle.respond(msg, {"pid": pid, "starts": self.starts, "attached": self._attached is not None})

    # The end.

    @request_handler("end")
    def end(self, msg: Message) -> None:
        """Ends the shell, its tasks with it; answered when it has ended."""
        if self.child is None:
            self.answer(msg)
            return
        self._ending.append(msg)
        self._end_shell()

    def _end_shell(self) -> None:
        if self._attached is not None:
            self.handle.respond_error(self._attached, errno.ENODATA, None)
            self._attached = None
            self._grace.start()
        elif not self._grace.active:
            self._kill()  # it has not even begun

    async def finish_service(self) -> None:
        """The shell ends, and its tasks."""
        await self.handle.rpc("job-shell.end")

    def stop_service(self) -> None:
        """As `finish_service`, without much patience, if that was not called."""
        self._grace.stop()
        child, self.child = self.child, None
        if child is not None:
            if self._attached is not None:
                self.handle.respond_error(self._attached, errno.ENODATA, None)
                self.broker.server.flush()
            child.finish(_LAST_GRACE)
        self.abandon([self._listener] if self._listener is not None else [])
