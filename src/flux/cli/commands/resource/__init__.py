"""flux resource — what resources an instance has, and how they do (spec 07, 2.6; spec 08, 11.3)."""

from __future__ import annotations

import argparse
import logging
from functools import partial
from importlib import import_module
from typing import Any, NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.util import CLIMain, ColorAction, FilterAction

LOGGER = logging.getLogger("flux-resource")

#: For the manual.
EXAMPLES = (
    ("flux resource list", "What is free, in use, and down."),
    ("flux resource drain node3 bad disk", "Have a node not used for jobs that start from now on, and say why."),
    ("flux resource undrain node3", "Use it again."),
    ("flux resource status", "How nodes do."),
)
SEE_ALSO = ("module", "queue")

#: Subcommand: where its function is, in this package.
_PLACES = {
    "drain": "changes",
    "undrain": "changes",
    "reload": "changes",
    "acquire-mute": "changes",
    "status": "status",
    "list": "listing",
    "info": "listing",
    "R": "listing",
    "eventlog": "events",
}


class _Hidden(FluxArgumentParser):
    """Adds the options that are for tests."""

    def for_tests(self, *words: str) -> None:
        """Takes options that are not shown."""
        for word in words:
            if word == "--config-file":
                self.add_argument(word, metavar="CONFIG_FILE", help=argparse.SUPPRESS)
            else:
                self.add_argument(word, action="store_true", help=argparse.SUPPRESS)


def parser() -> FluxArgumentParser:
    """The options."""
    result = FluxArgumentParser(prog="flux-resource", description="List and manipulate resources of an instance")
    commands = result.add_subparsers(
        title="subcommands", dest="subcommand", required=True, metavar="COMMAND", parser_class=_Hidden
    )

    def command(name: str, text: str) -> Any:
        return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}")

    drain = command("drain", "drain nodes, so that no more jobs start there; or list those that are drained")
    undrain = command("undrain", "have drained nodes used again")
    status = command("status", "show how nodes do")
    listed = command("list", "list resources by state")
    info = command("info", "count nodes, cores and gpus")
    reload = command("reload", "replace the resources by those of a file")
    r = command("R", "print resources as R")
    eventlog = command("eventlog", "show what has happened to resources")
    command("acquire-mute", "tell the scheduler nothing more about resources")

    _changes(drain, undrain, reload)
    _selections(status, listed, info, r, drain)
    _events(eventlog)
    for made in (status, listed, drain):
        made.add_argument("-o", "--format", metavar="FORMAT", default="default", help="what to show; help: the names")
        made.add_argument("-n", "--no-header", action="store_true", help="print no heading")
    for made in (drain, status, eventlog):
        made.add_argument("-L", "--color", action=ColorAction)
    for made in (status, listed):
        made.add_argument("--skip-empty", action="store_true", help="leave out what has no nodes")
    listed.add_argument("--no-skip-empty", action="store_true", help="leave out nothing, also with --include")
    for made in (status, listed, info, r):
        made.for_tests("--from-stdin", "--config-file")
    info.for_tests("--skip-empty", "--no-skip-empty")
    return result


def _changes(drain: Any, undrain: Any, reload: Any) -> None:
    drain.add_argument(
        "-f", "--force", action="count", default=0, help="replace the reason of what is drained; twice: the time too"
    )
    drain.add_argument("-u", "--update", action="store_true", help="drain those that are not drained yet")
    drain.add_argument("targets", nargs="?", metavar="TARGETS", help="ranks or hosts")
    undrain.add_argument("-f", "--force", action="count", default=0, help="no error for what is not drained")
    undrain.add_argument("-u", "--update", action="store_true", help="no error for what is not drained")
    undrain.add_argument("targets", metavar="TARGETS", help="ranks or hosts")
    for made in (drain, undrain):
        made.add_argument("reason", nargs=argparse.REMAINDER, metavar="REASON", help="why")
    reload.add_argument("-x", "--xml", action="store_true", help="PATH is a directory of files RANK.xml of hwloc")
    reload.add_argument("-f", "--force", action="store_true", help="take ranks that the instance does not have")
    reload.add_argument("path", metavar="PATH", help="a file with R")


def _selections(status: Any, listed: Any, info: Any, r: Any, drain: Any) -> None:
    for made in (status, listed, info, r):
        made.add_argument(
            "-s",
            "--states",
            "--state",
            metavar="STATE,...",
            action=FilterAction,
            help="only resources in these states",
        )
    for made in (status, listed, info, r, drain):
        made.add_argument("-i", "--include", metavar="TARGETS", help="only these ranks or hosts")
        made.add_argument("-q", "--queue", metavar="QUEUE,...", help="only resources of these queues")


def _events(eventlog: Any) -> None:
    add = eventlog.add_argument
    add("-f", "--format", metavar="FORMAT", choices=["text", "json"], default="text", help="text or json")
    formats = ["raw", "iso", "offset", "human", "reltime"]
    add("-T", "--time-format", metavar="FORMAT", choices=formats, default="raw", help=f"one of {', '.join(formats)}")
    add("-H", "--human", action="store_const", dest="time_format", const="human", help="as --time-format=human")
    add("-F", "--follow", action="store_true", help="show also what happens from now on")
    add("-t", "--timeout", metavar="TIME", help="wait no longer than this, an error with --wait")
    add("-w", "--wait", metavar="EVENT", help="show events up to this one, which may be still to come")
    add("-m", "--match-context", metavar="KEY=VAL", help="wait for one with this in its context")
    add("-i", "--include", metavar="TARGETS", help="only events of these ranks or hosts")


def _run(argv: list[str]) -> None:
    args = parser().parse_args(argv)
    place = import_module(f"{__name__}.{_PLACES[args.subcommand]}")
    getattr(place, f"{args.subcommand.replace('-', '_')}_command")(args)


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
