"""flux lptest — lines that are easy to check (spec 03, 14.5): what was used to try out line printers."""

from __future__ import annotations

from flux.cli.options import Command, Parsed
from flux.cli.tool import Failure, run, show

COMMAND = Command(
    "lptest",
    "Print a ripple of characters, to try out what reads it",
    arguments="[length] [count]",
    words=(0, 2),
    builtin=True,
    description="Prints count lines (default 1000) of length characters (default 79). Each begins one character later.",
    examples=(("flux run flux lptest 79 100000 | md5sum", "Whether the output of a job arrives whole."),),
)

_DEFAULTS = (79, 1000)
#: The characters that print, without blank.
_RIPPLE = "".join(map(chr, range(33, 127)))


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise Failure(f"error parsing {name}", program="flux-lptest")
    return int(text)


def _body(parsed: Parsed) -> int:
    words = [_number(word, name) for word, name in zip(parsed.words, ("length", "count"), strict=False)]
    length, count = (*words, *_DEFAULTS[len(words) :])
    text = _RIPPLE * (length // len(_RIPPLE) + 2)
    for number in range(count):
        start = number % len(_RIPPLE)
        show(text[start : start + length], flush=False)
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
