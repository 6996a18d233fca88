"""Getting resources for jobs: the job manager's side of RFC 27 (spec 06, section 13)."""

from __future__ import annotations

import errno
from syslog import LOG_DEBUG, LOG_ERR
from typing import Any

import msgspec

from flux.brokermod import request_handler
from flux.constants import FLUX_MSGTYPE_RESPONSE
from flux.message import Message
from fluxlet.modules.job_manager.alloc import ANNOTATE, CANCEL, DENY, SUCCESS
from fluxlet.modules.job_manager.base import Base
from fluxlet.modules.job_manager.job import Job
from fluxlet.modules.job_manager.machine import State
from fluxlet.modules.job_manager.near import NearScheduler, callable_by, near
from fluxlet.payload import UNREADABLE, decode
from fluxlet.service import require_streaming, sender


class HelloRequest(msgspec.Struct):
    """Payload of job-manager.sched-hello."""

    partial_ok: bool = msgspec.field(default=False, name="partial-ok")


class ReadyRequest(msgspec.Struct):
    """Payload of job-manager.sched-ready."""

    mode: str
    limit: int | None = None


class AllocResponse(msgspec.Struct):
    """Payload of a response to sched.alloc."""

    id: int
    type: int
    note: str | None = None
    annotations: dict[str, Any] | None = None
    R: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(AllocResponse).decode
_encode = msgspec.json.Encoder().encode


def without_scheduling(R: bytes) -> bytes:
    """R without what is the scheduler's alone (spec 06, 3.5)."""
    if b'"scheduling"' not in R:
        return R
    value = msgspec.json.decode(R)
    value.pop("scheduling", None)
    return _encode(value)


def _is_wrong(R: bytes) -> str | None:
    """What is wrong with R of a scheduler that is not one of ours; None: nothing."""
    from flux.resource.Rv1Set import Rv1Set

    if not R:
        return "it has no R"
    try:
        Rv1Set(R)
    except KeyError as exc:
        return f"bad R: it has no {exc.args[0]}"
    except (ValueError, TypeError, AttributeError) as exc:
        return f"bad R: {exc}"
    return None


