"""`flux start`: translates its options into those of a broker, and is that broker (spec 03, 3.1 and 3.3)."""

from __future__ import annotations

import os
import sys

from flux.cli.options import UsageError
from flux.conf_builtin import conf_builtin_get
from flux.core.msgspec_import import load_msgspec
from fluxlet.broker.options import START as COMMAND
from fluxlet.broker.options import BrokerOptions, StartOptions
from fluxlet.cmd.broker import run_broker
from fluxlet.cmd.environment import front_end
from fluxlet.cmd.leaving import leave

__all__ = ["COMMAND", "main"]


def main(argv: list[str]) -> int:
    """Runs `flux start`; returns the exit code."""
    try:
        options = StartOptions(argv, conf_builtin_get("confdir"))
        broker = BrokerOptions(options.broker)
    except UsageError as exc:
        print(exc.text, file=sys.stderr)
        return exc.status
    if options.test is not None:
        load_msgspec()
        from fluxlet.cmd.test_instance import run_test_instance  # who wants one broker does not pay for it

        leave(run_test_instance(options, options.test))
    flux = front_end()
    words = [*options.wrap, *([flux] if flux else [sys.executable, "-m", "fluxlet"]), "broker", *options.broker]
    if options.verbose:
        print("flux-start:", " ".join(words), file=sys.stderr)
    if options.noexec:
        return 0
    if options.wrap:
        try:
            os.execvp(words[0], words)
        except OSError as exc:
            print(f"flux-start: {words[0]}: {exc.strerror}", file=sys.stderr)
            return 1
    leave(run_broker(broker))
