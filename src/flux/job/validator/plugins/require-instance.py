"""The validator `require-instance`: big jobs must be instances of their own (spec 06, 4.4)."""

from __future__ import annotations

import argparse
import errno

from flux.job.validator.size_limit import refusal
from flux.job.validator.validator import ValidatorJobInfo, ValidatorPlugin


class Validator(ValidatorPlugin):
    """Refuses what is too big to be submitted directly."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__(parser)
        self.minnodes = 0
        self.mincores: int | None = None
        parser.add_argument("--require-instance-minnodes", type=int, metavar="N")
        parser.add_argument("--require-instance-mincores", type=int, metavar="N")

    def configure(self, args: argparse.Namespace) -> None:
        """The bounds."""
        self.minnodes = args.require_instance_minnodes or 0
        self.mincores = args.require_instance_mincores

    def validate(self, job: ValidatorJobInfo) -> tuple[int, str] | None:
        """EINVAL for a job that is too big and no instance."""
        text = refusal(job.jobspec, self.minnodes, self.mincores)
        return None if text is None else (errno.EINVAL, text)
