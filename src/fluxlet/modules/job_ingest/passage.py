"""One jobspec's way through frobnicators and validators that take their time (spec 06, 4.3).

What is ours runs at once; what is a user's in a worker; what only the scheduler knows is asked.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from flux.core.future_state import RpcState
from fluxlet.modules.job_ingest import checks
from fluxlet.modules.job_ingest.worker import Answer, job_text

if TYPE_CHECKING:
    from fluxlet.modules.job_ingest.module import JobIngest, Submission


class Passage:
    """See the module.

    Args:
        service: the module.
        submission: whose jobspec it is; it is `ready` when the passage has ended.
        jobspec: as an object.
        validated: whether it is to be validated.
    """

    def __init__(self, service: JobIngest, submission: Submission, jobspec: dict[str, Any], validated: bool) -> None:
        self.service = service
        self.submission = submission
        self.jobspec = jobspec
        self.validated = validated

    def _text(self) -> bytes:
        msg, request = self.submission.msg, self.submission.request
        return job_text(
            checks.encode(self.jobspec),
            userid=msg.userid,
            rolemask=msg.rolemask,
            urgency=request.urgency,
            flags=request.flags,
        )

    def begin(self) -> None:
        """Sets out."""
        try:
            self.service.frobnicate(self.jobspec)
        except OSError as exc:
            self._end(exc)
            return
        worker = self.service.worker("frobnicator")
        if worker is None:
            self._validate()
        else:
            worker.ask(self._text(), self._frobnicated)

    def _frobnicated(self, answer: Answer) -> None:
        if answer.errnum:
            self._end(_error(answer))
            return
        try:
            self.jobspec = checks.parse(bytes(answer.data))
        except OSError as exc:
            self._end(exc)
            return
        self._validate()

    def _validate(self) -> None:
        if not self.validated:
            self._end(None)
            return
        try:
            self.service.validate(self.jobspec)
        except OSError as exc:
            self._end(exc)
            return
        worker = self.service.worker("validator")
        if worker is None:
            self._ask_scheduler()
        else:
            worker.ask(self._text(), self._was_validated)

    def _was_validated(self, answer: Answer) -> None:
        if answer.errnum:
            self._end(_error(answer))
        else:
            self._ask_scheduler()

    def _ask_scheduler(self) -> None:
        if not self.service.asks_scheduler:
            self._end(None)
            return
        self.service.ask(b"feasibility.check", self._text() + b"\0", self._answered)

    def _answered(self, state: RpcState) -> None:
        if state.errnum and state.errnum != errno.ENOSYS:
            self._end(OSError(state.errnum, state.errtext or "the job can never run"))
        else:
            self._end(None)

    def _end(self, error: OSError | None) -> None:
        submission = self.submission
        submission.error = error
        if error is None:
            submission.jobspec = checks.redacted(self.jobspec)
        submission.ready = True
        self.service.proceed()


def _error(answer: Answer) -> OSError:
    return OSError(answer.errnum, answer.errstr or "the job was refused")
