"""What some options of the commands that submit jobs do with their values (spec 08, 6.1)."""

from __future__ import annotations

import argparse
from typing import Any


class EnvFileAction(argparse.Action):
    """``--env-file=FILE``: the rule ``^FILE`` of ``--env``."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Adds the rule."""
        namespace.env = [*(namespace.env or ()), f"^{values}"]


class EnvFilterAction(argparse.Action):
    """``--env-remove=PATTERN``: the rule ``-PATTERN`` of ``--env``."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Adds the rule."""
        namespace.env = [*(namespace.env or ()), f"-{values}"]


class BeginTimeAction(argparse.Action):
    """``--begin-time=TIME``: a dependency on that time, which is read now unless something is to be replaced in it."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Keeps the time. Raises ValueError for what is none."""
        setattr(namespace, self.dest, values if "{" in values else begin_time(values))


def begin_time(text: str) -> float:
    """Seconds since the epoch."""
    from flux.util import parse_datetime

    return parse_datetime(text).timestamp()


class HelpAction(argparse.Action):
    """``--help[=TOPIC]``: help; the topic is for the command, which knows its plugins."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Prints help, and ends the program; or keeps the topic."""
        if values is None:
            parser.print_help()
            parser.exit()
        namespace.help = values
