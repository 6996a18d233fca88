"""Tokens of constraint queries (RFC 35; spec 07, 8.5).

Rules:

- Blanks separate tokens and mean nothing else. ``( ) & |`` and quotes end a word.
- ``and``, ``or`` and ``not`` are keywords where they are a whole word, in lower case.
- A ``-`` at the start of a word negates the term that follows; elsewhere it is a character as any other.
- ``operator:`` at the start of a word is a token of its own, and what follows it, a word or a quoted string, is
  another. An operator is not separated from its value.
- Words and quoted strings are values; only what is quoted can have blanks, ``& | ( )`` and quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple


class ConstraintSyntaxError(Exception):
    """A constraint query is malformed; the text says where."""


class Token(NamedTuple):
    """A piece of a query: `type` is and, or, not, negate, (, ), operator or value; `position` is where it begins."""

    type: str
    value: str
    position: int


_BLANK = re.compile(r"\s*")
_AND_OR = re.compile(r"&&?|\|\|?")
_WORD = re.compile(r"""[^\s()&|'"]+""")
_KEYWORDS = ("and", "or", "not")


def invalid_operator(op: str) -> str | None:
    """The first character of `op` that the name of an operator cannot have, or None if there is none."""
    return next((char for char in op if not (char.isalnum() or char in "-_.")), None)


class _Scan:
    """One query being cut into tokens."""

    def __init__(self, data: str) -> None:
        self.lexdata = data
        self.lexpos = 0

    def tokens(self) -> Iterator[Token]:
        data = self.lexdata
        while True:
            self._skip(_BLANK)
            at = self.lexpos
            if at == len(data):
                return
            if data[at] in "()":
                self.lexpos += 1
                yield Token(data[at], data[at], at)
            elif self._skip(_AND_OR):
                yield Token("and" if data[at] == "&" else "or", data[at : self.lexpos], at)
            elif data[at] == "-":
                self.lexpos += 1
                yield Token("negate", "-", at)
            else:
                yield from self._term()

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        found = pattern.match(self.lexdata, self.lexpos)
        if found is None:
            return False
        self.lexpos = found.end()
        return True

    def _term(self) -> Iterator[Token]:
        at = self.lexpos
        word = _WORD.match(self.lexdata, at)
        if word is None:
            yield self._quoted()
            return
        operator, colon, _ = word[0].partition(":")
        if not colon:
            self.lexpos = word.end()
            yield Token(word[0] if word[0] in _KEYWORDS else "value", word[0], at)
            return
        if not operator:
            raise ConstraintSyntaxError(f'Missing required operator in "{word[0]}"')
        if operator in _KEYWORDS:
            raise ConstraintSyntaxError(f"'{operator}' cannot be an operator in '{word[0]}': it joins or negates terms")
        char = invalid_operator(operator)
        if char is not None:
            raise ConstraintSyntaxError(f"invalid character '{char}' in operator '{operator}:'")
        self.lexpos = at + len(operator) + 1
        yield Token("operator", operator, at)
        yield self._value(f"{operator}:")

    def _value(self, operator: str) -> Token:
        at = self.lexpos
        if self.lexdata[at : at + 1] in ("'", '"'):
            return self._quoted()
        if not self._skip(_WORD):
            raise ConstraintSyntaxError(f"Missing argument to token '{operator}'")
        return Token("value", self.lexdata[at : self.lexpos], at)

    def _quoted(self) -> Token:
        at = self.lexpos
        quote = self.lexdata[at]
        end = self.lexdata.find(quote, at + 1)
        if end < 0:
            raise ConstraintSyntaxError(f'Unclosed quote "{quote}" at position {at + 1}')
        self.lexpos = end + 1
        return Token("value", self.lexdata[at + 1 : end], at)


class ConstraintLexer:
    """Cuts a query into tokens: give it to `input`, then iterate, or call `token` until it returns None.

    Keyword arguments are those of the reference's lexer generator; there is nothing to generate here. Other attributes
    are those of the query at hand: `lexdata`, the query, and `lexpos`, how far it has been read.
    """

    def __init__(self, **kw_args: Any) -> None:
        self.input("")

    def input(self, data: str) -> None:
        """Begins with another query."""
        self._scan = _Scan(data)
        self._tokens = self._scan.tokens()

    def __getattr__(self, attr: str) -> Any:
        if attr == "_scan":  # not initialized: looking it up would come back here
            raise AttributeError(attr)
        return getattr(self._scan, attr)

    def token(self) -> Token | None:
        """The next token, or None at the end. Raises ConstraintSyntaxError."""
        return next(self._tokens, None)

    def __iter__(self) -> Iterator[Token]:
        return self._tokens
