"""The validator `feasibility`: asks the scheduler whether a job could ever run (spec 06, 4.4)."""

from __future__ import annotations

import errno

from flux.job.validator.validator import ValidatorJobInfo, ValidatorPlugin


class Validator(ValidatorPlugin):
    """Asks; a scheduler that does not know such questions has no objections."""

    def validate(self, job: ValidatorJobInfo) -> tuple[int, str] | None:
        """What `feasibility.check` answers."""
        try:
            self.flux.rpc("feasibility.check", job.jobinfo).get()
        except OSError as exc:
            if exc.errno == errno.ENOSYS:
                return None
            return exc.errno or errno.EINVAL, exc.strerror or "the job can never run"
        return None
