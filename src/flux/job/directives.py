"""Options in batch scripts: lines such as ``#FLUX: -N4`` (RFC 36; spec 06, 15.11).

All directives of a file have the same sentinel, ``FLUX:`` or ``flux:`` with what is in front of it. They end at the
first line that is neither blank nor begins with that prefix; one that comes later is an error, for it would be
ignored.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable
from typing import Any

_sentinel = re.compile(r"^([^\w]*)((?:flux|FLUX):)(.*)$").match
_triple = re.compile(r"\"\"\"(.*?)\"\"\"|'''(.*?)'''", re.DOTALL)

_CHANGED = """sentinel changed from '{old}' to '{new}'

All directives in a file must use the same sentinel.

If you're trying to disable this directive, place a comment
character AFTER the sentinel, not in the prefix:

  {old} # {args}

The '#' character comments out the rest of the line, making
this directive a no-op while maintaining the same sentinel."""


def _split(text: str) -> list[str]:
    """Words as a POSIX shell sees them, without comments."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    return list(lexer)


class Directive:
    """One directive.

    Args:
        value: the text behind the sentinel.
        lineno: of the file, from 1.

    `action` is SETARGS, with the words in `args`, or NOOP. Raises ValueError for anything else.
    """

    def __init__(self, value: str, lineno: int = -1) -> None:
        self.lineno = lineno
        self.action = "SETARGS"
        try:
            self.args = _split(value)
        except ValueError as exc:
            raise ValueError(f"line {lineno}: {value}: {exc}") from None
        if not self.args:
            self.action = "NOOP"
        elif not self.args[0].startswith("-"):
            raise ValueError(f"line {lineno}: Unknown directive: {value}")

    def __str__(self) -> str:
        return f"{self.action}({self.args})"


class MultiLine:
    """A quote that goes over several lines, while it does; `active` tells."""

    def __init__(self) -> None:
        self.active = False
        self.lineno = -1
        self.first = ""
        self._quote = ""
        self._lines: list[str] = []

    def finish(self) -> str:
        """Ends; returns the whole text, its quotes as they are."""
        self.active = False
        return "\n".join(self._lines)

    def append(self, value: str) -> None:
        """Takes a line."""
        self._lines.append(value)

    def process(self, value: str, lineno: int) -> str | None:
        """Takes the text of a directive.

        Returns the text of a whole one; None if there is more to come.
        """
        if self.active:
            self.append(value.removeprefix(" "))
            return self.finish() if value.rstrip().endswith(self._quote) else None
        for quote in ('"""', "'''"):
            if value.rstrip().endswith("=" + quote) and value.count(quote) == 1:
                self.active = True
                self.lineno = lineno
                self.first = value.strip()
                self._quote = quote
                self._lines = []
                # What follows the opening quote begins on the next line.
                self._lines.append(value.rstrip()[: -len(quote)] + quote)
                return None
        return value


class DirectiveParser:
    """The directives of a script.

    Args:
        inputfile: a text file, or anything whose lines can be iterated over.

    `script` is all of the text, `directives` the list of Directive. Raises ValueError with the number of the line.
    """

    def __init__(self, inputfile: Iterable[str]) -> None:
        self.script = ""
        self.directives: list[Directive] = []
        self._sentinel: tuple[str, str] | None = None
        self._ended = False
        self._last = -1
        self._multi = MultiLine()
        lineno = 0
        for lineno, line in enumerate(inputfile, 1):
            self.script += line
            self._line(line.rstrip("\n"), lineno)
        if self._multi.active:
            self._unterminated(lineno)

    def _unterminated(self, lineno: int) -> Any:
        multi = self._multi
        raise ValueError(f"line {lineno}: unterminated multi-line quote at line {multi.lineno}: `{multi.first}'")

    def _line(self, line: str, lineno: int) -> None:
        match = _sentinel(line)
        if match is None:
            if self._multi.active:
                self._unterminated(lineno)
            if self._sentinel is not None and line.strip() and not line.startswith(self._sentinel[0].rstrip()):
                self._ended = True
            return
        prefix, tag, value = match.groups()
        if self._sentinel is None:
            self._sentinel = (prefix, tag)
        elif self._ended:
            raise ValueError(f"line {lineno}: orphan '{tag}' detected: directives disabled after line {self._last}")
        elif self._sentinel != (prefix, tag):
            old, new = "".join(self._sentinel), prefix + tag
            raise ValueError(f"line {lineno}: {_CHANGED.format(old=old, new=new, args=value.strip())}")
        self._last = lineno
        begun = self._multi.lineno if self._multi.active else lineno
        whole = self._multi.process(value, lineno)
        if whole is not None and whole.strip():
            self.append(whole, begun)

    def triplequote(self, value: str) -> str:
        """Text with triple quotes as text with quotes that a shell understands. Raises ValueError for an odd one."""

        def quoted(match: re.Match[str]) -> str:
            text = match[1] if match[1] is not None else match[2]
            return shlex.quote(text.removeprefix("\n"))

        result = _triple.sub(quoted, value)
        rest = _triple.sub("", value)
        if '"""' in rest or "'''" in rest:
            raise ValueError(f"unclosed triple quote: {value.strip()}")
        return result

    def append(self, value: str, lineno: int) -> None:
        """Takes the text of a directive."""
        try:
            plain = self.triplequote(value)
        except ValueError as exc:
            raise ValueError(f"line {lineno}: {exc}") from None
        self.directives.append(Directive(plain, lineno))


def _show(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        for directive in DirectiveParser(file).directives:
            print(directive)


if __name__ == "__main__":
    # ``flux python -m flux.job.directives FILE``: what a script's directives are read as.
    _show(sys.argv[1])
