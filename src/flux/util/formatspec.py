"""One format spec taken apart, so that its width can be changed (spec 02, 13.3)."""

from __future__ import annotations

import re

_parse = re.compile(
    r"""
    (?: (?P<fill> .)? (?P<align> [<>=^]) )?
    (?P<sign> [-+\ ])?
    (?P<pos_zero> z)?
    (?P<alt> \#)?
    (?P<zero_pad> 0)?
    (?P<width_str> [0-9]+)?
    (?P<grouping> [_,])?
    (?: (?P<decimal> \.) (?P<precision_str> [0-9]+) )?
    (?P<type> [bcdeEfFgGnosxX%])?
    (?P<hyphen> h)?
    (?P<truncate> \+)?
    """,
    re.VERBOSE | re.DOTALL,
).fullmatch


class FormatSpec:
    """The parts of a format spec, each the text it was written as, or "" where it is absent.

    Text before ``::`` (strftime's part of a time's spec) is dropped. A spec that is none of Python's with
    Flux's suffixes has no parts. `str()` puts the parts together again.
    """

    fill: str
    align: str
    sign: str
    pos_zero: str
    alt: str
    zero_pad: str
    width_str: str
    grouping: str
    decimal: str
    precision_str: str
    type: str
    hyphen: str
    truncate: str

    def __init__(self, spec: str) -> None:
        found = _parse(spec.rpartition("::")[2]) or _parse("")
        assert found is not None
        self.__dict__.update(found.groupdict(default=""))

    @property
    def width(self) -> int | str:
        """The width, or "" where there is none.

        Setting it raises a smaller precision of text along with it: what was made wider is to be seen.
        """
        return int(self.width_str) if self.width_str else ""

    @width.setter
    def width(self, width: int) -> None:
        self.width_str = str(width)
        if self.type in ("", "s") and 0 < self.precision < width:
            self.precision_str = str(width)

    @property
    def precision(self) -> int:
        """The precision, 0 where there is none."""
        return int(self.precision_str or 0)

    def __str__(self) -> str:
        return (
            f"{self.fill}{self.align}{self.sign}{self.pos_zero}{self.alt}{self.zero_pad}{self.width_str}"
            f"{self.grouping}{self.decimal}{self.precision_str}{self.type}{self.hyphen}{self.truncate}"
        )
