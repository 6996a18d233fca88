"""flux submit — submit jobs (spec 08, 6.3)."""

from __future__ import annotations

import sys
from functools import partial
from typing import NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.cli.submit import SubmitCmd
from flux.util import CLIMain

#: For the manual.
EXAMPLES = (
    ("flux submit -n4 ./simulate", "Prints the id of the job, and does not wait for it."),
    ("flux submit --cc=1-100 --wait ./simulate {cc}", "A hundred jobs, each with its number."),
    ("flux submit --watch -t 5m make test", "Shows what the job writes, and has its exit code."),
)
SEE_ALSO = ("run", "jobs", "cancel")


def parser() -> FluxArgumentParser:
    """The options."""
    return SubmitCmd("submit").get_parser()


def _run(command: SubmitCmd, argv: list[str]) -> None:
    sys.exit(command.main(command.parse(argv)))


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    command = SubmitCmd("submit")
    CLIMain(command.logger)(partial(_run, command, argv))
