"""The options of the commands that are C programs in the reference: a table a command, and what follows from it.

A command's table is data: parsing, usage text, manual and shell completion are all made from it
(`fluxlet.cmd.manual`). Rules (spec 03, 2.2):

- Options end at the first word that is none, unless the command permutes (`flux logger`).
- Long names may be shortened as far as they stay unique; `--` ends the options.
- Whatever is wrong, and help too, goes to stderr.
- These commands are expected to take a few milliseconds: nothing is imported here that is not needed by each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

#: Where help begins in usage text, unless an option is wider.
_HELP_COLUMN = 25


class Option:
    """One option.

    Args:
        letter: its short form, "" for none.
        name: its long form.
        help: a short sentence.
        argument: what its argument is called; "" for a switch.
        optional: the argument may be left out, so it is only taken where attached: ``--x=V``, ``-xV``.
        hidden: accepted, and not shown.
        complete: what a shell offers for the argument, if that does not follow from what it is called: words
            with a | between them, or a kind of `fluxlet.cmd.manual.KINDS`.
    """

    __slots__ = ("argument", "complete", "help", "hidden", "letter", "name", "optional")

    def __init__(
        self,
        letter: str,
        name: str,
        help: str,
        argument: str = "",
        optional: bool = False,
        hidden: bool = False,
        complete: str = "",
    ) -> None:
        self.letter = letter
        self.name = name
        self.help = help
        self.argument = argument
        self.optional = optional
        self.hidden = hidden
        self.complete = complete

    def synopsis(self) -> str:
        """As in usage text: ``-r, --rank=RANK``."""
        argument = self.argument and f"={self.argument}"
        if self.optional:
            argument = f"[{argument}]"
        return (f"-{self.letter}, " if self.letter else "    ") + f"--{self.name}{argument}"


_HELP = Option("h", "help", "Display this message.")


class UsageError(Exception):
    """The command line asks for help, or for what there is not.

    Attributes:
        text: for stderr.
        status: exit code.
    """

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


class Parsed:
    """A command line, taken apart.

    Attributes:
        command: the command, or the sub-command that was chosen.
        words: what is not options.
        outer: of a sub-command, what stood before its name.
    """

    outer: Parsed | None = None

    def __init__(self, command: Command) -> None:
        self.command = command
        self.words: list[str] = []
        self._given: dict[str, list[str | None]] = {}

    def add(self, option: Option, value: str | None) -> None:
        """Takes note of an option that was given."""
        self._given.setdefault(option.name, []).append(value)

    def has(self, name: str) -> bool:
        """True if the option was given."""
        return name in self._given

    def value(self, name: str) -> str | None:
        """The argument of the option, the last one given; None without."""
        return self._given[name][-1] if name in self._given else None

    def values(self, name: str) -> list[str]:
        """The arguments of a repeatable option, in order; "" where it was given without."""
        return [value or "" for value in self._given.get(name, [])]


class Command:
    """A command's table.

    Args:
        name: without ``flux``; of a sub-command with that of its command before it ("event pub").
        summary: one line for lists of commands.
        options: besides ``--help``, which all have.
        arguments: its other arguments, as in usage text.
        words: how many of those there must be at least and may be at most (None: any number).
        subcommands: one of which must be named.
        builtin: one that the reference's `flux` runs itself, which shows in how errors begin.
        permute: options may stand anywhere.
        help_status: exit code of ``--help``.
        complete: what a shell offers for the other arguments, one after the other, as of options. The last one
            stands for any more where `words` has no limit.
        description: for the manual: paragraphs, with an empty line between them.
        examples: for the manual: command lines, and what each does.
        see_also: for the manual: the names of other commands.
    """

    def __init__(
        self,
        name: str,
        summary: str,
        options: Sequence[Option] = (),
        arguments: str = "",
        words: tuple[int, int | None] = (0, 0),
        subcommands: Sequence[Command] = (),
        builtin: bool = False,
        permute: bool = False,
        help_status: int = 0,
        complete: Sequence[str] = (),
        description: str = "",
        examples: Sequence[tuple[str, str]] = (),
        see_also: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.summary = summary
        self.options: tuple[Option, ...] = (_HELP, *options)
        self.arguments = arguments
        self.least, self.most = words
        self.subcommands = tuple(subcommands)
        self.builtin = builtin
        self.permute = permute
        self.help_status = help_status
        self.complete = complete
        self.description = description
        self.examples = examples
        self.see_also = see_also

    @property
    def program(self) -> str:
        """What the command is called where its options are concerned."""
        return ("flux " if self.builtin else "flux-") + self.name

    # Text.

    def usage(self) -> str:
        """The usage text, lines to fit $COLUMNS or 80."""
        from textwrap import wrap

        shown = [option for option in self.options if not option.hidden]
        arguments = "COMMAND [ARGS...]" if self.subcommands else self.arguments
        lines = [f"Usage: {self.program} [OPTIONS] {arguments}".rstrip()]
        columns = os.environ.get("COLUMNS", "")
        width = max(_HELP_COLUMN + 20, int(columns) if columns.isascii() and columns.isdigit() else 80)
        for option in shown:
            left = f"  {option.synopsis()}"
            first, *rest = wrap(option.help, width - _HELP_COLUMN) or [""]
            if len(left) + 1 >= _HELP_COLUMN:
                lines.append(left)
                rest = [first, *rest]
            else:
                lines.append(left.ljust(_HELP_COLUMN) + first)
            lines += [" " * _HELP_COLUMN + line for line in rest]
        if self.subcommands:
            lines.append("Commands:")
            for sub in self.subcommands:
                lines.append(f"  {sub.name.rpartition(' ')[2]:<{_HELP_COLUMN - 3}} {sub.summary}")
        return "\n".join(lines)

    def option_error(self, text: str) -> UsageError:
        """The error for a wrong option."""
        return UsageError(f"{self.program}: {text}\nTry `{self.program} --help' for more information.")

    # Parsing.

    def parse(self, argv: Sequence[str]) -> Parsed:
        """Takes a command line apart. Raises UsageError, for ``--help`` as well."""
        parsed = Parsed(self)
        rest = iter(argv)
        for word in rest:
            if word == "--":
                parsed.words += rest
            elif word.startswith("--"):
                self._long(word, rest, parsed)
            elif word.startswith("-") and word != "-":
                self._short(word, rest, parsed)
            elif self.permute:
                parsed.words.append(word)
            else:
                parsed.words += [word, *rest]
        if parsed.has("help"):
            raise UsageError(self.usage(), self.help_status)
        if self.subcommands:
            chosen = outermost = self._choose(parsed.words)
            while outermost.outer is not None:
                outermost = outermost.outer
            outermost.outer = parsed
            return chosen
        count = len(parsed.words)
        if count < self.least or (self.most is not None and count > self.most):
            raise UsageError(self.usage())
        return parsed

    def _choose(self, words: list[str]) -> Parsed:
        if not words:
            raise UsageError(f"{self.program}: missing subcommand\n{self.usage()}")
        for sub in self.subcommands:
            if sub.name.rpartition(" ")[2] == words[0]:
                return sub.parse(words[1:])
        raise UsageError(f"{self.program}: Unknown subcommand: {words[0]}\n{self.usage()}")

    def _long(self, word: str, rest: Iterator[str], parsed: Parsed) -> None:
        name, equals, attached = word[2:].partition("=")
        found = [option for option in self.options if option.name.startswith(name)]
        exact = [option for option in found if option.name == name]
        if not found:
            raise self.option_error(f"unrecognized option '--{name}'")
        if len(found) > 1 and not exact:
            names = ", ".join("--" + option.name for option in found)
            raise self.option_error(f"ambiguous option '--{name}': it may be any of {names}")
        option = (exact or found)[0]
        if equals and not option.argument:
            raise self.option_error(f"option '--{option.name}' takes no argument")
        self._take(option, f"--{option.name}", attached if equals else None, rest, parsed)

    def _short(self, word: str, rest: Iterator[str], parsed: Parsed) -> None:
        for at, letter in enumerate(word[1:], 2):
            option = next((option for option in self.options if option.letter == letter), None)
            if option is None:
                raise self.option_error(f"unrecognized option '-{letter}'")
            self._take(option, f"-{letter}", word[at:] or None, rest, parsed)
            if option.argument:
                return

    def _take(self, option: Option, shown: str, attached: str | None, rest: Iterator[str], parsed: Parsed) -> None:
        if not option.argument:
            parsed.add(option, None)
            return
        if attached is None and not option.optional:
            attached = next(rest, None)
            if attached is None:
                raise UsageError(f"{self.program}: '{shown}' missing argument")
        parsed.add(option, attached)
