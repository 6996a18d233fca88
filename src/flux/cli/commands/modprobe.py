"""flux modprobe — loads and removes modules with what they need, and runs tasks of start-up and shutdown.

See flux-modprobe(1), and `flux.modprobe`, which does it.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.util import CLIMain

if TYPE_CHECKING:
    from flux.modprobe import Modprobe

LOGGER = logging.getLogger("flux-modprobe")

#: For the manual.
EXAMPLES = (
    ("flux modprobe load heartbeat", "Load a module, and first what it requires."),
    ("flux modprobe list-dependencies heartbeat", "What that is."),
    ("flux modprobe run ./tasks.py", "Run the tasks of a file."),
)
SEE_ALSO = ("module", "start")
COMPLETE = {"MODULE": "@module", "FILE": "@file"}


def parser() -> FluxArgumentParser:
    """The options."""
    result = FluxArgumentParser(prog="flux-modprobe", description="Manage modules and tasks of start-up and shutdown")
    commands = result.add_subparsers(title="subcommands", dest="subcommand", required=True, metavar="COMMAND")

    def command(name: str, text: str) -> FluxArgumentParser:
        return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}")

    dry: dict[str, Any] = {"action": "store_true", "help": "only print what would be done"}
    load = command("load", "load modules, and what they require")
    load.add_argument("--dry-run", hidden_aliases=["--dry"], **dry)
    load.add_argument("MODULE", nargs="+", help="modules or services")
    remove = command("remove", "remove modules, and those that nobody uses then")
    remove.add_argument("--dry-run", **dry)
    remove.add_argument("MODULE", nargs="+", help="modules or services; all stands for all")
    run = command("run", "run the tasks of a file")
    rc1 = command("rc1", "do what is to be done when an instance starts")
    rc3 = command("rc3", "do what is to be done when an instance ends")
    rc1.add_argument("--timing", action="store_true", help="write how long tasks take to the KVS")
    for made in (run, rc1):
        made.add_argument("--show-deps", action="store_true", help="only print which task comes after which others")
    for made in (run, rc1, rc3):
        made.add_argument("-v", "--verbose", action="store_true", help="say what is done")
        made.add_argument("--dry-run", **dry)
    run.add_argument("FILE", nargs=1, help="a Python file with tasks")
    dependencies = command("list-dependencies", "show what a module requires")
    show = command("show", "show what is known of a module")
    for made in (dependencies, show):
        made.add_argument(
            "-S",
            "--set-alternative",
            action="append",
            default=[],
            metavar="NAME=MODULE",
            help="have MODULE provide NAME",
        )
        made.add_argument("-D", "--disable", action="append", default=[], metavar="NAME", help="disable a module")
    dependencies.add_argument("-f", "--full", action="store_true", help="show what is required again each time")
    for made in (dependencies, show):
        made.add_argument("MODULE", nargs=1, help="a module or service")
    return result


def _run(argv: list[str]) -> None:
    args = parser().parse_args(argv)
    from flux.modprobe import Modprobe, Module  # not for --help

    options = {name: getattr(args, name, False) for name in ("timing", "verbose", "dry_run")}
    modprobe = Modprobe(**options).configure_modules()
    if args.subcommand in ("list-dependencies", "show"):
        _choose(modprobe, args)
        name = modprobe.resolve_service(args.MODULE[0])
        if args.subcommand == "show":
            module = modprobe.get_task(name)
            if not isinstance(module, Module):
                raise ValueError(f"{args.MODULE[0]} is no module")
            print(json.dumps(module.to_dict()))
        else:
            _show_dependencies(modprobe, name, args.full)
        return
    if args.subcommand == "load":
        sys.exit(modprobe.load(args.MODULE))
    if args.subcommand == "remove":
        sys.exit(modprobe.remove(args.MODULE))
    modprobe.read_rcfile(args.FILE[0] if args.subcommand == "run" else args.subcommand)
    if getattr(args, "show_deps", False):
        print(modprobe.active_deps())
        return
    code = modprobe.run_active()
    if args.subcommand == "rc1":
        modprobe.save_task_timing(modprobe.active_tasks)
    sys.exit(code)


def _choose(modprobe: Modprobe, args: argparse.Namespace) -> None:
    for setting in args.set_alternative:
        service, equals, module = setting.partition("=")
        if not equals:
            raise ValueError(f"--set-alternative: expected NAME=MODULE, got {setting}")
        modprobe.set_alternative(service, module)
    for name in args.disable:
        modprobe.disable(name)


def _show_dependencies(modprobe: Modprobe, name: str, full: bool) -> None:
    from flux.util import Tree

    seen: set[str] = set()

    def grow(name: str, above: tuple[str, ...]) -> Tree:
        tree = Tree(name)
        seen.add(name)
        task = modprobe.get_task(name)
        for service in task.requires if task is not None else ():
            required = modprobe.resolve_service(service)
            if required not in above and (full or required not in seen):
                tree.append_tree(grow(required, (*above, required)))
        return tree

    grow(name, (name,)).render()


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
