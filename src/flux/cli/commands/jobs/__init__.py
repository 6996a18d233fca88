"""flux jobs — list jobs (spec 08, section 9)."""

from __future__ import annotations

import argparse
import logging
from functools import partial
from typing import NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.cli.jobid import jobid_argument
from flux.cli.since import joined
from flux.util import CLIMain, ColorAction, FilterAction, FilterActionSetUpdate, FilterActionUser, FilterTrueAction

LOGGER = logging.getLogger("flux-jobs")

#: For the manual.
EXAMPLES = (
    ("flux jobs", "Your jobs that wait or run."),
    ("flux jobs -a -c 20", "The last ones that have ended, too."),
    ("flux jobs -f failed --since=-1h", "What has failed in the last hour."),
    ("flux jobs -o '{id.f58:>12} {name} {result} {runtime!F}'", "What you want to see of each."),
)
SEE_ALSO = ("run", "submit", "cancel", "job")


def parser() -> FluxArgumentParser:
    """The options."""
    result = FluxArgumentParser(prog="flux-jobs", description="List jobs")
    add = result.add_argument
    add("-a", action=FilterTrueAction, help="List jobs in all states")
    add("-A", action=FilterTrueAction, help="List jobs of all users")
    add("-c", "--count", action=FilterAction, type=int, metavar="N", default=1000, help="Limit output to N jobs")
    add(
        "-f",
        "--filter",
        action=FilterActionSetUpdate,
        metavar="STATE|RESULT",
        default=set(),
        help="List jobs with specific job states or results",
    )
    add("--since", action=FilterAction, type=str, metavar="WHEN", default=0.0, help="Include jobs ended since WHEN")
    add("-n", "--no-header", action="store_true", help="Suppress printing of header line")
    add("--suppress-header", action="store_true", dest="no_header", help=argparse.SUPPRESS)
    add("-u", "--user", action=FilterActionUser, metavar="[USERNAME|UID]", help='Limit to user; "all" for all')
    add("--name", action=FilterAction, metavar="JOB-NAME", help="Limit output to specific job name")
    add("-q", "--queue", action=FilterActionSetUpdate, metavar="QUEUE,...", default=set(), help="Limit to queues")
    add("-i", "--include", action=FilterAction, metavar="HOSTS|RANKS", help="Limit to jobs on hosts or ranks")
    add("-o", "--format", metavar="FORMAT", default="default", help="Output format, or its name; help: the names")
    add("--sort", metavar="KEY,...", default="", help="Sort by keys")
    add("-w", "--width", nargs="?", type=int, const=0, default=-1, metavar="N", help="Cut lines to N columns")
    add("--json", action="store_true", help="Print jobs as JSON")
    add("--color", action=ColorAction)
    add("-R", "--recursive", action="store_true", help="List jobs of instances among the jobs, too")
    add("-L", "--level", type=int, metavar="N", default=9999, help="With --recursive, only descend N levels")
    add("--recurse-all", action="store_true", help="As --recursive, for jobs of all users")
    add("--threads", type=int, metavar="N", help="Set max number of worker threads")
    add("--stats", action="store_true", help="Print job statistics before the list")
    add("--stats-only", action="store_true", help="Print statistics only; exit code 1 if there are no active jobs")
    add("--from-stdin", action="store_true", help=argparse.SUPPRESS)
    add("JOBID", type=jobid_argument, nargs="*", help="List specific jobs")
    result.set_defaults(filtered=False, filtereduser=False)
    return result


def _run(argv: list[str]) -> None:
    from flux.cli.commands.jobs.listing import listing

    listing(parser().parse_args(joined(argv)))


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