class SchedulingSide(Base):
    """See the module."""

    def __init__(self, *args: Any) -> None:
        self._scheduler = b""
        self._near_scheduler: NearScheduler | None = None
        super().__init__(*args)
        self._alloc_responses = self.handle.msg_watcher_create(self._on_alloc, FLUX_MSGTYPE_RESPONSE, b"sched.alloc")
        self._alloc_responses.start()

    @request_handler("sched-hello")
    def sched_hello(self, msg: Message) -> None:
        """Payload `{"partial-ok"?: b}`, streaming. Answers with the jobs that hold resources, one by one.

        Each is `{"id", "priority", "userid", "t_submit", "free"?: idset}`; then ENODATA.
        """
        require_streaming(msg)
        request = decode(msg, HelloRequest) if msg.raw is not None else HelloRequest()
        self.alloc.greet()
        for job in self.engine.jobs.values():
            if job.has_resources and not job.bypass:
                self.answer(msg, self._hello_entry(job, None))
        for job, free in self.housed(request.partial_ok):
            self.answer(msg, self._hello_entry(job, free))
        self.handle.respond_error(msg, errno.ENODATA, None)

    def housed(self, partial_ok: bool) -> list[tuple[Job, str | None]]:
        """Jobs in housekeeping, with the ranks that are free already."""
        return []

    @staticmethod
    def _hello_entry(job: Job, free: str | None) -> bytes:
        entry: dict[str, Any] = {
            "id": job.id,
            "priority": job.priority,
            "userid": job.userid,
            "t_submit": job.t_submit,
        }
        if free:
            entry["free"] = free
        return _encode(entry) + b"\0"

    @request_handler("sched-ready")
    def sched_ready(self, msg: Message) -> None:
        """Payload `{"mode": "unlimited"}` or `{"mode": "limited", "limit": i}`. Answers `{"count": queue length}`."""
        request = decode(msg, ReadyRequest)
        limit = None
        if request.mode == "limited" and request.limit is not None and request.limit > 0:
            limit = request.limit
        elif request.mode != "unlimited":
            raise OSError(errno.EPROTO, "mode must be unlimited, or limited with a limit of 1 or more")
        self._scheduler = sender(msg)
        self._near_scheduler = near(self.broker, self._scheduler, NearScheduler)
        count = self.alloc.begin(limit)
        self.handle.respond(msg, {"count": count})
        self.alloc.pump()

    @request_handler("resource-status")
    def resource_status(self, msg: Message) -> None:
        """Answers `{"allocated": R}`: all resources that jobs hold, and housekeeping."""
        from flux.resource.Rv1Set import Rv1Set

        allocated = Rv1Set()
        allocated.name_ranks()
        for job in self.engine.jobs.values():
            if job.has_resources and not job.bypass and job.R is not None:
                allocated.add(Rv1Set(job.R))
        for R in self.housed_resources():
            allocated.add(Rv1Set(R))
        self.handle.respond(msg, {"allocated": allocated.to_dict()})

    def housed_resources(self) -> list[bytes]:
        """R of what is in housekeeping."""
        return []

    def scheduler_lost(self) -> None:
        """The scheduler has gone: jobs wait for the next one."""
        self._scheduler, self._near_scheduler = b"", None
        if self.alloc.ready:
            self.alloc.lose()
            self.check_idle()

    # By calls.

    def enter(self, job: Job) -> bool:
        """As of Base."""
        scheduler = self._near_scheduler
        return (
            scheduler is not None
            and callable_by(self.module, scheduler)
            and scheduler.enter(self.module, job.id, job.priority, job.jobspec)
        )

    def give_back(self, jobid: int, R: bytes, final: bool) -> bool:
        """As of Base."""
        scheduler = self._near_scheduler
        return scheduler is not None and callable_by(self.module, scheduler) and scheduler.give_back(jobid, R, final)

    # By messages.

    def _on_alloc(self, handle: Any, watcher: Any, message: Message, args: Any) -> None:
        if not self.alloc.ready:
            return
        if message.aux1:
            # A scheduler that goes has its requests answered for it: nothing to worry about.
            self.write_log(
                LOG_DEBUG, f"sched.alloc: {errno.errorcode.get(message.aux1, message.aux1)}: scheduler stopped"
            )
            self.scheduler_lost()
            return
        try:
            response = _decode((message.raw or b"\0")[:-1])
        except UNREADABLE as exc:
            self.write_log(LOG_ERR, f"bad response of sched.alloc: {exc}: the scheduler is not asked any more")
            self.scheduler_lost()
            return
        if response.type == ANNOTATE:
            job = self.alloc.pending.get(response.id)
            if job is not None and job.pending:
                self.engine.annotate(job, response.annotations or {})
            return
        wrong = None if response.type in (SUCCESS, DENY, CANCEL) else f"there is no type {response.type}"
        if response.type == SUCCESS:
            wrong = _is_wrong(bytes(response.R))
        if wrong is not None:
            self.write_log(LOG_ERR, f"bad response of sched.alloc: {wrong}: the scheduler is not asked any more")
            self.scheduler_lost()
            return
        job = self.alloc.answered(response.id)
        if job is not None:
            self._last_word(job, response)
        self.alloc.pump()
        self.check_idle()

    def _last_word(self, job: Job, response: AllocResponse) -> None:
        """The scheduler's final answer on a job."""
        if response.type == SUCCESS:
            self.granted(job, bytes(response.R), response.annotations)
            return
        if not job.pending:
            return  # it has ended meanwhile
        job.pending = False
        if response.type == DENY:
            self._clear_annotations(job)
            self.engine.exception(job, "alloc", 0, response.note or "")
        else:
            self._clear_annotations(job)
            if job.state is State.SCHED:
                self.engine.schedule(job)

    def granted(self, job: Job, R: bytes, annotations: dict[str, Any] | None) -> None:
        """The scheduler has given a job resources; if that has ended meanwhile, they go back."""
        if not job.pending:
            self.alloc.free(job.id, R)
            return
        job.pending = False
        job.R = without_scheduling(R)
        if annotations:
            self.engine.annotate(job, annotations)
        self.engine.post(job, "alloc", {"annotations": job.annotations} if job.annotations else None)

    def _clear_annotations(self, job: Job) -> None:
        """What the scheduler said about a job is not so any more."""
        if job.annotations and "sched" in job.annotations:
            self.engine.annotate(job, {"sched": None})

    def free(self, job: Job) -> None:
        """Gives the resources of a job back to the scheduler."""
        if job.R is not None:
            self.alloc.free(job.id, job.R)
