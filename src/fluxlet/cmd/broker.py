"""`flux broker`: runs one broker (spec 03, 3.2)."""

from __future__ import annotations

import gc
import os
import sys

from flux.cli.options import UsageError
from flux.core.msgspec_import import load_msgspec
from fluxlet.broker.guardian import Guardian
from fluxlet.broker.options import BROKER as COMMAND
from fluxlet.broker.options import BrokerOptions
from fluxlet.cmd.environment import front_end, instance_environment
from fluxlet.cmd.leaving import leave

__all__ = ["COMMAND", "main", "run_broker"]


def main(argv: list[str]) -> int:
    """Runs `flux broker`; returns the exit code."""
    try:
        options = BrokerOptions(argv)
    except UsageError as exc:
        print(exc.text, file=sys.stderr)
        return exc.status
    leave(run_broker(options))


def run_broker(options: BrokerOptions) -> int:
    """Runs a broker in this process; returns the exit code."""
    try:
        os.getcwd()
    except OSError as exc:
        print(f"flux-start: Unable to get current working directory: {exc.strerror}", file=sys.stderr)
        return 1
    # Now, while the process is small: the guardian keeps what is in memory at this point.
    guardian = Guardian()
    os.environ.update(instance_environment(os.environ))

    # What is imported and made at the start stays: collecting it over and over again would be for nothing. It goes
    # on in `fluxlet.broker.lifecycle`, when the modules are there.
    gc.disable()
    load_msgspec()
    from fluxlet.broker.main import run

    return run(options, guardian, front_end())
