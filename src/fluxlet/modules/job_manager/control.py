"""Requests that act on jobs: raise, kill, urgency, memo, wait, and what they are for all jobs (spec 06, section 7)."""

from __future__ import annotations

import errno
from typing import Any

import msgspec

from flux.brokermod import request_handler
from flux.message import Message
from fluxlet.modules.job_manager.base import AT_ONCE, Base
from fluxlet.modules.job_manager.job import DEFAULT, Job
from fluxlet.modules.job_manager.machine import RUNNING
from fluxlet.payload import cut, decode
from fluxlet.service import authorized

_ALL_USERS = (0xFFFFFFFF, -1)
_OWN_EXCEPTIONS = "guests can only raise exceptions on their own jobs"


class RaiseRequest(msgspec.Struct):
    """Payload of job-manager.raise."""

    id: int
    severity: int
    type: str
    note: str | None = None
    wait_status: int | None = None
    userid: int | None = None


class RaiseAllRequest(msgspec.Struct):
    """Payload of job-manager.raiseall."""

    dry_run: bool
    userid: int
    states: int
    severity: int
    type: str
    note: str | None = None


class KillRequest(msgspec.Struct):
    """Payload of job-manager.kill."""

    id: int
    signum: int


class KillAllRequest(msgspec.Struct):
    """Payload of job-manager.killall."""

    dry_run: bool
    userid: int
    signum: int


class UrgencyRequest(msgspec.Struct):
    """Payload of job-manager.urgency."""

    id: int
    urgency: int


class MemoRequest(msgspec.Struct):
    """Payload of job-manager.memo."""

    id: int
    memo: Any
    volatile: bool = False


class WaitRequest(msgspec.Struct):
    """Payload of job-manager.wait."""

    id: int


def _check_exception(severity: int, kind: str) -> None:
    if not 0 <= severity <= 7:
        raise OSError(errno.EPROTO, "invalid exception severity")
    if not kind or "=" in kind or any(char.isspace() for char in kind):
        raise OSError(errno.EPROTO, "invalid exception type")


def check_signal(signum: int) -> None:
    """Raises OSError(EINVAL) for what is no number of a signal."""
    if not 1 <= signum <= 64:
        raise OSError(errno.EINVAL, "Invalid signal number")


class Control(Base):
    """See the module."""

    @request_handler("raise", allow_guest=True)
    def raise_exception(self, msg: Message) -> None:
        """Raises an exception on a job; of severity 0 it is the job's end."""
        request = decode(msg, RaiseRequest)
        _check_exception(request.severity, request.type)
        job = self.find(request.id, errno.ENOENT, "unknown job id")
        if not authorized(msg, job.userid):
            raise OSError(errno.EPERM, _OWN_EXCEPTIONS)
        note = cut(request.note or "")
        self.engine.exception(job, request.type, request.severity, note, msg.userid, request.wait_status)
        self._done(msg)

    @request_handler("raiseall", allow_guest=True)
    async def raise_all(self, msg: Message) -> None:
        """As raise, for all jobs of a user in some states. Answers `{"count": i, "errors": i}`."""
        request = decode(msg, RaiseAllRequest)
        _check_exception(request.severity, request.type)
        found = [job for job in self._of_user(msg, request.userid, _OWN_EXCEPTIONS) if job.state & request.states]
        if not request.dry_run:
            for number, job in enumerate(found, 1):
                # The end of one may be the end of another.
                if job.active:
                    self.engine.exception(job, request.type, request.severity, cut(request.note or ""), msg.userid)
                if number % AT_ONCE == 0:
                    await self.next_pass()
        self._done(msg, {"count": len(found), "errors": 0})

    def _of_user(self, msg: Message, userid: int, text: str) -> list[Job]:
        """The active jobs of a user, or of all. Raises EPERM with `text` if that is not for the sender to ask."""
        if userid in _ALL_USERS:
            if not msg.rolemask & 1:
                raise OSError(errno.EPERM, text)
            return list(self.engine.jobs.values())
        if not authorized(msg, userid):
            raise OSError(errno.EPERM, text)
        return [job for job in self.engine.jobs.values() if job.userid == userid]

    @request_handler("kill", allow_guest=True)
    def kill(self, msg: Message) -> None:
        """Sends a signal to the tasks of a job. That it is sent does not mean that it arrives."""
        request = decode(msg, KillRequest)
        check_signal(request.signum)
        job = self.find(request.id, errno.EINVAL, "unknown job id")
        if not authorized(msg, job.userid):
            raise OSError(errno.EPERM, "guests may only send signals to their own jobs")
        if not job.state & RUNNING:
            raise OSError(errno.EINVAL, "job is not running")
        self._kill(job, request.signum)
        self._done(msg)

    @request_handler("killall", allow_guest=True)
    def kill_all(self, msg: Message) -> None:
        """As kill, for all jobs of a user that run. Answers `{"count": i, "errors": i}`."""
        request = decode(msg, KillAllRequest)
        check_signal(request.signum)
        jobs = self._of_user(msg, request.userid, "guests can only kill their own jobs")
        found = [job for job in jobs if job.state & RUNNING]
        if not request.dry_run:
            for job in found:
                self._kill(job, request.signum)
        self._done(msg, {"count": len(found), "errors": 0})

    def _kill(self, job: Job, signum: int) -> None:
        self.send_event(f"shell-{job.id}.kill", {"signum": signum})

    @request_handler("urgency", allow_guest=True)
    def urgency(self, msg: Message) -> None:
        """Changes the urgency of a job. Answers `{"old_urgency": i}`."""
        request = decode(msg, UrgencyRequest)
        if not 0 <= request.urgency <= 31:
            raise OSError(errno.EINVAL, "urgency value is out of range")
        job = self.find(request.id, errno.EINVAL, "unknown job")
        if not authorized(msg, job.userid):
            raise OSError(errno.EPERM, "guests can only reprioritize their own jobs")
        if not msg.rolemask & 1 and request.urgency > max(DEFAULT, job.urgency):
            raise OSError(errno.EPERM, "guests can only adjust urgency <= default")
        if job.state & RUNNING:
            raise OSError(errno.EINVAL, "urgency cannot be changed once resources are allocated")
        old = job.urgency
        self.engine.post(job, "urgency", {"userid": msg.userid, "urgency": request.urgency})
        self._done(msg, {"old_urgency": old})

    @request_handler("memo", allow_guest=True)
    def memo(self, msg: Message) -> None:
        """Adds to the annotations that are the user's own; None deletes. A volatile memo is not stored."""
        request = decode(msg, MemoRequest)
        job = self.find(request.id, errno.ENOENT, "unknown job id")
        if not authorized(msg, job.userid):
            raise OSError(errno.EPERM, "guests can only add a memo to their own jobs")
        if not isinstance(request.memo, dict):
            raise OSError(errno.EINVAL, "memo must be an object")
        self.engine.post(job, "memo", request.memo, committed=not request.volatile)
        self._done(msg)

    @request_handler("wait")
    def wait(self, msg: Message) -> None:
        """Waits for a job, or any (-1), to end. Answers `{"id": i, "success": b, "errstr": s}`."""
        try:
            jobid = decode(msg, WaitRequest).id
        except OSError:
            raise OSError(errno.EPROTO, "malformed wait request") from None
        self.waits.wait(msg, jobid, self.engine.jobs.get(jobid))

    def _done(self, msg: Message, payload: Any = None) -> None:
        """Answers; what has happened, whoever follows the journal hears before."""
        self.journal.flush()
        self.handle.respond(msg, payload)
