"""flux help — what a command does and takes (spec 03, 2.4).

The reference shows manual pages. Where one is installed, so do we; else the command says it itself.
"""

from __future__ import annotations

import os
import sys

from flux.cli.options import Command, Parsed
from flux.cli.tool import Failure, run, show

COMMAND = Command(
    "help",
    "Display help information for Flux commands",
    arguments="[COMMAND...]",
    words=(0, None),
    builtin=True,
)


def table(name: str) -> Command | None:
    """The table of a command; None if it has none."""
    from importlib import import_module

    module = f"flux.cli.commands.{name.replace('-', '_')}"
    if not name.replace("-", "").isalnum():
        return None
    try:
        command = getattr(import_module(module), "COMMAND", None)
    except ModuleNotFoundError as exc:
        if exc.name != module:
            raise
        return None
    return command if isinstance(command, Command) else None


def help_text(command: Command) -> str:
    """The whole help of a command, sub-commands included."""
    parts = [f"flux {command.name}: {command.summary}", command.usage()]
    parts += [f"flux {sub.name}: {sub.summary}\n{sub.usage()}" for sub in command.subcommands]
    return "\n\n".join(parts)


def _body(parsed: Parsed) -> int:
    # The driver that runs us has seen to it that this is the `flux` of its PATH (spec 03, 2.3).
    flux = "flux"
    if not parsed.words:
        _exec(flux, [flux, "--help"])
    page = parsed.words[0] if parsed.words[0].startswith("flux") else f"flux-{parsed.words[0]}"
    if _has_manual(page):
        _exec("man", ["man", page])
    name = page.removeprefix("flux-")
    command = table(name)
    if command is None:
        _exec(flux, [flux, *([] if page == flux else [name]), "--help"])
    else:
        show(help_text(command))
    return 0


def _has_manual(page: str) -> bool:
    from shutil import which
    from subprocess import DEVNULL, run

    return which("man") is not None and run(["man", "-w", page], stdout=DEVNULL, stderr=DEVNULL).returncode == 0


def _exec(file: str, argv: list[str]) -> None:
    sys.stdout.flush()
    try:
        os.execvp(file, argv)
    except OSError as exc:
        raise Failure(f"{file}: {os.strerror(exc.errno or 0)}") from None


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
