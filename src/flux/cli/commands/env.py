"""flux env — prints the environment of Flux commands, or runs a command in it (spec 03, 2.4)."""

from __future__ import annotations

import os

from flux.cli.environment import EXPORTED, python_path
from flux.cli.options import Command, Parsed
from flux.cli.tool import Failure, run, show

COMMAND = Command(
    "env",
    "Print or run inside a Flux environment",
    arguments="[COMMAND...]",
    words=(0, None),
    builtin=True,
    complete=("@program", "@file"),
    description="Runs a command with the variables that flux sets for its sub-commands, and with a PYTHONPATH in which "
    "any Python finds the flux package. Without a command, prints them as lines for a shell.",
    examples=(
        ("flux env python3 -c 'import flux'", "Use the package from another Python."),
        ('eval "$(flux env)"', "Set the variables in this shell."),
    ),
    see_also=("python", "start"),
)


def _body(parsed: Parsed) -> int:
    path = python_path(os.environ)
    if parsed.words:
        name = parsed.words[0]
        try:
            os.execvpe(name, parsed.words, {**os.environ, "PYTHONPATH": path})
        except OSError as exc:
            raise Failure(f"execvp ({name}): {os.strerror(exc.errno or 0)}", program="flux") from None
    for name in EXPORTED:
        if name in os.environ:
            show(f'export {name}="{os.environ[name]}"', flush=False)
    show(f'export PYTHONPATH="{path}"')
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
