"""flux bulksubmit — submit a job for each combination of inputs (spec 08, 6.3)."""

from __future__ import annotations

import sys
from functools import partial
from typing import NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.cli.bulksubmit import BulkSubmitCmd
from flux.util import CLIMain

#: For the manual.
EXAMPLES = (
    ("flux bulksubmit --wait gzip {} ::: *.txt", "A job for each file."),
    ("flux bulksubmit -n{0} ./bench {1} ::: 1 2 4 ::: a b", "Six jobs: each number of tasks with each input."),
    ("flux bulksubmit ./run {0} {1} ::: 1 2 :::+ x y", "Two jobs: the lists go together."),
    ("seq 100 | flux bulksubmit --output={}.out ./simulate {}", "Inputs are the lines of a file, or of stdin."),
    ("flux bulksubmit --dry-run cp {} {./%}.old :::: list", "What would be submitted for the names in a file."),
)
SEE_ALSO = ("submit", "watch", "jobs", "multi-prog")


def parser() -> FluxArgumentParser:
    """The options."""
    return BulkSubmitCmd("bulksubmit").get_parser()


def _run(command: BulkSubmitCmd, argv: list[str]) -> None:
    sys.exit(command.main(command.parse(argv)))


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    command = BulkSubmitCmd("bulksubmit")
    CLIMain(command.logger)(partial(_run, command, argv))
