"""flux queue — look at queues, and open and close them (spec 08, 11.1 and 11.2)."""

from __future__ import annotations

import argparse
import logging
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.util import CLIMain, ColorAction, FilterActionSetUpdate

LOGGER = logging.getLogger("flux-queue")

#: For the manual.
EXAMPLES = (
    ("flux queue list", "The queues, their limits, and whether they are open."),
    ("flux queue start --all", "Have the jobs of all queues scheduled: named queues begin stopped."),
    ("flux queue disable -m 'back at noon' batch", "Take no more jobs into a queue."),
    ("flux queue drain", "Wait until no job is left."),
)
SEE_ALSO = ("jobs", "resource")


def parser() -> FluxArgumentParser:
    """The options."""
    result = FluxArgumentParser(prog="flux-queue", description="Manipulate job queues")
    commands = result.add_subparsers(title="subcommands", dest="subcommand", required=True)

    def command(name: str, text: str) -> Any:
        return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}")

    listed = command("list", "list queues")
    listed.add_argument(
        "-q", "--queue", action=FilterActionSetUpdate, metavar="QUEUE,...", default=set(), help="only these queues"
    )
    listed.add_argument("-o", "--format", metavar="FORMAT", default="default", help="what to show; help: the names")
    listed.add_argument("-n", "--no-header", action="store_true", help="print no heading")
    listed.add_argument("--color", action=ColorAction)
    for name, text in (
        ("status", "tell whether queues are open"),
        ("enable", "take jobs into a queue"),
        ("disable", "take no more jobs into a queue"),
        ("start", "schedule the jobs of a queue"),
        ("stop", "schedule the jobs of a queue no more"),
    ):
        made = command(name, text)
        made.add_argument("-q", "--queue", dest="old_queue", metavar="NAME", help=argparse.SUPPRESS)
        if name != "status":
            made.add_argument("-a", "--all", action="store_true", help="all queues")
            made.add_argument("--quiet", action="store_true", help="print nothing")
        made.add_argument("-v", "--verbose", action="store_true", help="tell more")
        if name in ("disable", "stop"):
            made.add_argument("--nocheckpoint", action="store_true", help="do not remember it over a restart")
            made.add_argument("-m", "--message", metavar="REASON", help="why")
        made.add_argument("QUEUE", nargs="?", help="the queue; by default all of them")
    drain = command("drain", "wait until there are no active jobs")
    idle = command("idle", "wait until no job runs, and no resources are about to be given out")
    for made in (drain, idle):
        made.add_argument("-t", "--timeout", metavar="DURATION", help="how long to wait")
    idle.add_argument("--quiet", action="store_true", help="print only how many jobs are left, if there are any")
    return result


def _run(argv: list[str]) -> None:
    args = parser().parse_args(argv)
    place = "listing" if args.subcommand == "list" else "changing"
    module = import_module(f"flux.cli.commands.queue.{place}")
    getattr(module, f"{args.subcommand}_command")(args)


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
