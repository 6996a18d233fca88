"""flux job-exec-override — has simulated jobs start and finish, to try out what waits for that (spec 07, 4.3)."""

from __future__ import annotations

import logging
from functools import partial
from typing import NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.cli.jobid import jobid_argument
from flux.util import CLIMain

LOGGER = logging.getLogger("flux-job-exec-override")

#: For the manual.
EXAMPLES = (
    ("flux submit --setattr=system.exec.test.override=1 true", "A job that does nothing on its own."),
    ("flux job-exec-override start ƒ2oRvKCz", "Has it start."),
    ("flux job-exec-override finish ƒ2oRvKCz 256", "Has it finish, with exit code 1."),
)
SEE_ALSO = ("submit",)


def parser() -> FluxArgumentParser:
    """The options."""
    result = FluxArgumentParser(prog="flux-job-exec-override", description="Have simulated jobs start and finish")
    commands = result.add_subparsers(title="subcommands", dest="subcommand", required=True)
    start = commands.add_parser("start", help="have a job start", description="Have a job start")
    finish = commands.add_parser("finish", help="have a job finish", description="Have a job finish")
    for command in (start, finish):
        command.add_argument("JOBID", type=jobid_argument, help="the job")
    finish.add_argument("STATUS", type=int, help="its wait status")
    return result


def _run(argv: list[str]) -> None:
    args = parser().parse_args(argv)
    request = {"event": args.subcommand, "jobid": int(args.JOBID)}
    if args.subcommand == "finish":
        request["status"] = args.STATUS
    from flux.core.handle import Flux

    with Flux() as handle:
        handle.rpc("job-exec.override", request).get()


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
