"""job-manager.submit: new jobs, as job-ingest sends them (spec 06, 4.3, 10.3).

What is wrong with one job is its own error; the others of the batch go on.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable

import msgspec

from flux.brokermod import request_handler
from flux.message import Message
from fluxlet.modules.job_manager import limits
from fluxlet.modules.job_manager.base import Base
from fluxlet.modules.job_manager.job import Job, new_job
from fluxlet.modules.job_manager.jobspec import System, read
from fluxlet.payload import UNREADABLE


class Submitted(msgspec.Struct):
    """A job in the payload of job-manager.submit; with J, if what is its own in the KVS is not stored yet."""

    id: int
    userid: int
    urgency: int
    t_submit: float
    flags: int
    jobspec: msgspec.Raw
    J: bytes | None = None


class SubmitRequest(msgspec.Struct):
    """Payload of job-manager.submit."""

    jobs: list[Submitted]


_decode = msgspec.json.Decoder(SubmitRequest).decode
_encode = msgspec.json.Encoder().encode


class Submission(Base):
    """See the module."""

    @request_handler("submit")
    def submit(self, msg: Message) -> None:
        """Payload `{"jobs": [...]}`. Answers `{"errors": [[id, text], ...]}` once the jobs' first events are stored."""
        jobs, errors = self.create_all(self._read(msg))
        answer = _encode({"errors": list(errors.items())}) + b"\0"

        def stored() -> None:
            self.engine.let_go(jobs)
            self.answer(msg, answer)

        self.batch.after(stored)
        # What belongs to this request is here: there is nothing to be gathered by waiting.
        self.batch.flush()

    def create_all(self, submissions: Iterable[Submitted]) -> tuple[list[Job], dict[int, str]]:
        """Makes jobs. Returns them, and the errors of those that could not be made, by id."""
        jobs: list[Job] = []
        errors: dict[int, str] = {}
        for submitted in submissions:
            try:
                jobs.append(self._create(submitted))
            except ValueError as exc:
                errors[submitted.id] = str(exc)
        return jobs, errors

    @staticmethod
    def _read(msg: Message) -> list[Submitted]:
        # Without the general checks of payloads: job-ingest has made them, jobspec by jobspec.
        try:
            return _decode((msg.raw or b"\0")[:-1]).jobs
        except UNREADABLE as exc:
            raise OSError(errno.EPROTO, f"bad payload of job-manager.submit: {exc}") from None

    def _create(self, submitted: Submitted) -> Job:
        """Makes a job. Raises ValueError with the text for the submitter."""
        spec = read(submitted.jobspec)
        if submitted.id in self.engine.jobs or submitted.id in self.pasts.jobs:
            raise ValueError(f"there is a job {submitted.id} already")
        self.max_jobid = max(self.max_jobid, submitted.id)
        job = new_job(
            submitted.id,
            submitted.userid,
            submitted.urgency,
            submitted.flags,
            submitted.t_submit,
            bytes(submitted.jobspec),
            spec,
        )
        job.held, job.stored = True, False
        context = {"userid": job.userid, "urgency": job.urgency, "flags": job.flags, "version": 1}
        self.engine.post(job, "submit", context, timestamp=job.t_submit)
        try:
            self._validate(job)
        except ValueError:
            self.batch.forget(job.path)
            self.engine.post(job, "invalidate", committed=False)
            if self.plugins.hooks["destroy"]:
                self.plugins.tell("destroy", job)
            raise
        self.engine.jobs[job.id] = job
        self.directories.add(job.id)
        if submitted.J is not None:
            self.batch.add(f"{job.path}.J", submitted.J)
            self.batch.add(f"{job.path}.jobspec", job.jobspec)
        self.engine.post(job, "validate")
        self._accepted(job)
        # What needs nobody else is done at once, and stored with the rest.
        job.held = False
        self.engine.depend(job)
        return job

    def _validate(self, job: Job) -> None:
        """All that may be wrong with a new job."""
        system = job.spec.system
        self.queues.check_submit(system.queue)
        hooks = self.plugins.hooks
        if hooks["create"]:
            self.plugins.check("create", job)
            system = self._look_again(job)
        self.check_limits(job)
        if hooks["validate"]:
            self.plugins.check("validate", job)
            system = self._look_again(job)
        for dependency in system.dependencies:
            handler = self.schemes.get(dependency.scheme)
            if handler is not None:
                handler.add(job, dependency)
            elif not self.plugins.ask("dependency", job, dependency):
                raise ValueError(f'dependency scheme "{dependency.scheme}" not supported')
        if system.alloc_bypass is not None:
            self._bypass(job)

    def _look_again(self, job: Job) -> System:
        """What the jobspec says now: a plugin may have changed it."""
        self.queues.check_submit(job.spec.system.queue)
        return job.spec.system

    def check_limits(self, job: Job) -> None:
        """Checks a jobspec against the limits. Raises ValueError."""
        system = job.spec.system
        limits.check_size(self.settings, system.queue, job.jobspec)
        limits.check_duration(self.settings, system.queue, system.duration)
        if system.duration:
            limits.check_lifetime(system.duration, self.lifetime())

    def _accepted(self, job: Job) -> None:
        self.waits.submitted(job)
        self.singleton.accepted(job)
        if self.plugins.hooks["new"]:
            self.plugins.tell("new", job)

    def _bypass(self, job: Job) -> None:
        """A job that brings its resources along (spec 06, section 12 alloc-bypass)."""
        bypass = job.spec.system.alloc_bypass
        assert bypass is not None
        if job.userid != self.broker.owner:
            raise ValueError("Guest user cannot use alloc bypass")
        try:
            R = msgspec.json.decode(bypass.R) if bypass.R else None
            if not isinstance(R, dict) or not R["execution"]["R_lite"]:
                raise KeyError("execution")
        except (*UNREADABLE, KeyError, TypeError):
            raise ValueError("alloc-bypass: invalid R: it has no execution.R_lite") from None
        job.R = bytes(bypass.R)
        self.engine.post(job, "set-flags", {"flags": ["alloc-bypass"]})
