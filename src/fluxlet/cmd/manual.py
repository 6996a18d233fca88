"""What there is to say about a command, from its table or parser: for its manual, its page, and shell completion.

Rules:
- The tables (`flux.cli.options.Command`) and parsers (`flux.cli.argparse`) are the one source. A command that is in
  the list of built-in ones needs nothing else to be in `flux help`, in the documents and in what shells complete.
- Pure, but for the import of the command's module: no terminal, no processes.

A module of a command has `COMMAND`, a table; or a function `parser`, which may be called without arguments, and if it
likes `EXAMPLES`, `SEE_ALSO` and `COMPLETE` (kinds by the names of arguments) beside it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping
from importlib import import_module
from textwrap import wrap
from types import ModuleType
from typing import Any, NamedTuple

from flux.cli.options import Command, Option
from fluxlet.cmd.builtins import BUILTINS, FLAGS

#: What a shell can offer, besides words: these with @ before them, | between several.
KINDS = ("attribute", "module", "file", "directory", "command", "program")
#: By what an argument is called.
_USUAL = {
    "PATH": "@file",
    "FILE": "@file",
    "DIR": "@directory",
    "WHEN": "always|never|auto",
    "COMMAND": "@program",
}


class Entry(NamedTuple):
    """An option, or an argument that has an explanation.

    Attributes:
        flags: its forms, the short one first; of an argument its name.
        argument: what the option's argument is called, "" for none.
        optional: that may be left out.
        help: a short sentence.
        complete: what a shell offers for the argument: words and kinds with | between them.
    """

    flags: tuple[str, ...]
    argument: str
    optional: bool
    help: str
    complete: str

    def synopsis(self) -> str:
        """As people write it: ``-r, --rank=RANK``."""
        if not self.argument:
            return ", ".join(self.flags)
        form = f"={self.argument}" if self.flags[-1].startswith("--") else f" {self.argument}"
        return ", ".join(self.flags) + (f"[{form}]" if self.optional else form)


class Page(NamedTuple):
    """What there is to say about a command.

    Attributes:
        name: with those of the commands before it: "flux event pub".
        summary: one line.
        usage: the command line.
        description: paragraphs.
        options: those that are shown.
        arguments: those that are explained one by one.
        subcommands: their pages.
        complete: what a shell offers for each argument; the last one again for further ones if `endless`.
        endless: there may be any number of arguments.
        permute: options may stand behind arguments.
        more: a text that follows the options, as it is.
        examples: command lines, and what each does.
        see_also: the names of other commands.
    """

    name: str
    summary: str
    usage: str
    description: tuple[str, ...] = ()
    options: tuple[Entry, ...] = ()
    arguments: tuple[Entry, ...] = ()
    subcommands: tuple[Page, ...] = ()
    complete: tuple[str, ...] = ()
    endless: bool = False
    permute: bool = False
    more: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    see_also: tuple[str, ...] = ()

    def walk(self) -> Iterator[Page]:
        """This page and those of all sub-commands below it."""
        yield self
        for sub in self.subcommands:
            yield from sub.walk()


def usual(argument: str) -> str:
    """What a shell offers for an argument by what it is called: ``any|leader`` are its words."""
    if argument in _USUAL:
        return _USUAL[argument]
    if "|" not in argument:
        return ""
    parts = [_USUAL.get(part, part) for part in argument.split("|")]
    return "|".join(part for part in parts if re.fullmatch(r"@?[a-z][a-z0-9-]*", part))


# From tables.


def _entry(option: Option) -> Entry:
    flags = (*([f"-{option.letter}"] if option.letter else []), f"--{option.name}")
    return Entry(flags, option.argument, option.optional, option.help, option.complete or usual(option.argument))


def from_table(command: Command) -> Page:
    """The page of a table."""
    arguments = "COMMAND [ARGS...]" if command.subcommands else command.arguments
    return Page(
        name=f"flux {command.name}",
        summary=command.summary,
        usage=f"flux {command.name} [OPTIONS] {arguments}".rstrip(),
        description=tuple(command.description.split("\n\n")) if command.description else (),
        options=tuple(_entry(option) for option in command.options if not option.hidden),
        subcommands=tuple(from_table(sub) for sub in command.subcommands),
        complete=tuple(command.complete),
        endless=command.most is None,
        permute=command.permute,
        examples=tuple(command.examples),
        see_also=tuple(command.see_also),
    )


# From parsers of argparse.


def _text(action: argparse.Action) -> str:
    if not action.help:
        return ""
    text = action.help % {**vars(action), "prog": ""} if "%" in action.help else action.help
    return _capital(text) + ("" if text.endswith((".", "!", "?")) else ".")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _action(action: argparse.Action, complete: Mapping[str, str]) -> Entry:
    hidden = getattr(action, "hidden_option_strings", ())
    flags = [flag for flag in action.option_strings if flag not in hidden]
    flags.sort(key=lambda flag: flag.startswith("--"))
    argument = ""
    if action.nargs != 0:
        name = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
        argument = name if isinstance(name, str) else " ".join(name)
    words = "|".join(map(str, action.choices)) if action.choices else usual(argument)
    offered = complete.get(argument, complete.get(action.dest, words))
    if not flags:
        return Entry((argument or action.dest,), "", False, _text(action), offered)
    return Entry(tuple(flags), argument, action.nargs == argparse.OPTIONAL, _text(action), offered)


def from_parser(parser: argparse.ArgumentParser, name: str, summary: str, extra: Mapping[str, Any]) -> Page:
    """The page of a parser.

    Args:
        name, summary: of the command.
        extra: EXAMPLES, SEE_ALSO and COMPLETE, of which any may be missing.
    """
    complete: Mapping[str, str] = extra.get("COMPLETE", {})
    options, arguments, subcommands = [], [], []
    endless = False
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts = {choice.dest: choice.help for choice in action._choices_actions}
            subcommands += [
                from_parser(sub, f"{name} {word}", _capital(texts.get(word) or ""), {"COMPLETE": complete})
                for word, sub in action.choices.items()
                if word in texts
            ]
        elif action.help == argparse.SUPPRESS:
            continue
        elif action.option_strings:
            options.append(_action(action, complete))
        else:
            arguments.append(_action(action, complete))
            endless = endless or action.nargs in (argparse.ZERO_OR_MORE, argparse.ONE_OR_MORE, argparse.REMAINDER)
    words = [_positional(action) for action in parser._get_positional_actions()]
    sentence = (parser.description or "").strip()
    return Page(
        name=f"flux {name}",
        summary=summary,
        usage=f"flux {name} [OPTIONS] {' '.join(words)}".rstrip(),
        description=(sentence if sentence.endswith(".") else f"{sentence}.",) if sentence else (),
        options=tuple(options),
        arguments=tuple(arguments),
        subcommands=tuple(subcommands),
        complete=tuple(argument.complete for argument in arguments),
        endless=endless,
        permute=not getattr(parser, "posix", False),
        more=(parser.epilog or "").strip("\n"),
        examples=tuple(extra.get("EXAMPLES", ())),
        see_also=tuple(extra.get("SEE_ALSO", ())),
    )


def _positional(action: argparse.Action) -> str:
    if isinstance(action, argparse._SubParsersAction):
        return "COMMAND [ARGS...]"
    name = action.metavar or action.dest
    text = name if isinstance(name, str) else " ".join(name)
    forms = {argparse.OPTIONAL: f"[{text}]", argparse.ZERO_OR_MORE: f"[{text}...]", argparse.ONE_OR_MORE: f"{text}..."}
    return forms.get(str(action.nargs), f"[{text}...]" if action.nargs == argparse.REMAINDER else text)


# All commands.


def page(name: str) -> Page | None:
    """The page of a built-in command; None for one that is not, or that only Flux itself runs."""
    if name not in BUILTINS:
        return None
    module: ModuleType = import_module(BUILTINS[name][0].partition(":")[0])
    command = getattr(module, "COMMAND", None)
    if isinstance(command, Command):
        return from_table(command)
    make = getattr(module, "parser", None)
    return None if make is None else from_parser(make(), name, BUILTINS[name][2], vars(module))


def driver_page() -> Page:
    """The page of `flux`, with those of all commands that its help lists."""
    pages = [page(name) for name, (_, group, _) in sorted(BUILTINS.items()) if group]
    return Page(
        name="flux",
        summary="the Flux resource manager framework",
        usage="flux [OPTIONS] COMMAND [ARGS...]",
        options=tuple(Entry((f"-{letter}", f"--{name}"), "", False, text, "") for letter, name, text in FLAGS),
        subcommands=tuple(found for found in pages if found is not None),
        complete=("@command",),
    )


# As text.

_INDENT = 7
_DEEPER = 14


def _filled(text: str, indent: int, width: int) -> list[str]:
    blank = " " * indent
    return wrap(text, max(width, indent + 20), initial_indent=blank, subsequent_indent=blank, break_on_hyphens=False)


def manual(shown: Page, width: int = 80, bold: bool = False) -> str:
    """The manual of a command as text: NAME, SYNOPSIS, DESCRIPTION, OPTIONS, EXAMPLES, SEE ALSO.

    Args:
        width: columns of the terminal.
        bold: headings in bold letters, with escape sequences.
    """

    def strong(text: str) -> str:
        return f"\033[1m{text}\033[0m" if bold else text

    def section(title: str, lines: list[str]) -> None:
        if lines:
            out.extend(["", strong(title), *lines])

    def entries(options: tuple[Entry, ...], indent: int) -> list[str]:
        lines: list[str] = []
        for option in options:
            lines += [" " * indent + strong(option.synopsis())]
            lines += [*_filled(option.help, indent + 7, width), ""]
        return lines[:-1]

    out: list[str] = []
    blank = " " * _INDENT
    dashed = shown.name.replace(" ", "-")
    section("NAME", [f"{blank}{dashed} - {shown.summary}"])
    section("SYNOPSIS", [blank + sub.usage for sub in shown.walk() if not sub.subcommands])
    description = [line for text in shown.description for line in [*_filled(text, _INDENT, width), ""]][:-1]
    section("DESCRIPTION", description)
    section("ARGUMENTS", entries(shown.arguments, _INDENT))
    section("OPTIONS", entries(shown.options, _INDENT))
    commands: list[str] = []
    for sub in list(shown.walk())[1:]:
        commands += [blank + strong(sub.usage), *_filled(f"{sub.summary}.", _DEEPER, width), ""]
        own = tuple(option for option in sub.options if "--help" not in option.flags)
        commands += [*entries(own, _DEEPER), *([""] if own else [])]
    section("COMMANDS", commands[:-1])
    section("MORE", [f"{blank}{line}".rstrip() for line in shown.more.splitlines()])
    examples: list[str] = []
    for line, text in shown.examples:
        examples += [*_filled(text, _INDENT, width), "", f"{blank}    $ {line}", ""]
    section("EXAMPLES", examples[:-1])
    section("SEE ALSO", _filled(", ".join(f"flux-{name}" for name in shown.see_also), _INDENT, width))
    return "\n".join(out[1:])
