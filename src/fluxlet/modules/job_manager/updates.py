"""job-manager.update: changing jobspecs of jobs that are there (spec 06, 7.2 update).

What a key needs is up to its handler; all keys of a request are applied in one event, or none.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from time import time
from typing import Any

import msgspec

from flux.brokermod import request_handler
from flux.core.future_state import RpcState
from flux.message import Message
from fluxlet.modules.job_manager import limits
from fluxlet.modules.job_manager.base import Base
from fluxlet.modules.job_manager.job import Job
from fluxlet.modules.job_manager.jobspec import check_keys, updated
from fluxlet.modules.job_manager.machine import RUNNING
from fluxlet.payload import decode
from fluxlet.service import authorized

DURATION, QUEUE, CONSTRAINTS = "attributes.system.duration", "attributes.system.queue", "attributes.system.constraints"

NOT_SENT = "failed to send expiration update to exec system: job termination may not coincide with expiration"


class UpdateRequest(msgspec.Struct):
    """Payload of job-manager.update."""

    id: int
    updates: dict[str, Any]


_encode = msgspec.json.Encoder().encode


class _Change:
    """What a request comes to: the updates, and what else has to be asked before they are posted."""

    def __init__(self, updates: dict[str, Any]) -> None:
        self.updates = dict(updates)
        self.validated = False  # by a handler: limits do not matter
        self.feasibility = False
        self.expiration: float | None = None


class Updates(Base):
    """See the module."""

    @request_handler("update", allow_guest=True)
    def update(self, msg: Message) -> None:
        """Payload `{"id", "updates": {dotted key: value}}`. Answers when the change is posted."""
        request = decode(msg, UpdateRequest)
        try:
            check_keys(request.updates)
        except ValueError as exc:
            raise OSError(errno.EINVAL, str(exc)) from None
        if request.id in self.pasts.jobs:
            raise OSError(errno.EINVAL, "job is inactive")
        job = self.find(request.id, errno.ENOENT, "unknown job id")
        if not authorized(msg, job.userid):
            raise OSError(errno.EPERM, "guests may only update their own jobs")
        owner = bool(msg.rolemask & 1)
        if job.immutable and not owner:
            raise OSError(errno.EPERM, "job is immutable due to previous instance owner update")
        if not request.updates:
            self.handle.respond(msg)
            return
        change = _Change(request.updates)
        try:
            for key, value in request.updates.items():
                self._one(job, key, value, owner, msg, change)
            jobspec, spec = updated(job.jobspec, change.updates)
            if not owner and not change.validated:
                system = spec.system
                limits.check_size(self.settings, system.queue, jobspec)
                limits.check_duration(self.settings, system.queue, system.duration)
                limits.check_lifetime(system.duration, self.lifetime())
                if self.plugins.hooks["validate"]:
                    self.plugins.check("validate", job, jobspec)
        except ValueError as exc:
            raise OSError(errno.EINVAL, str(exc)) from None
        self._ask(msg, job, change, jobspec)

    def _one(self, job: Job, key: str, value: Any, owner: bool, msg: Message, change: _Change) -> None:
        """One key. Raises ValueError with the text for the user."""
        if key == DURATION:
            self._duration(job, value, owner, change)
        elif key == QUEUE:
            self._queue(job, value, change)
        else:
            cred = {"userid": msg.userid, "rolemask": msg.rolemask}
            permission = self.plugins.allow_update(job, key, value, cred)
            if permission is None:
                raise ValueError(f"update of {key} not supported")
            change.validated = change.validated or permission.validated
            change.feasibility = change.feasibility or permission.feasibility
            change.updates.update(permission.updates)

    def _duration(self, job: Job, value: Any, owner: bool, change: _Change) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("plugin args unpack failed")
        if value < 0:
            raise ValueError("duration must not be negative")
        if owner:
            change.validated = True
        if not job.state & RUNNING:
            return
        if not owner:
            raise ValueError("duration update of running job requires instance owner privileges")
        if job.R is None:
            raise ValueError("unable to get job starttime")
        start = msgspec.json.decode(job.R).get("execution", {}).get("starttime")
        if not isinstance(start, int | float):
            raise ValueError("unable to get job starttime")
        change.expiration = start + value if value else 0.0
        if value and change.expiration <= time():
            raise ValueError("requested duration places job expiration in the past")

    def _queue(self, job: Job, value: Any, change: _Change) -> None:
        if not isinstance(value, str):
            raise ValueError("plugin args unpack failed")
        if job.state & RUNNING:
            raise ValueError("update of queue for running job not supported")
        current = job.spec.system.queue
        if value == current:
            raise ValueError(f"job queue is already set to {value}")
        if not self.queues.find(value).enable:
            raise ValueError(f"queue {value} is currently disabled")
        system = msgspec.json.decode(job.jobspec)["attributes"]["system"]
        if system.get("constraints", {}) != self._constraints(current):
            raise ValueError(f"job appears to have non-queue constraints, unable to update queue to {value}")
        change.updates[CONSTRAINTS] = self._constraints(value)
        change.feasibility = True

    def _constraints(self, name: str | None) -> dict[str, Any]:
        """The constraints that a queue adds to jobspecs."""
        queues = self.settings.queues or {}
        queue = queues.get(name or "")
        if queue is not None and queue.parent is not None:
            queue = queues[queue.parent]
        return {"properties": queue.requires} if queue is not None and queue.requires else {}

    # Asking others, then posting.

    def _ask(self, msg: Message, job: Job, change: _Change, jobspec: bytes) -> None:
        if change.feasibility:

            def feasible(state: RpcState) -> None:
                if state.errnum and state.errnum != errno.ENOSYS:
                    self.handle.respond_error(msg, state.errnum, state.errtext)
                else:
                    self._post(msg, job, change)

            self.ask(b"feasibility.check", b'{"jobspec":%b}\0' % jobspec, feasible)
        elif change.expiration is not None:
            expiration = change.expiration

            def agreed(state: RpcState) -> None:
                if state.errnum and state.errnum != errno.ENOSYS:
                    self.handle.respond_error(msg, errno.EINVAL, "scheduler refused expiration update")
                    return
                self._post(msg, job, change)
                if job.active:
                    self.change_expiration(job, expiration)

            self.ask(b"sched.expiration", _encode({"id": job.id, "expiration": expiration}) + b"\0", agreed)
        else:
            self._post(msg, job, change)

    def _post(self, msg: Message, job: Job, change: _Change) -> None:
        if not job.active:
            self.handle.respond_error(msg, errno.EINVAL, "job is inactive")
            return
        if change.validated and msg.userid != job.userid:
            self.engine.post(job, "set-flags", {"flags": ["immutable"]})
        self.engine.post(job, "jobspec-update", change.updates)
        self.journal.flush()
        self.handle.respond(msg)

    def change_expiration(self, job: Job, expiration: float) -> None:
        """Posts the new expiration of a job that has resources, and tells who executes it."""
        self.engine.post(job, "resource-update", {"expiration": expiration})
        if self.service:
            topic = f"{self.service}.expiration".encode()
            self.ask(topic, _encode({"id": job.id, "expiration": expiration}) + b"\0", self._told_expiration(job))

    def instance_expires(self, expiration: float) -> None:
        """The instance ends at another time: so do the jobs that run as long as it does."""
        for job in list(self.engine.jobs.values()):
            if job.state & RUNNING and job.has_resources and job.R is not None and not job.spec.system.duration:
                execution = msgspec.json.decode(job.R).get("execution", {})
                if execution.get("expiration") and execution["expiration"] != expiration:
                    self.change_expiration(job, expiration)

    def _told_expiration(self, job: Job) -> Callable[[RpcState], None]:
        def told(state: RpcState) -> None:
            if state.errnum and job.active:
                self.engine.exception(job, "exec", 1, NOT_SENT)

        return told
