"""flux jobtap — the plugins of the job manager (spec 06, section 16)."""

from __future__ import annotations

import argparse
import json
import logging
import os
from functools import partial
from typing import Any, NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.util import CLIMain

LOGGER = logging.getLogger("flux-jobtap")

#: For the manual.
EXAMPLES = (
    ("flux jobtap load ./named.py", "A plugin in a file here."),
    (
        "flux jobtap load --remove=all site.plugins:Fair weight=2",
        "One that is installed, with a setting, and no other.",
    ),
    ("flux jobtap list -a", "All that are loaded, the built-in ones too."),
    ("flux jobtap query .dependency-after", "What a plugin tells about itself, as JSON."),
)
SEE_ALSO = ("job", "queue", "module")


def parser() -> FluxArgumentParser:
    """The options."""
    result = FluxArgumentParser(prog="flux-jobtap", description="Load, remove and look at plugins of the job manager")
    commands = result.add_subparsers(title="subcommands", dest="subcommand", required=True)

    def command(name: str, text: str) -> Any:
        return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}")

    load = command("load", "load a plugin")
    load.add_argument("-r", "--remove", metavar="NAME", help="first remove plugins that match NAME")
    load.add_argument("plugin", help="a path that ends in .py, or package.module:Class")
    load.add_argument("conf", nargs=argparse.REMAINDER, help="its configuration: words KEY=VALUE, values may be JSON")
    remove = command("remove", "remove plugins")
    remove.add_argument("plugin", help="a name, a pattern, or all: all but the built-in ones")
    listed = command("list", "list the plugins that are loaded")
    listed.add_argument("-a", "--all", action="store_true", help="the built-in ones as well")
    query = command("query", "show what a plugin tells about itself")
    query.add_argument("plugin", help="its name")
    return result


def _configuration(words: list[str]) -> dict[str, Any]:
    """What words KEY=VALUE say; dotted keys are of tables in tables. Raises ValueError."""
    from flux.util import set_treedict

    conf: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ValueError(f"'{word}': a configuration consists of words KEY=VALUE")
        try:
            set_treedict(conf, key, json.loads(value))
        except json.JSONDecodeError:  # a text
            set_treedict(conf, key, value)
    return conf


def _load(args: argparse.Namespace) -> dict[str, Any]:
    # The broker has a directory of its own.
    plugin = os.path.abspath(args.plugin) if os.path.isfile(args.plugin) else args.plugin
    request = {"load": plugin}
    if args.conf:
        request["conf"] = _configuration(args.conf)
    if args.remove is not None:
        request["remove"] = args.remove
    return request


def _run(argv: list[str]) -> None:
    args = parser().parse_args(argv)
    request = _load(args) if args.subcommand == "load" else {}
    from flux.core.handle import Flux

    with Flux() as handle:
        if args.subcommand == "query":
            print(json.dumps(handle.rpc("job-manager.jobtap-query", {"name": args.plugin}).get()))
        elif args.subcommand == "list":
            for name in handle.rpc("job-manager.jobtap", {"query_only": True}).get()["plugins"]:
                if args.all or not name.startswith("."):
                    print(name)
        else:
            handle.rpc("job-manager.jobtap", request or {"remove": args.plugin}).get()


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
