"""The validator `jobspec`: the rules of jobspecs (spec 06, 3.1)."""

from __future__ import annotations

import argparse
import json

from flux.job.Jobspec import validate_jobspec
from flux.job.validator.validator import ValidatorJobInfo, ValidatorPlugin


class Validator(ValidatorPlugin):
    """Checks a jobspec against the rules of its version."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        super().__init__(parser)
        self.version: int | None = 1
        parser.add_argument("--require-version", default="1", metavar="V", help="1, or any")

    def configure(self, args: argparse.Namespace) -> None:
        """`--require-version`. Raises ValueError if it is neither a number nor any."""
        self.version = None if args.require_version == "any" else int(args.require_version)

    def validate(self, job: ValidatorJobInfo) -> tuple[int, str] | None:
        """Raises what validate_jobspec raises."""
        validate_jobspec(json.dumps(job.jobspec), self.version)
        return None
