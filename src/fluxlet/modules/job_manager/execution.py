"""Having jobs executed: the job manager's side of RFC 32 (spec 06, section 14).

An execution service says hello with its name; jobs in RUN are sent to it as `<service>.start`, and it answers each as
long as it has something to tell. One that goes, or answers with an error, leaves its jobs in RUN for the next.
"""

from __future__ import annotations

import errno
from syslog import LOG_ERR
from typing import Any

import msgspec

from flux.brokermod import request_handler
from flux.constants import FLUX_MSGTYPE_RESPONSE
from flux.message import Message, MessageWatcher
from fluxlet.modules.job_manager.base import Base
from fluxlet.modules.job_manager.job import DONE, IDLE, STARTING, Job
from fluxlet.modules.job_manager.machine import State
from fluxlet.modules.job_manager.near import NearExecutor, callable_by, near
from fluxlet.payload import UNREADABLE, decode
from fluxlet.service import sender


class HelloRequest(msgspec.Struct):
    """Payload of job-manager.exec-hello. `jobs`, which RFC 32 does not know: those that it was given by a job manager
    that is not there any more, and of which there is something to say."""

    service: str
    jobs: list[int] = []


class StartData(msgspec.Struct):
    """The data of all types of responses together."""

    severity: int | None = None
    type: str = ""
    note: str = ""
    status: int | None = None
    ranks: str = "all"
    final: bool | None = None


class StartResponse(msgspec.Struct):
    """Payload of a response to `<service>.start`."""

    id: int
    type: str
    data: StartData = msgspec.field(default_factory=StartData)


_decode = msgspec.json.Decoder(StartResponse).decode


class ExecutionSide(Base):
    """See the module."""

    def __init__(self, *args: Any) -> None:
        self._start_topic = b""
        self._executor = b""
        self._near_executor: NearExecutor | None = None
        self._responses: MessageWatcher | None = None
        self.unclear: dict[int, Job] = {}
        """Jobs in CLEANUP of which the execution service is to say whether anything is left."""
        super().__init__(*args)

    @request_handler("exec-hello")
    def exec_hello(self, msg: Message) -> None:
        """Payload `{"service": s}`. From here on that service executes jobs, in place of one that did before."""
        request = decode(msg, HelloRequest)
        service = request.service
        if not service or "." in service:
            raise OSError(errno.EINVAL, f"'{service}' is no name of a service")
        self.executor_lost()
        self.service = service
        self._executor = sender(msg)
        self._start_topic = f"{service}.start".encode()
        self._near_executor = near(self.broker, self._executor, NearExecutor)
        if self._near_executor is not None:
            self.module.uses(self._start_topic)
        self._responses = self.handle.msg_watcher_create(self._on_response, FLUX_MSGTYPE_RESPONSE, self._start_topic)
        self._responses.start()
        self.handle.respond(msg)
        for job in list(self.engine.jobs.values()):
            if job.state is State.RUN:
                self.engine.start(job)
        unclear, self.unclear = self.unclear, {}
        for job in unclear.values():
            job.exec = STARTING if job.id in request.jobs and self.start(job) else DONE
            self.engine.clean(job)

    async def silence_executor(self) -> None:
        """Has the execution service keep what it has to say for the job manager that comes after this one."""
        if self.service:
            try:
                await self.handle.rpc(f"{self.service}.hold", {})
            except OSError as exc:
                # RFC 32 knows no such method: others tell us as long as we listen.
                if exc.errno != errno.ENOSYS:
                    self.write_log(LOG_ERR, f"{self.service}.hold: {exc.strerror}")

    def start(self, job: Job) -> bool:
        """Sends a job to the execution service; False if there is none."""
        if not self.service:
            return False
        reattach = job.reattach or "start" in job.seen
        if not self._call(job, reattach):
            self.request(
                self._start_topic,
                b'{"id":%d,"userid":%d,"jobspec":%b,"reattach":%b,"R":%b}\0'
                % (job.id, job.userid, job.jobspec, b"true" if reattach else b"false", job.R or b"null"),
            )
        if job.debug and "start" in job.seen:
            self.engine.post(job, "debug.exec-reattach-start")
        return True

    def _call(self, job: Job, reattach: bool) -> bool:
        """As a request, without a message; False if that cannot be done."""
        executor = self._near_executor
        return (
            executor is not None
            and job.R is not None
            and callable_by(self.module, executor)
            and executor.execute(self.module, job.id, job.userid, job.jobspec, job.R, reattach)
        )

    def told(self, executor: NearExecutor, jobid: int, kind: str, data: StartData) -> None:
        """As a response of a service that was called."""
        job = self.engine.jobs.get(jobid)
        if job is not None and job.exec == STARTING and executor is self._near_executor:
            self._told(job, kind, data)

    def _on_response(self, handle: Any, watcher: Any, message: Message, args: Any) -> None:
        if message.aux1:
            self.write_log(LOG_ERR, f"{self.service}.start: errno {message.aux1}: the service is not asked any more")
            self.executor_lost()
            return
        try:
            response = _decode((message.raw or b"\0")[:-1])
        except UNREADABLE as exc:
            self.write_log(LOG_ERR, f"bad response of {self.service}.start: {exc}: the service is not asked any more")
            self.executor_lost()
            return
        job = self.engine.jobs.get(response.id)
        if job is not None and job.exec == STARTING:
            self._told(job, response.type, response.data)

    def _told(self, job: Job, kind: str, data: StartData) -> None:
        post = self.engine.post
        if kind == "start":
            if "start" not in job.seen:
                post(job, "start")
        elif kind == "finish" and data.status is not None:
            post(job, "finish", {"status": data.status})
        elif kind == "release" and data.final is not None:
            post(job, "release", {"ranks": data.ranks, "final": data.final})
        elif kind == "exception" and data.severity is not None:
            context = {"type": data.type, "severity": data.severity, "userid": job.userid, "note": data.note}
            post(job, "exception", context)
        elif kind == "reattached":
            if job.debug:
                post(job, "debug.exec-reattach-finish")
        else:
            self.write_log(
                LOG_ERR, f"response of {self.service}.start of unknown type {kind}, or without what belongs to it"
            )

    def executor_lost(self) -> None:
        """The execution service has gone. Jobs in RUN wait for the next one."""
        if not self.service:
            return
        self.service, self._executor, self._near_executor = "", b"", None
        if self._responses is not None:
            self._responses.destroy()
            self._responses = None
        for job in list(self.engine.jobs.values()):
            if job.exec == STARTING:
                job.exec = IDLE
                if job.debug:
                    self.engine.post(job, "debug.start-lost", {"note": "the execution service has gone"})
                self.engine.clean(job)
