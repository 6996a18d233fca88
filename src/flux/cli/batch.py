"""``flux batch``: submits a script that has an instance to itself (spec 08, 6.5; RFC 36).

The script goes into the jobspec, so that the file may change or go afterwards. Options may be in the script: lines such
as ``#FLUX: -N2`` count as if they stood in front of those of the command line.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flux.cli.nest import BatchAllocCmd

if TYPE_CHECKING:
    from flux.job.Jobspec import JobspecV1

__all__ = ["BatchCmd"]

_SHELL = "#!/bin/sh\n"


class BatchCmd(BatchAllocCmd):
    """The command. Arguments as of MiniCmd."""

    def __init__(self, prog: str, usage: str | None = None, description: str | None = None) -> None:
        super().__init__(prog, usage or "flux batch [OPTIONS...] [SCRIPT] [ARGS...]", description)
        self.parser.add_argument("--wrap", action="store_true", help="Wrap arguments or stdin in a /bin/sh script")
        self.parser.add_argument(
            "SCRIPT",
            nargs=argparse.REMAINDER,
            help="Batch script and arguments; by default it is read from stdin",
        )
        self._words: Sequence[str] = ()

    def parse(self, argv: Sequence[str]) -> Any:
        """The options of a command line; those in the script are not among them yet."""
        self._words = list(argv)
        return _without_dashes(super().parse(argv))

    def parse_directive_args(self, name: str, batchscript: str) -> Any:
        """The options of a script, and over them those of the command line.

        Args:
            name: of the script, for errors.
            batchscript: its text.

        Raises ValueError for directives that are wrong; ends the program with 2 for options that there are not.
        """
        from flux.job.directives import DirectiveParser

        try:
            directives = DirectiveParser(io.StringIO(batchscript)).directives
        except ValueError as exc:
            raise ValueError(f"{name}: {exc}") from exc
        args = argparse.Namespace()
        for directive in directives:
            if directive.action == "SETARGS":
                self._set_args(args, name, directive.lineno, directive.args)
        return _without_dashes(self.get_parser().parse_args(list(self._words), args))

    def _set_args(self, args: argparse.Namespace, name: str, lineno: int, words: list[str]) -> None:
        try:
            self.get_parser().parse_args(words, args)
            if args.SCRIPT:
                # It would be taken for the name of the script.
                self.parser.error(f"unrecognized arguments: {' '.join(args.SCRIPT)}")
        except SystemExit as exc:
            if exc.code:
                self.logger.error(f"argument parsing failed at {name} line {lineno}")
            raise
        except ValueError as exc:
            raise ValueError(f"{name} line {lineno}: {exc}") from exc

    def process_script(self, args: Any) -> Any:
        """Reads the script: the options, those in it as well, and `script`, its text, `script_args` and `script_name`.

        Raises OSError if it cannot be read, ValueError if it is no text, and as `parse_directive_args`.
        """
        words = args.SCRIPT
        try:
            if not words:
                name, text = "batch", self._standard_input()
            elif args.wrap:
                text = f"{' '.join(words)}\n"
                name = text.split(maxsplit=1)[0].rpartition("/")[2] if text.strip() else "batch"
                words = words[:1]  # they are the script, not its arguments
            else:
                name = words[0]
                with open(name, encoding="utf-8") as file:
                    text = file.read()
        except UnicodeError:
            what = words[0] if words else "stdin"
            raise ValueError(f"{what} does not appear to be a script, or failed to encode as utf-8") from None
        args = self.parse_directive_args(name, text)
        args.script = _SHELL + text if args.wrap else text
        args.script_args = words[1:]
        args.script_name = name
        return args

    @staticmethod
    def _standard_input() -> str:
        if sys.stdin.isatty():
            print("reading the script from the terminal, end with ctrl-D", file=sys.stderr)
        return sys.stdin.buffer.read().decode("utf-8")

    def init_jobspec(self, args: Any) -> JobspecV1:
        """The resources and the script. Raises ValueError for a script that does not say what is to run it."""
        from flux.job.Jobspec import JobspecV1

        self.init_common(args)
        if args.output is None:
            args.output = "flux-{{id}}.out"
        jobspec: JobspecV1 = JobspecV1.from_batch_command(
            args.script, args.script_name, args.script_args, **self.layout(args)
        )
        self.update_jobspec_common(args, jobspec)
        return jobspec

    def main(self, args: Any) -> int:
        """Runs the command; its exit code."""
        jobid = self.submit(self.process_script(args))
        if not args.quiet:
            print(jobid, flush=True)
        return self.exitcode


def _without_dashes(args: Any) -> Any:
    if args.SCRIPT[:1] == ["--"]:
        args.SCRIPT = args.SCRIPT[1:]
    return args
