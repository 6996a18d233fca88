"""A batch of jobs on its way to the KVS and the job manager, and the answers to those who have submitted them."""

from __future__ import annotations

import errno
from syslog import LOG_ERR
from typing import TYPE_CHECKING

import msgspec

from flux.core.fluid import kvs
from flux.core.future_state import RpcState
from fluxlet.modules.job_manager.batch import Commit, Op

if TYPE_CHECKING:
    from fluxlet.modules.job_ingest.module import JobIngest, Submission


class SubmitErrors(msgspec.Struct):
    """Payload of the response to job-manager.submit."""

    errors: list[tuple[int, str]]


_decode_errors = msgspec.json.Decoder(SubmitErrors).decode
_encode = msgspec.json.Encoder().encode


class Sending:
    """A batch that is being stored and told to the job manager.

    Args:
        service: the module.
        batch: the jobs.
        jobs: the payload of job-manager.submit.
        pipelined: the job manager may be told before the transaction has ended.
    """

    def __init__(self, service: JobIngest, batch: list[Submission], jobs: bytes, pipelined: bool) -> None:
        self.service = service
        self.batch = batch
        self.jobs = jobs
        self.pipelined = pipelined
        self.failure: tuple[int, str | None] | None = None
        self.unheard = False
        """The job manager has not taken the jobs: it is on its way out, or there is none."""
        self.errors: dict[int, str] = {}
        self.left = 2  # answers that are to come

    def begin(self, commit: bytes) -> None:
        """Sends the transaction, and what may be sent without waiting for it."""
        self.service.ask(b"kvs.commit", commit, self._committed)
        if self.pipelined:
            self._submit()

    def _submit(self) -> None:
        self.service.ask(b"job-manager.submit", self.jobs, self._submitted)

    def _committed(self, state: RpcState) -> None:
        if state.errnum:
            self.failure = (state.errnum, state.errtext or "the job cannot be stored")
        if self.pipelined:
            self._one_done()
        elif self.failure is None:
            self.left -= 1
            self._submit()
        else:
            self._answer()

    def _submitted(self, state: RpcState) -> None:
        if state.errnum:
            self.failure = self.failure or (state.errnum, state.errtext or "the job manager cannot take jobs")
            self.unheard = state.errnum == errno.ENOSYS
        else:
            self.errors = dict(_decode_errors(state.value.raw[:-1]).errors)
        self._one_done()

    def _one_done(self) -> None:
        self.left -= 1
        if not self.left:
            self._answer()

    def _answer(self) -> None:
        service = self.service
        refused = []
        for submission in self.batch:
            if self.failure is not None:
                service.handle.respond_error(submission.msg, *self.failure)
                if self.unheard:
                    refused.append(submission.id)  # or the next job manager would find half a job
            elif submission.id in self.errors:
                service.handle.respond_error(submission.msg, errno.EINVAL, self.errors[submission.id])
                refused.append(submission.id)
            else:
                service.answer(submission.msg, b'{"id":%d}\0' % submission.id)
        if refused:
            ops = [Op(kvs(jobid), 0, None) for jobid in refused]
            service.ask(b"kvs.commit", _encode(Commit(ops)) + b"\0", self._removed)
        service.sent(self)

    def _removed(self, state: RpcState) -> None:
        if state.errnum:
            text = f"what is left of refused jobs cannot be removed: kvs.commit: {state.errtext or state.errnum}"
            self.service.broker.log.write(LOG_ERR, text, self.service.name)
