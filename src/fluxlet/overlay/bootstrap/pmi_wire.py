"""PMI-1's lines (spec 04, 3.2; RFC 13). Pure: what client and server have in common.

    cmd=put kvsname=- key=1 value={"host":"n1"}

Rules:
- Words are `key=value`, separated by blanks. `value` comes last and runs to the end of the line, blanks included.
- A line is at most `MAX_LINE` bytes, its newline included. Whoever sends a longer one does not speak PMI.
"""

from __future__ import annotations

#: Lengths, in bytes, of which the last is for the NUL of C programs.
KVSNAME_MAX, KEY_MAX, VALUE_MAX = 64, 64, 1024
MAX_LINE = KVSNAME_MAX + KEY_MAX + VALUE_MAX + 64

#: Error numbers of PMI.
FAIL, INVALID_KEY, INVALID_KEY_LENGTH, INVALID_VALUE_LENGTH, INVALID_LENGTH = -1, 4, 5, 7, 8


class PmiError(Exception):
    """The other side does not keep to the protocol; the text says how."""


def parse(line: str) -> dict[str, str]:
    """The words of a line. Raises PmiError."""
    words: dict[str, str] = {}
    rest = line
    while rest := rest.lstrip(" "):
        key, equals, rest = rest.partition("=")
        if not equals or not key or " " in key:
            raise PmiError(f"not a PMI line: {line[:80]!r}")
        if key in ("value", "msg", "error_msg"):
            words[key] = rest
            break
        words[key], _, rest = rest.partition(" ")
    if not words:
        raise PmiError("an empty PMI line")
    return words


class Lines:
    """Takes a stream apart into lines."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete with `data`. Raises PmiError for one that is too long."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) >= MAX_LINE or any(len(line) >= MAX_LINE for line in lines):
            raise PmiError("a PMI line is too long")
        return [line.decode("utf-8", "surrogateescape") for line in lines]


def encode(line: str) -> bytes:
    """A line as it is sent."""
    return line.encode("utf-8", "surrogateescape") + b"\n"
