"""``flux bulksubmit``: submits a job for each combination of inputs (spec 08, 6.3).

    flux bulksubmit [OPTIONS] COMMAND ::: INPUTS... [:::+ INPUTS...] [:::: FILE]

Inputs are lists. There is a job for each combination of an item of each, in which the last list goes through its items
fastest; a linked list (``:::+``) has no part in that, and gives its items to the jobs in turn. What the command, and
options, look like with inputs is `flux.cli.xcmd`'s.
"""

from __future__ import annotations

import codecs
import itertools
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import CodeType
from typing import Any, NamedTuple, TextIO

from flux.cli.bulk import LOGGER, SubmitBulkCmd
from flux.cli.xcmd import InputError, ReplacementError, Xcmd, cc_field

__all__ = ["BulkSubmitCmd"]


class _Inputs(NamedTuple):
    """A list of inputs; `linked`: it gives its items to the jobs in turn."""

    items: list[str]
    linked: bool


def _combined(lists: Sequence[_Inputs]) -> Iterator[list[str]]:
    """The inputs of one job after the other."""
    if any(not inputs.items for inputs in lists):
        return
    # With nothing to be linked to, the first list is one like others.
    free = [inputs for at, inputs in enumerate(lists) if at == 0 or not inputs.linked]
    turns = {at: itertools.cycle(inputs.items) for at, inputs in enumerate(lists) if at > 0 and inputs.linked}
    for combination in itertools.product(*(inputs.items for inputs in free)):
        rest = iter(combination)
        yield [next(turns[at]) if at in turns else next(rest) for at in range(len(lists))]


def _definition(text: str) -> tuple[str, Callable[[str], Any]]:
    """The name and the function of ``--define=NAME=CODE``. Raises ValueError."""
    name, equals, code = text.partition("=")
    if not equals or not name:
        raise ValueError(f"--define: missing required value in '{text}': NAME=CODE")
    try:
        return name, partial(_defined, name, compile(code.strip(), f"--define={name}", "eval"))
    except (SyntaxError, ValueError) as exc:
        raise ValueError(f"--define={text}: {exc}") from None


def _defined(name: str, code: CodeType, text: str) -> Any:
    """The value of an attribute: of an expression, for the input `x`."""
    try:
        return eval(code, {"x": text})
    except Exception as exc:  # noqa: BLE001  # it is the user's code, and may raise what it wants
        raise InputError(f"--define={name}: {text!r}: {type(exc).__name__}: {exc}") from None


class BulkSubmitCmd(SubmitBulkCmd):
    """The command. Arguments as of MiniCmd."""

    def __init__(self, prog: str, usage: str | None = None, description: str | None = None) -> None:
        usage = usage or "flux bulksubmit [OPTIONS...] COMMAND [ARGS...] [::: INPUTS...]"
        super().__init__(prog, usage, description)
        add = self.parser.add_argument
        add("--shuffle", action="store_true", help="Submit the jobs in random order")
        add("--sep", metavar="STRING", default="\\n", help="What is between inputs of a file; none: any white space")
        add("--define", action="append", metavar="NAME=CODE", help="{.NAME} is the value of CODE, a function of x")

    @staticmethod
    def input_file(filep: TextIO, sep: str | None) -> list[str]:
        """The inputs in a file: what is between separators, but for nothing; None: between white space."""
        text = filep.read()
        if sep is None:
            return text.split()
        # The last line of a file ends, too, whatever else is between inputs.
        text = text.removesuffix("\n")
        return [item for item in text.split(sep) if item]

    @staticmethod
    def split_before(iterable: Iterable[str], pred: Callable[[str], bool]) -> Iterator[list[str]]:
        """Pieces, each of which begins with an item that `pred` is true of, but perhaps for the first."""
        piece: list[str] = []
        for item in iterable:
            if pred(item) and piece:
                yield piece
                piece = []
            piece.append(item)
        if piece:
            yield piece

    def split_command_inputs(
        self, command: Sequence[str], sep: str | None = "\n", delim: str = ":::"
    ) -> tuple[list[str], list[_Inputs]]:
        """The words of a command line as the command, and lists of inputs.

        Args:
            command: the words.
            sep: as of `input_file`.
            delim: what a list of inputs begins with.

        Raises ValueError, OSError for files.
        """
        words: list[str] = []
        lists: list[_Inputs] = []
        starts = (delim, f"{delim}+", f"{delim}:", f"{delim}:+")
        for piece in self.split_before(command, lambda word: word in starts):
            if piece[0] not in starts:
                words = piece
                continue
            items = piece[1:]
            if piece[0].startswith(f"{delim}:"):
                items = self._read(items, piece[0].rstrip("+"), sep)
            lists.append(_Inputs(items, piece[0].endswith("+")))
        if not lists:
            lists.append(_Inputs(self._read(["-"], "", sep), False))
        return words or ["{}"], lists

    def _read(self, files: Sequence[str], delim: str, sep: str | None) -> list[str]:
        if len(files) != 1:
            raise ValueError(f"Multiple args not allowed after {delim}" if files else f"No file given after {delim}")
        if files[0] != "-":
            with open(files[0], encoding="utf-8", errors="surrogateescape") as file:
                return self.input_file(file, sep)
        if sys.stdin.isatty():
            print(f"flux-{self.progname}: reading inputs from terminal, end with ctrl-D", file=sys.stderr)
        return self.input_file(sys.stdin, sep)

    def create_commands(self, args: Any) -> list[Xcmd]:
        """A command line for each combination of inputs. Raises ValueError, with what is wrong with them."""
        sep = None if args.sep.lower() == "none" else codecs.decode(args.sep, "unicode_escape")
        if sep == "":
            raise ValueError("--sep: the separator is empty")
        definitions = {f"define_{name}": function for name, function in map(_definition, args.define or ())}
        args.command, lists = self.split_command_inputs(args.command, sep)
        commands = [
            Xcmd(args, inputs, seq=seq, seq1=seq + 1, cc=cc_field(args), **definitions)
            for seq, inputs in enumerate(_combined(lists))
        ]
        if not commands:
            raise ValueError("no jobs provided for bulk submission")
        if args.shuffle:
            random.shuffle(commands)
        return commands

    def _submit_each(self, commands: Sequence[Xcmd], verbose: bool) -> Iterator[None]:
        for command in commands:
            if verbose:
                print(f"bulksubmit: submit {command}", flush=True)
            yield from self._submissions(command, self.cc_list(command))

    def main(self, args: Any) -> int:
        """Runs the command; its exit code."""
        try:
            commands = self.create_commands(args)
        except ReplacementError as exc:
            LOGGER.error(str(exc))
            sys.exit(1)
        for command in commands:
            self._check_input(command)
        total = sum(len(self.cc_list(command)) for command in commands)
        if args.dry_run:
            if args.progress:
                print(f"bulksubmit: submitting a total of {total} jobs")
            for command in commands:
                print(f"bulksubmit: submit {command}")
            return 0
        return self._run(args, self._submit_each(commands, bool(args.verbose)), total)
