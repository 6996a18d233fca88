"""The frobnicator `constraints`: has jobs run only where their queue may (spec 06, 4.4)."""

from __future__ import annotations

import argparse
from typing import Any

from flux.job.frobnicator.frobnicator import FrobnicatorPlugin
from flux.job.frobnicator.queue_policy import QueuePolicy
from flux.job.Jobspec import Jobspec


class Frobnicator(FrobnicatorPlugin):
    """Constrains."""

    def configure(self, args: argparse.Namespace, config: dict[str, Any]) -> None:
        """Reads the policy."""
        self.policy = QueuePolicy(config)

    def frob(self, jobspec: Jobspec, userid: int, urgency: int, flags: int) -> None:
        """Raises ValueError for a queue that is not there."""
        self.policy.apply_constraints(jobspec.jobspec)
