"""A batch of jobs on its way to the KVS and the job manager, and the answers to those who have submitted them.

Where the job manager is a module of the same broker, it does it all: a transaction has what is to be stored of a job
and its first events. Else the KVS is asked first, then the job manager; of a job that this refuses, nothing is left.
"""

from __future__ import annotations

import errno
from syslog import LOG_ERR
from typing import TYPE_CHECKING

import msgspec

from flux.core.fluid import kvs
from flux.core.future_state import RpcState
from fluxlet.modules.job_manager.direct import manager_of
from fluxlet.modules.job_manager.submission import Submitted
from fluxlet.modules.kvs.operation import Commit, Op, Value, payload

if TYPE_CHECKING:
    from fluxlet.modules.job_ingest.module import JobIngest, Submission


class SubmitErrors(msgspec.Struct):
    """Payload of the response to job-manager.submit."""

    errors: list[tuple[int, str]]


_decode_errors = msgspec.json.Decoder(SubmitErrors).decode


class Sending:
    """A batch that is being stored and told to the job manager.

    Args:
        service: the module.
        batch: the jobs.
    """

    def __init__(self, service: JobIngest, batch: list[Submission]) -> None:
        self.service = service
        self.batch = batch

    def begin(self) -> None:
        """Sends it."""
        manager = manager_of(self.service.broker)
        if manager is None:
            ops = []
            for each in self.batch:
                path = kvs(each.id)
                ops.append(Op(f"{path}.J", 0, Value(each.request.J.encode())))
                ops.append(Op(f"{path}.jobspec", 0, Value(each.jobspec)))
            self.service.ask(b"kvs.commit", payload(Commit(ops)), self._committed)
            return
        manager.take(
            [
                Submitted(
                    each.id,
                    each.msg._userid,
                    each.request.urgency,
                    each.t_submit,
                    each.request.flags,
                    msgspec.Raw(each.jobspec),
                    each.request.J.encode(),
                )
                for each in self.batch
            ],
            self._taken,
        )

    def _taken(self, errors: dict[int, str], failure: OSError | None) -> None:
        if failure is not None:
            self._fail(failure.errno or errno.EIO, failure.strerror)
        else:
            self._answer(errors)

    def _committed(self, state: RpcState) -> None:
        if state.errnum:
            self._fail(state.errnum, state.errtext or "the job cannot be stored")
            return
        job = b'{"id":%d,"userid":%d,"urgency":%d,"t_submit":%b,"flags":%d,"jobspec":%b}'
        jobs = [
            job
            % (
                each.id,
                each.msg._userid,
                each.request.urgency,
                repr(each.t_submit).encode(),
                each.request.flags,
                each.jobspec,
            )
            for each in self.batch
        ]
        self.service.ask(b"job-manager.submit", b'{"jobs":[%b]}\0' % b",".join(jobs), self._submitted)

    def _submitted(self, state: RpcState) -> None:
        if state.errnum:
            self._fail(state.errnum, state.errtext or "the job manager cannot take jobs")
            if state.errnum == errno.ENOSYS:
                self._remove([each.id for each in self.batch])  # or the next job manager would find half a job
            return
        errors = dict(_decode_errors(state.value.raw[:-1]).errors)
        self._answer(errors)
        if errors:
            self._remove(list(errors))

    def _remove(self, jobids: list[int]) -> None:
        ops = [Op(kvs(jobid), 0, None) for jobid in jobids]
        self.service.ask(b"kvs.commit", payload(Commit(ops)), self._removed)

    def _fail(self, errnum: int, text: str | None) -> None:
        for submission in self.batch:
            self.service.handle.respond_error(submission.msg, errnum, text)
        self.service.sent(self)

    def _answer(self, errors: dict[int, str]) -> None:
        service = self.service
        for submission in self.batch:
            if submission.id in errors:
                service.handle.respond_error(submission.msg, errno.EINVAL, errors[submission.id])
            else:
                service.answer(submission.msg, b'{"id":%d}\0' % submission.id)
        service.sent(self)

    def _removed(self, state: RpcState) -> None:
        if state.errnum:
            text = f"what is left of refused jobs cannot be removed: kvs.commit: {state.errtext or state.errnum}"
            self.service.broker.log.write(LOG_ERR, text, self.service.name)
