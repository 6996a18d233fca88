"""flux sproc — the processes that brokers and shells run for others: list, wait, kill (spec 04, 5.7; flux-sproc(1))."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from flux import subprocess
from flux.cli.argparse import FluxArgumentParser
from flux.constants import FLUX_NODEID_ANY
from flux.core.handle import Flux
from flux.util import CLIMain, OutputFormat

LOGGER = logging.getLogger("flux-sproc")

_FORMAT = "{pid:>9} {state:<2} {label:<12} {cmd}"
_HEADINGS = {"pid": "PID", "rank": "RANK", "state": "ST", "label": "LABEL", "cmd": "COMMAND"}


def parser() -> FluxArgumentParser:
    """The table of options and commands."""
    top = FluxArgumentParser(prog="flux-sproc", description="Processes that were started with flux exec")
    commands = top.add_subparsers(title="supported subcommands", metavar="", dest="subcommand")
    commands.required = True

    def command(name: str, help: str, function: Callable[[Flux, argparse.Namespace], int]) -> FluxArgumentParser:
        added: FluxArgumentParser = commands.add_parser(name, help=help, description=help)
        added.add_argument(
            "-r", "--rank", metavar="RANK", type=int, default=FLUX_NODEID_ANY, help="The rank. Default: this one"
        )
        added.add_argument("-s", "--service", metavar="SERVICE", default="rexec", help="What runs them. Default: rexec")
        added.set_defaults(function=function)
        return added

    ps = command("ps", "List processes", _ps)
    ps.add_argument("-o", "--format", metavar="FORMAT", default=_FORMAT, help="What to print of each")
    ps.add_argument("-n", "--no-header", action="store_true", help="No headings")
    wait = command("wait", "Wait for a process, and exit with its exit code", _wait)
    wait.add_argument("-o", "--output", action="store_true", help="Print the end of its output")
    wait.add_argument("pid", metavar="PID|LABEL", help="The process")
    kill = command("kill", "Send a signal to a process", _kill)
    kill.add_argument("-w", "--wait", action="store_true", help="Then wait for it")
    kill.add_argument("signum", metavar="SIGNUM", type=int, help="The signal's number")
    kill.add_argument("pid", metavar="PID|LABEL", help="The process")
    return top


def _target(args: argparse.Namespace) -> dict[str, Any]:
    """The process that is meant, as arguments of `flux.subprocess`."""
    try:
        target: dict[str, Any] = {"pid": int(args.pid)}
    except ValueError:
        target = {"label": args.pid}
    return {**target, "service": args.service, "nodeid": args.rank}


def _ps(handle: Flux, args: argparse.Namespace) -> int:
    formatter = OutputFormat(args.format, headings=_HEADINGS)
    processes = subprocess.list(handle, args.service, args.rank).get_processes()
    if not args.no_header:
        print(formatter.header())
    for process in processes:
        print(formatter.format(process))
    return 0


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _wait(handle: Flux, args: argparse.Namespace) -> int:
    done = subprocess.wait(handle, **_target(args))
    try:
        code = _code(done.get_status())
    except OSError as exc:
        LOGGER.error("wait: %s", exc)
        return 1
    if args.output:
        for stream, data in ((sys.stdout, done.stdout), (sys.stderr, done.stderr)):
            stream.flush()
            stream.buffer.write(data)
            stream.flush()
    return code


def _kill(handle: Flux, args: argparse.Namespace) -> int:
    target = _target(args)
    # Before the signal: behind it there may be nothing left to wait for.
    waiting = subprocess.wait(handle, **target) if args.wait else None
    code = 0
    try:
        subprocess.kill(handle, args.signum, **target).get()
    except OSError as exc:
        LOGGER.error("kill: %s", exc)
        code = 1
    if waiting is not None:
        try:
            code = _code(waiting.get_status())
        except OSError as exc:
            LOGGER.error("kill: wait failed: %s", exc)
            code = 1
    return code


def _run(argv: list[str]) -> None:
    args = parser().parse_args(argv)
    with Flux() as handle:
        sys.exit(args.function(handle, args))


def main(argv: list[str]) -> int:
    """Runs the command."""
    CLIMain(LOGGER)(partial(_run, argv))
    return 0
