"""flux batch — submit a script that has an instance to itself (spec 08, 6.5)."""

from __future__ import annotations

import sys
from functools import partial
from typing import NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.cli.batch import BatchCmd
from flux.util import CLIMain

#: For help and the manual.
DESCRIPTION = (
    "Submits a script, from a file or standard input, to run once, in a Flux instance with the job's resources. "
    "Lines such as '#FLUX: -N2' in the script are options, too, over which those of the command line win. "
    "What the script writes goes to flux-ID.out, or where --output=FILE says; none: it is kept with the job."
)
#: For the manual.
EXAMPLES = (
    ("flux batch -N2 job.sh", "Runs the script in an instance of two nodes; what it prints goes to flux-ID.out."),
    ("flux batch -n8 --output=none --wrap flux run -n8 ./simulate", "Without a script; output is kept with the job."),
    (
        "flux batch -n1 -t 1h --conf=resource.noverify=true job.sh",
        "With configuration: KEY=VALUE, or a file.",
    ),
)
SEE_ALSO = ("alloc", "submit", "jobs", "proxy")


def parser() -> FluxArgumentParser:
    """The options."""
    return BatchCmd("batch", description=DESCRIPTION).get_parser()


def _run(command: BatchCmd, argv: list[str]) -> None:
    sys.exit(command.main(command.parse(argv)))


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    command = BatchCmd("batch", description=DESCRIPTION)
    CLIMain(command.logger)(partial(_run, command, argv))
