"""flux python — the Python interpreter that has this flux package (spec 03, 2.4)."""

from __future__ import annotations

import os
import sys

from flux.cli.environment import python_path
from flux.cli.options import Command
from flux.conf_builtin import conf_builtin_get

COMMAND = Command(
    "python",
    "Run the Python interpreter that Flux uses",
    arguments="[ARGUMENTS OF PYTHON...]",
    words=(0, None),
    builtin=True,
    complete=("@file",),
    description="Runs the Python interpreter that flux itself runs in, with the flux package in its PYTHONPATH. All "
    "arguments are the interpreter's, but for a first one: --get-path prints the directory of the package, "
    "--list-versions the interpreters that there are.",
    examples=(("flux python script.py", "Run a program."), ("flux python --get-path", "For a PYTHONPATH.")),
    see_also=("env",),
)


def main(argv: list[str]) -> int:
    """Runs the command: all words are the interpreter's, but for a first one that is a question to us."""
    if argv[:1] == ["--get-path"]:
        print(conf_builtin_get("python_path"))
        return 0
    if argv[:1] == ["--list-versions"]:
        print(f"python{sys.version_info.major}.{sys.version_info.minor}")
        return 0
    environment = {**os.environ, "PYTHONPATH": python_path(os.environ)}
    try:
        os.execve(sys.executable, [sys.executable, *argv], environment)
    except OSError as exc:
        print(f"flux-python: {sys.executable}: {os.strerror(exc.errno or 0)}", file=sys.stderr)
        return 1
