"""flux admin — what the administrator of an instance needs (spec 03, 14.13)."""

from __future__ import annotations

import os
import sys
from typing import Any

from flux.cli.human_times import paint
from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import Failure, call, connect, run, show, use_color
from flux.core.handle import Flux

COMMAND = Command(
    "admin",
    "Commands for the administrator of an instance",
    subcommands=[
        Command(
            "admin cleanup-push",
            "Have a command run when the instance ends",
            arguments="[COMMAND]",
            words=(0, None),
        ),
        Command(
            "admin system-scripts",
            "Show what is run before, after and between jobs",
            [
                Option("v", "verbose", "Show the scripts that there are for it, too."),
                Option("", "color", "Colors: always, never or auto (default). Without WHEN: always.", "WHEN", True),
            ],
        ),
    ],
    description="cleanup-push: the command is run after the initial program has ended, before all that were given "
    "earlier. Without a command, each line of standard input is one; they are run in that order.",
    examples=(("flux admin cleanup-push rm -rf /tmp/scratch", "Leave nothing behind."),),
    see_also=("shutdown", "config"),
)

#: Where the scripts of an installation are.
_SCRIPTS = "/etc/flux/system"
_BOLD = "\033[1m"


def _cleanup_push(parsed: Parsed, handle: Flux) -> None:
    commands = [" ".join(parsed.words)]
    if not parsed.words:
        # The broker puts each in front of those it has.
        commands = [line for line in map(str.strip, sys.stdin) if line][::-1]
    call(handle, "runat.push", {"name": "cleanup", "commands": commands})


def _system_scripts(parsed: Parsed, handle: Flux) -> None:
    color = use_color(parsed)
    config = call(handle, "config.get", context="config.get")
    for name in ("prolog", "epilog", "housekeeping"):
        show(f"▸ {paint(_BOLD, name, color)}: {_command(config, name)}")
        if parsed.has("verbose"):
            for path in scripts(os.path.join(_SCRIPTS, f"{name}.d")):
                show(f"    {path}")


def _command(config: dict[str, Any], name: str) -> str:
    """The configured command of a kind of script; in default of one, the program that runs the scripts."""
    try:
        table = config["job-manager"][name]
    except KeyError:
        return "not configured"
    if not isinstance(table, dict):
        raise Failure(f"job-manager.{name} is no table in the configuration")
    return " ".join(map(str, table.get("command", [f"flux run-{name}"])))


def scripts(directory: str) -> list[str]:
    """The programs in a directory, by name; none if there is no such directory."""
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return []
    paths = [os.path.join(directory, name) for name in names]
    return [path for path in paths if os.path.isfile(path) and os.access(path, os.X_OK)]


def _body(parsed: Parsed) -> int:
    action = _cleanup_push if parsed.command.name == "admin cleanup-push" else _system_scripts
    with connect(COMMAND) as handle:
        action(parsed, handle)
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
