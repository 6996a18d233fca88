"""flux filemap — what flux archive was called before: the same by other words (deprecated)."""

from __future__ import annotations

from flux.cli.commands import archive
from flux.cli.options import Command, Parsed
from flux.cli.tool import run

#: As flux archive says it.
_WORDS = {"map": "create", "unmap": "remove", "get": "extract", "list": "list"}


def _renamed(word: str, now: str) -> Command:
    of = next(sub for sub in archive.COMMAND.subcommands if sub.name == f"archive {now}")
    options = [option for option in of.options if option.name != "help" and not option.hidden]
    return Command(f"filemap {word}", f"As flux archive {now}", options, of.arguments, (of.least, of.most))


COMMAND = Command(
    "filemap",
    "Put files into the KVS (deprecated: flux archive)",
    subcommands=[_renamed(*names) for names in _WORDS.items()],
    builtin=True,
    see_also=("archive",),
)


def _body(parsed: Parsed) -> int:
    return archive.act(COMMAND, _WORDS[parsed.command.name.rpartition(" ")[2]], parsed)


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
