"""flux alloc — start an instance, for a command, a shell, or to be used from outside (spec 08, 6.4)."""

from __future__ import annotations

from functools import partial
from typing import NoReturn

from flux.cli.alloc import AllocCmd
from flux.cli.argparse import FluxArgumentParser
from flux.cli.commands.run import run_attached
from flux.util import CLIMain

#: For help and the manual.
DESCRIPTION = (
    "Starts a Flux instance that has the resources of the job, with a command or a shell in it, and attaches to it. "
    "With --bg nothing runs in it: prints its id when it takes jobs, and leaves it until flux shutdown ID or its limit."
)
#: For the manual.
EXAMPLES = (
    ("flux alloc -N2", "A shell in an instance of two nodes, until you leave it."),
    ("flux alloc -n4 flux submit --wait --cc=1-100 ./step", "A hundred jobs, on four cores."),
    ("flux alloc -N2 -t 1h --bg", "Prints the id of the instance; `flux proxy ID` is the way into it."),
)
SEE_ALSO = ("batch", "proxy", "shutdown", "run")


def parser() -> FluxArgumentParser:
    """The options."""
    return AllocCmd("alloc", description=DESCRIPTION).get_parser()


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with the exit code of the job."""
    command = AllocCmd("alloc", description=DESCRIPTION)
    CLIMain(command.logger)(partial(run_attached, command, argv))
