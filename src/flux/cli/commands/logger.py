"""flux logger — writes to the instance's log (spec 03, 14.4)."""

from __future__ import annotations

import sys

from flux.cli.options import Command, Option, Parsed
from flux.cli.severity import SEVERITIES
from flux.cli.tool import Failure, connect, run

COMMAND = Command(
    "logger",
    "Create a Flux log entry",
    [
        Option(
            "s",
            "severity",
            f"How serious it is: {', '.join(SEVERITIES)}. Default: notice.",
            "LEVEL",
            complete="|".join(SEVERITIES),
        ),
        Option("n", "appname", "The program that the entry is from. Default: logger.", "NAME"),
    ],
    arguments="[message ...]",
    words=(0, None),
    permute=True,
    help_status=1,
    description="Writes a message to the log of the instance, or each line of standard input if there is none.",
    examples=(
        ("flux logger --severity=err the disk is full", "An error."),
        ("make 2>&1 | flux logger --appname=make", "What a program prints, line by line."),
    ),
    see_also=("dmesg",),
)


def _body(parsed: Parsed) -> int:
    severity = parsed.value("severity") or "notice"
    if severity not in SEVERITIES:
        raise Failure(f"invalid severity: Use {'|'.join(SEVERITIES)}")
    level = SEVERITIES.index(severity)
    with connect(COMMAND) as handle:
        handle.log_set_appname(parsed.value("appname") or "logger")
        if parsed.words:
            handle.log(level, " ".join(parsed.words))
            return 0
        for line in sys.stdin.buffer:
            if line := line.strip(b"\r\n"):
                handle.log(level, line)
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
