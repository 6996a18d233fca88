"""flux run — run a job, and show what it writes (spec 08, 6.2)."""

from __future__ import annotations

import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.cli.run import RunCmd
from flux.cli.tool import Failure, OutputClosed, end_by
from flux.util import CLIMain

if TYPE_CHECKING:
    from flux.cli.alloc import AllocCmd

#: For the manual.
EXAMPLES = (
    ("flux run -n4 -c2 ./simulate", "Four tasks, two cores for each."),
    ("flux run -N2 -l hostname", "A task on each of two nodes, whose lines begin with its number."),
)
SEE_ALSO = ("submit", "job", "jobs")


def parser() -> FluxArgumentParser:
    """The options."""
    return RunCmd("run").get_parser()


def run_attached(command: RunCmd | AllocCmd, argv: list[str]) -> NoReturn:
    """Runs a command that attaches to a job."""
    try:
        status = command.main(command.parse(argv))
    except Failure as exc:
        print(f"flux-job: {exc.text}", file=sys.stderr)
        status = 1
    except OutputClosed:
        end_by(signal.SIGPIPE)
    sys.exit(status)


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with the exit code of the job."""
    command = RunCmd("run")
    CLIMain(command.logger)(partial(run_attached, command, argv))
