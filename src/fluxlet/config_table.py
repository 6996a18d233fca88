"""Reading a table of the configuration, with the types and the error texts of the reference (spec 03, 10.3).

    values = read_table(config.get("heartbeat", {}), {"period": str, "timeout": str}, strict=True)

What is wrong is a ValueError whose text is the reference's JSON unpacker's; who asked puts in front whose table it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_EXPECTED = {
    str: "string",
    int: "integer",
    float: "real",
    bool: "true or false",
    dict: "object",
    list: "array",
}


def type_name(value: Any) -> str:
    """What JSON calls a value, in the words of the reference."""
    match value:
        case None:
            return "null"
        case True:
            return "true"
        case False:
            return "false"
        case _:
            return _EXPECTED[type(value)]


def read_table(table: Any, types: Mapping[str, type], strict: bool = False) -> dict[str, Any]:
    """The values of the known keys that a table has.

    Args:
        table: as the configuration has it.
        types: the type of each known key: str, int, float, bool, dict, list; object for any.
        strict: refuse unknown keys.

    Raises ValueError if it is no table, a value is of another type, or there are keys left in a strict one.
    """
    if not isinstance(table, dict):
        raise ValueError(f"Expected object, got {type_name(table)}")
    values = {}
    for key, wanted in types.items():
        if key in table:
            value = table[key]
            # An exact match: a bool is an int in Python, and none in JSON.
            if wanted is not object and type(value) is not wanted:
                raise ValueError(f"Expected {_EXPECTED[wanted]}, got {type_name(value)}")
            values[key] = value
    left = [key for key in table if key not in types]
    if strict and left:
        raise ValueError(f"{len(left)} object item(s) left unpacked: {', '.join(left)}")
    return values


def read_named_table(table: Any, types: Mapping[str, type], name: str, strict: bool = False) -> dict[str, Any]:
    """As `read_table`; the error says which table it is: `name`, with dots."""
    try:
        return read_table(table, types, strict)
    except ValueError as exc:
        raise ValueError(f"error parsing [{name}] config table: {exc}") from None


_UNITS = "kMGTPE"
_size = re.compile(rf"(\d{{1,18}}(?:\.\d{{1,18}})?)([{_UNITS}K]?)", re.ASCII).fullmatch


def read_size(value: Any) -> int:
    """A number of bytes: an integer, or a string such as "256M", "1.5G" or "4096".

    Units are k, M, G, T, P and E, each 1024 times the one before. Raises ValueError for anything else, for less than
    1, and for what does not fit 63 bits.
    """
    size = 0
    match value:
        case str() if found := _size(value):
            size = int(float(found[1]) * 1024 ** (_UNITS.index(found[2].replace("K", "k")) + 1 if found[2] else 0))
        case int() if not isinstance(value, bool):
            size = value
        case int() | float() | dict() | list() | None:
            raise ValueError(f"Expected size string or integer, got {type_name(value)}")
    if not 1 <= size < 1 << 63:
        raise ValueError(f"{value!r} is not a size: it takes a number of bytes, or one with k, M or G such as '256M'")
    return size
