"""JobExec: the service of job-exec, and what happens to jobs as `machine` has it (spec 07, section 4)."""

from __future__ import annotations

import errno
from syslog import LOG_ERR
from time import time
from typing import Any

import msgspec

from flux.brokermod import event_handler, request_handler
from flux.core.codec import dump_payload
from flux.core.future_state import RpcState
from flux.core.handle import Flux
from flux.idset import IDset
from flux.message import Message
from fluxlet.broker.broker import Broker
from fluxlet.broker.host import Module
from fluxlet.modules.job_exec.bulk import Bulk
from fluxlet.modules.job_exec.config import Settings
from fluxlet.modules.job_exec.guests import Guests
from fluxlet.modules.job_exec.job import ExecJob, Jobspec, Runner, StartRequest
from fluxlet.modules.job_exec.kill import Killer
from fluxlet.modules.job_exec.losses import Losses
from fluxlet.modules.job_exec.machine import Action, Event, State, final_status, step
from fluxlet.modules.job_exec.requests import (
    BarrierRequest,
    CriticalRanksRequest,
    ExceptionEvent,
    ExpirationRequest,
    OverrideRequest,
)
from fluxlet.modules.job_exec.resident import Resident
from fluxlet.modules.job_exec.testexec import TestExec, override
from fluxlet.modules.job_manager.direct import manager_of
from fluxlet.modules.job_manager.execution import StartData
from fluxlet.modules.job_manager.near import NearExecutor, as_if_asked, callable_by
from fluxlet.payload import UNREADABLE, decode
from fluxlet.service import authorized, sender

_jobspec = msgspec.json.Decoder(Jobspec).decode


