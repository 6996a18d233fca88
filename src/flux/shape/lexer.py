"""Pieces of resource shapes (RFC 46): what the parser reads from the text, a piece at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any


class ShapeSyntaxError(Exception):
    """A resource shape is malformed; the text says where."""


@dataclass
class Token:
    """A piece: `type` is word, string or count, or the character itself; `position` is where it begins."""

    type: str
    value: str
    position: int


_BLANK = re.compile(r"\s*")
_WORD = re.compile(r"""[^\s\[\]{};/=,:'"]+""")
_COUNT = re.compile(r"\[([1-9][-+,0-9]*(?::[0-9]+(?::[+*^])?)?)\]|([1-9][-+,0-9]*(?::[0-9]+(?::[+*^])?)?)")
_PUNCTUATION = "[]{};/=,:"


class ShapeLexer:
    """Cuts a shape into tokens. Keyword arguments are those of the reference's lexer generator, and mean nothing here.

    Attributes: `lexdata`, the shape, and `lexpos`, how far it has been read.
    """

    def __init__(self, **kw_args: Any) -> None:
        self.input("")

    def __getattr__(self, attr: str) -> Any:
        raise AttributeError(f"a ShapeLexer has no attribute '{attr}'")

    def input(self, data: str) -> None:
        """Begins with another shape."""
        self.lexdata = data
        self.lexpos = 0

    def token(self) -> Token | None:
        """The next token, or None at the end. Raises ShapeSyntaxError."""
        data = self.lexdata
        at = self.lexpos = _BLANK.match(data, self.lexpos).end()  # type: ignore[union-attr]  # it always matches
        if at == len(data):
            return None
        char = data[at]
        if char in _PUNCTUATION:
            self.lexpos = at + 1
            return Token(char, char, at)
        if char in "'\"":
            return self.end_quote_helper(Token("string", "", at))
        word = _WORD.match(data, at)
        assert word is not None  # the other characters are those above
        self.lexpos = word.end()
        return Token("word", word[0], at)

    def count(self) -> Token | None:
        """The count that follows a ``=``; None if there is none. Raises ShapeSyntaxError."""
        data, at = self.lexdata, self.lexpos
        if at == len(data) or data[at] in "/;]{":
            return None
        found = _COUNT.match(data, at)
        if found is None:
            raise ShapeSyntaxError(f"Illegal character '{data[at]}' at position {at}")
        self.lexpos = found.end()
        return Token("count", found[1] or found[2], at)

    def end_quote_helper(self, t: Token) -> Token:
        """Reads to the end of the quoted string that begins where `t` does. Raises ShapeSyntaxError if it has none."""
        quote = self.lexdata[t.position]
        end = self.lexdata.find(quote, t.position + 1)
        if end < 0:
            raise ShapeSyntaxError(f"Unclosed quote {quote} at position {t.position}")
        self.lexpos = end + 1
        t.value = self.lexdata[t.position + 1 : end]
        return t
