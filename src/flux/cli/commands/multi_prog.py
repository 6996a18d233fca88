"""flux multi-prog — run another program in each task of a job (spec 08, 10.7).

Each line of the file says which tasks run a command: ``0-1 ./first %t``, ``* ./rest``. Words are quoted as for a shell,
``#`` begins a comment, ``%t`` is the rank of the task and ``%o`` its place among those of the line.
"""

from __future__ import annotations

import errno
import logging
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.idset import IDset
from flux.util import CLIMain

#: Exit codes of a command that cannot be run, as of a shell.
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126

LOGGER = logging.getLogger("flux-multi-prog")

#: For the manual.
EXAMPLES = (
    ("flux run -n4 flux multi-prog programs.conf", "Runs what the file says for each of four tasks."),
    ("flux multi-prog -n 0-3 programs.conf", "What they would run."),
)
SEE_ALSO = ("run", "submit")


def parser() -> FluxArgumentParser:
    """The options."""
    result = FluxArgumentParser(prog="flux-multi-prog", description="Run another program in each task of a job")
    result.add_argument("-n", "--dry-run", metavar="IDS", help="Print what these tasks would run")
    result.add_argument("CONFIG", help="File with lines of TASKS|* COMMAND [ARGS...]")
    return result


class Line(NamedTuple):
    """The tasks of a line, None for all others, and their command."""

    tasks: IDset | None
    command: list[str]

    def words(self, rank: int) -> list[str]:
        """The command of a task."""
        # Of all others, a task has the place that its rank is.
        place = rank if self.tasks is None else sum(1 for other in self.tasks if other < rank)
        return [word.replace("%t", str(rank)).replace("%o", str(place)) for word in self.command]


class Programs:
    """The lines of a file.

    Args:
        name: of the file, for messages.
        lines: its text.

    Raises ValueError.
    """

    def __init__(self, name: str, lines: Iterable[str]) -> None:
        self._name = name
        self._lines = list(self._parsed(lines))

    def _parsed(self, lines: Iterable[str]) -> Iterator[Line]:
        for number, text in enumerate(lines, 1):
            where = f"{self._name}: line {number}"
            try:
                words = shlex.split(text, comments=True)
            except ValueError as exc:
                raise ValueError(f"{where}: '{text.strip()}': {exc}") from None
            if not words:
                continue
            if len(words) == 1:
                raise ValueError(f"{where}: no command for {words[0]}")
            try:
                yield Line(None if words[0] == "*" else IDset(words[0]), words[1:])
            except ValueError:
                raise ValueError(f"{where}: invalid idset: {words[0]}") from None

    def command(self, rank: int) -> list[str]:
        """What a task runs: the first line that names it, or that of all others. Raises ValueError if there is none."""
        rest = None
        for line in self._lines:
            if line.tasks is None:
                rest = rest or line
            elif rank in line.tasks:
                return line.words(rank)
        if rest is None:
            raise ValueError(f"{self._name}: No matching line for rank {rank}")
        return rest.words(rank)


def _rank() -> int:
    text = os.environ.get("FLUX_TASK_RANK", "")
    if not (text.isascii() and text.isdigit()):
        raise ValueError("FLUX_TASK_RANK not found or invalid")
    return int(text)


def _multi_prog(args: Any) -> None:
    rank = None if args.dry_run is not None else _rank()
    with open(args.CONFIG, encoding="utf-8", errors="surrogateescape") as file:
        programs = Programs(args.CONFIG, file)
    if rank is None:
        for one in IDset(args.dry_run):
            print(f"{one}: {' '.join(programs.command(one))}")
        return
    command = programs.command(rank)
    try:
        os.execvp(command[0], command)
    except OSError as exc:
        LOGGER.error(f"{command[0]}: {exc.strerror}")
        sys.exit(_NOT_FOUND if exc.errno == errno.ENOENT else _NOT_EXECUTABLE)


def _run(argv: list[str]) -> None:
    _multi_prog(parser().parse_args(argv))


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