class JobExec(NearExecutor):
    """Runs jobs.

    Args:
        args: as of `Settings.parse`.

    Raises OSError(EINVAL) for arguments and a configuration that will not do.
    """

    def __init__(self, handle: Flux, broker: Broker, *args: str) -> None:
        try:
            self.settings = Settings.parse(broker.config, args)
        except ValueError as exc:
            raise OSError(errno.EINVAL, str(exc)) from None
        super().__init__(handle, broker, *args)
        self._arguments = args
        self.jobs: dict[int, ExecJob] = {}
        self._manager = b""  # who has given us jobs
        self._caller: Module | None = None  # who has last done so by a call
        self._orphans: dict[int, ExecJob] = {}
        """Those whose job manager has gone: another one will ask for them."""
        self.guests = Guests(self, self.complain)
        self.resident = Resident(self)
        self.bulk = Bulk(self)
        self.testexec = TestExec(self)
        self.losses = Losses(self)

    async def start_service(self) -> None:
        """Offers our service to job-manager, if that is there."""
        hello: dict[str, Any] = {"service": self.name}
        if self._orphans:
            hello["jobs"] = list(self._orphans)
        try:
            await self.handle.rpc("job-manager.exec-hello", hello)
        except OSError as exc:
            if exc.errno != errno.ENOSYS:
                raise

    def stop_service(self) -> None:
        """Lets go of everything; what runs is ended by the module job-shell."""
        self.guests.stop(list(self.jobs.values()))
        self.resident.stop()
        for job in self.jobs.values():
            self._let_go(job)
            job.runner.forget(job)

    def complain(self, text: str) -> None:
        """Writes to the broker's log."""
        self.broker.log.write(LOG_ERR, text, self.name)

    @request_handler("config-reload")
    def config_reload(self, msg: Message) -> None:
        """Payload: the new configuration. EINVAL with a sentence if it will not do."""
        from fluxlet.payload import read_object

        try:
            self.settings = Settings.parse(read_object(msg), self._arguments)
        except ValueError as exc:
            raise OSError(errno.EINVAL, str(exc)) from None
        self.answer(msg)

    # Job managers come and go.

    @request_handler("hold")
    def hold(self, msg: Message) -> None:
        """The job manager comes to its end: what there is to say about its jobs is kept for the next one."""
        self._orphan()
        self.answer(msg)

    @request_handler("disconnect")
    def disconnect(self, msg: Message) -> None:
        """Somebody has gone; if it is the job manager, it may not have said so before."""
        if sender(msg) == self._manager:
            self._orphan()

    def _orphan(self) -> None:
        for job in self.jobs.values():
            if job.unsaid is None:
                job.unsaid = []
                self._orphans[job.id] = job

    @event_handler("job-manager.hello", prefix=False)
    async def manager_came(self, msg: Message) -> None:
        """There is another job manager."""
        self._orphan()
        try:
            await self.start_service()
        except OSError as exc:
            self.complain(f"job-manager.exec-hello: {exc.strerror}")

    def _adopt(self, job: ExecJob, msg: Message | None) -> None:
        """A job manager asks for a job that was given us by another one: it hears what that did not."""
        unsaid, job.unsaid, job.message = job.unsaid or [], None, msg
        if job.started_at:
            self._respond(job, "start", {})  # it knows that already, or nearly so
            self._respond(job, "reattached", {})
        for kind, data in unsaid:
            self._respond(job, kind, data)

    # RFC 32.

    @request_handler("start")
    def start(self, msg: Message) -> None:
        """Payload: `StartRequest`; any number of answers ``{"id", "type", "data"}``."""
        self._manager = sender(msg)
        self._start(decode(msg, StartRequest), msg)

    def execute(self, asker: Module, jobid: int, userid: int, jobspec: bytes, R: bytes, reattach: bool) -> bool:
        """As of NearExecutor."""
        try:
            request = StartRequest(jobid, userid, _jobspec(jobspec), msgspec.Raw(R), reattach)
        except UNREADABLE:
            return False
        self._manager, self._caller = asker.uuid, asker
        self._start(request, None)
        return True

    def _start(self, request: StartRequest, msg: Message | None) -> None:
        orphan = self._orphans.pop(request.id, None) if self._orphans else None
        if orphan is not None:
            self._adopt(orphan, msg)
            return
        try:
            job = ExecJob(msg, request, self._runner_of(request))
        except (ValueError, *UNREADABLE) as exc:
            self._send(msg, request.id, "exception", {"severity": 0, "type": "exec", "note": f"bad R: {exc}"})
            self._send(msg, request.id, "release", {"ranks": "all", "final": True})
            return
        self.jobs[job.id] = job
        self._begin(job)

    def _runner_of(self, request: StartRequest) -> Runner:
        options = request.jobspec.attributes.system.exec
        if options.test is not None:
            return self.testexec
        if options.job_shell or self.settings.job_shell or request.userid != self.broker.owner:
            return self.bulk
        return self.resident

    def _begin(self, job: ExecJob) -> None:
        """The namespace, and for our own shells J, come first; simulated jobs need neither."""
        if job.runner is self.testexec:
            self.event(job, Event.READY)
            return
        left = 2 if job.runner is self.resident else 1

        def one() -> None:
            nonlocal left
            left -= 1
            if not left:
                self.event(job, Event.ENDED if job.fatal else Event.READY)

        def made(text: str) -> None:
            if text:
                self.exception(job, "exec", f"error creating guest namespace: {text}")
            one()

        def found(value: bytes | None, text: str) -> None:
            if value is None:
                self.exception(job, "exec", f"error reading J: {text}")
            else:
                job.data = value.decode()
            one()

        self.guests.create(job, made)
        if job.runner is self.resident:
            self.guests.store.value(f"{job.key}.J", found)

    def _respond(self, job: ExecJob, kind: str, data: dict[str, Any]) -> None:
        if job.unsaid is not None:
            job.unsaid.append((kind, data))
        else:
            self._send(job.message, job.id, kind, data)

    def _send(self, msg: Message | None, jobid: int, kind: str, data: dict[str, Any]) -> None:
        if msg is None:
            caller = self._caller
            assert caller is not None
            manager = manager_of(self.broker)
            if manager is not None and manager.module is caller and callable_by(self.module, manager):
                manager.told(self, jobid, kind, StartData(**data))
                return
            msg = as_if_asked(caller, f"{self.name}.start".encode())
        self.answer(msg, dump_payload({"id": jobid, "type": kind, "data": data}))

    # The machine.

    def event(self, job: ExecJob, event: Event) -> None:
        """Something has happened to a job."""
        job.state, actions = step(job.state, event)
        for action in actions:
            match action:
                case Action.START_SHELLS:
                    self._start_shells(job)
                case Action.RESPOND_START:
                    self._respond(job, "start", {})
                    self._arm_time_limit(job)
                case Action.KILL:
                    self._kill(job)
                case Action.RESPOND_FINISH:
                    self._finish(job)
                case Action.SAVE:
                    self._save(job)
                case Action.RELEASE:
                    self._release(job)

    def _start_shells(self, job: ExecJob) -> None:
        if job.runner is not self.testexec and job.reattach:
            # Nothing that ran for this instance has outlived it; nor is what ran for this module to outlive that.
            if job.runner is self.resident:
                for node in job.nodes:
                    self.resident.link(node.rank)
            job.started_at = time()
            job.state = State.RUNNING
            self.exception(job, "exec", "the job's shells were lost when the instance was restarted")
            self.all_ended(job, 256)
            return
        if job.runner is self.testexec and job.userid != self.broker.owner and not self.settings.guests_may_test:
            self.exception(job, "exec", "guests may not use the test execution implementation")
            self.all_ended(job, 256)
            return
        if job.runner is self.bulk and not (job.system.exec.job_shell or self.settings.job_shell):
            self.exception(job, "exec", "unable run multiuser job with no IMP configured!")
            self.all_ended(job, 256)
            return
        self.flush_soon(job)
        job.runner.start(job)

    def _finish(self, job: ExecJob) -> None:
        status = final_status(job.status, job.fatal, job.wait_status)
        job.status = status
        self._respond(job, "finish", {"status": status})
        job.log("complete", f'{{"status":{status}}}')

    def _save(self, job: ExecJob) -> None:
        self._let_go(job)
        job.log("done")
        self.guests.close(job, lambda: self.event(job, Event.SAVED))

    def _release(self, job: ExecJob) -> None:
        job.runner.forget(job)
        self.jobs.pop(job.id, None)
        self._respond(job, "release", {"ranks": "all", "final": True})

    def _let_go(self, job: ExecJob) -> None:
        timers = [job.timer, job.exit_timer, job.barrier.timer if job.barrier is not None else None]
        for timer in timers:
            if timer is not None:
                timer.stop()
        if job.killer is not None:
            job.killer.stop()

    # What runners say.

    def started(self, job: ExecJob) -> None:
        """All shells run."""
        if job.state is State.STARTING:
            job.started_at = time()
            job.log("starting")
            self.event(job, Event.STARTED)

    def reattached(self, job: ExecJob) -> None:
        """It was running when we came, and still is."""
        job.started_at = time()
        job.state = State.RUNNING
        self._respond(job, "reattached", {})
        self._arm_time_limit(job)

    def shell_ended(self, job: ExecJob, shell: int, status: int) -> None:
        """A shell has ended, with a wait status."""
        if shell not in job.active or job.state in (State.SAVING, State.RELEASED):
            return
        job.active.discard(shell)
        job.status = max(job.status, status)
        if shell == 0:
            self._leader_ended(job, status)
        self.losses.shell_ended(job, shell, status)
        if not job.active:
            self.event(job, Event.ENDED)

    def _leader_ended(self, job: ExecJob, status: int) -> None:
        job.leader_exited = True
        if job.started_at and job.runner is not self.testexec:
            active = f',"active_ranks":"{job.ranks(job.active)}"' if job.active else ""
            job.log("shell-exit", f'{{"rank":{job.nodes[0].rank},"wait_status":{status}{active}}}')

    def all_ended(self, job: ExecJob, status: int) -> None:
        """There is no shell, or none any more."""
        if job.state not in (State.SAVING, State.RELEASED):
            job.active.clear()
            job.status = max(job.status, status)
            self.event(job, Event.ENDED)

    def node_lost(self, job: ExecJob, shell: int) -> None:
        """The node of a shell is gone."""
        self.losses.node_lost(job, shell)

    def exception(self, job: ExecJob, kind: str, note: str, severity: int = 0) -> None:
        """Raises an exception on a job, and acts on it."""
        if job.state in (State.SAVING, State.RELEASED):
            return
        self._respond(job, "exception", {"severity": severity, "type": kind, "note": note})
        if severity == 0:
            self._fatal(job, kind, None)

    def _fatal(self, job: ExecJob, kind: str, wait_status: int | None) -> None:
        if job.fatal:
            return
        job.fatal = True
        job.wait_status = wait_status
        job.killer = Killer(job, self.module.reactor, self.settings, self._kill_tasks, self.losses.give_up)
        job.kind = kind
        self.event(job, Event.EXCEPTION)

    def _kill(self, job: ExecJob) -> None:
        if job.killer is not None:
            job.killer.begin(job.kind)

    def _kill_tasks(self, job: ExecJob) -> None:
        def killed(state: RpcState) -> None:
            if state.errnum and job.id in self.jobs:
                self.complain(f"{job.f58}: job-manager.kill: {state.error_text()}")

        self.ask(b"job-manager.kill", dump_payload({"id": job.id, "signum": 9}), killed)

    @event_handler("job-exception", prefix=False)
    def job_exception(self, msg: Message) -> None:
        """Somebody has raised an exception on a job."""
        try:
            event = decode(msg, ExceptionEvent)
        except OSError as exc:
            self.complain(f"job-exception event: {exc.strerror}")
            return
        job = self.jobs.get(event.id)
        if job is not None and event.severity == 0 and job.state not in (State.SAVING, State.RELEASED):
            self._fatal(job, event.type, event.wait_status)

    # Time.

    def _arm_time_limit(self, job: ExecJob) -> None:
        if job.timer is not None:
            job.timer.stop()
            job.timer = None
        if not job.expiration:
            return
        now = time()
        left = job.expiration - now
        duration, delay = job.expiration - job.starttime, job.started_at - job.starttime
        if duration > 0 and delay * 100 > duration * self.settings.max_start_delay_percent and not job.reattach:
            left += delay
        job.timer = self.module.reactor.timer(max(left, 0.0), 0.0, lambda: self._expired(job))
        job.timer.start()

    def _expired(self, job: ExecJob) -> None:
        self.exception(job, "timeout", "resource allocation expired")

    @request_handler("expiration")
    def expiration(self, msg: Message) -> None:
        """Payload `{"id": i, "expiration": f}`: the job's time limit is another one."""
        request = decode(msg, ExpirationRequest)
        job = self._job(request.id)
        if request.expiration < 0:
            raise OSError(errno.EINVAL, "expiration must be >= 0")
        job.expiration = request.expiration
        if job.state is State.RUNNING:
            self._arm_time_limit(job)
        job.runner.expires(job)
        self.answer(msg)

    def _job(self, jobid: int) -> ExecJob:
        job = self.jobs.get(jobid)
        if job is None:
            raise OSError(errno.ENOENT, None)
        return job

    # The eventlog.

    def flush_soon(self, job: ExecJob) -> None:
        """What has been logged is to be committed."""
        self.guests.flush_soon(job)

    # Shells.

    def arm_barrier(self, job: ExecJob) -> None:
        """The shells of a job are to meet in time."""
        self.losses.arm_barrier(job)

    def barrier_over(self, job: ExecJob) -> None:
        """They have met."""
        if job.barrier is not None and job.barrier.timer is not None:
            job.barrier.timer.stop()
            job.barrier.timer = None

    @request_handler("shell-barrier", allow_guest=True)
    def shell_barrier(self, msg: Message) -> None:
        """Payload `{"id": i, "rank": i}`; answered, though nobody asks for that, when all shells have entered (4.4)."""
        request = decode(msg, BarrierRequest)
        job = self.jobs.get(request.id)
        if job is None or job.barrier is None or not authorized(msg, job.userid):
            return
        barrier = job.barrier
        if len(job.active) < len(job.nodes):
            self.module.post(msg.response(None, errno.EIO))
            return
        barrier.requests.append(msg)
        if barrier.timer is None and not barrier.passed:
            self.losses.arm_barrier(job)
        if barrier.enter(request.rank):
            self.barrier_over(job)
            requests, barrier.requests = barrier.requests, []
            for waiting in requests:
                self.module.post(waiting.response())

    @request_handler("critical-ranks", allow_guest=True)
    def critical_ranks(self, msg: Message) -> None:
        """Payload `{"id": i, "ranks": idset}`: the shells without which the job cannot go on. For the job's owner."""
        request = decode(msg, CriticalRanksRequest)
        job = self._job(request.id)
        if not authorized(msg, job.userid):
            raise OSError(errno.EPERM, None)
        try:
            job.critical = frozenset(IDset(request.ranks))
        except ValueError as exc:
            raise OSError(errno.EPROTO, str(exc)) from None
        self.answer(msg)

    @request_handler("override", allow_guest=True)
    def override(self, msg: Message) -> None:
        """Payload: `OverrideRequest`: a simulated job starts or finishes."""
        request = decode(msg, OverrideRequest)
        job = self.jobs.get(request.jobid)
        if job is not None and not authorized(msg, job.userid):
            raise OSError(errno.EPERM, "Permission denied")
        override(self.testexec, job, request.event, request.status)
        self.answer(msg)

    @request_handler("stats-get", allow_guest=True)
    def stats_get(self, msg: Message) -> None:
        """What is set, and what is running."""
        from fluxlet.modules.job_exec.figures import figures  # seldom asked for

        self.handle.respond(msg, figures(self.settings, self.jobs.values()))
