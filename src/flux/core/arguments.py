"""How arguments of the C library's functions are taken (spec 02, 0.2).

Where the C prototype takes a string, `str` is encoded as UTF-8 with surrogateescape, `bytes` pass and None is a
null pointer; anything else is InvalidArguments. Unsigned 32-bit numbers out of range are an OverflowError.
"""

from __future__ import annotations

from typing import Any

from flux.wrapper import InvalidArguments


def is_null(value: Any) -> bool:
    """True for None and for the ffi shim's null pointer."""
    return value is None or getattr(type(value), "is_null_pointer", False)


def text_bytes(name: str, value: Any) -> bytes | None:
    """A text argument of the function called `name`; None for a null pointer."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        return value
    if is_null(value):
        return None
    raise InvalidArguments(name, f"{name}(..., const char *, ...)", (value,))


def signed(number: int) -> int:
    """A 32-bit word as the int that it stands for: the errno of a response, which may be anything."""
    return number - (1 << 32) if number >= 1 << 31 else number


def int32u(name: str, value: Any) -> int:
    """An unsigned 32-bit argument: InvalidArguments if no int, OverflowError out of range."""
    if not isinstance(value, int):
        raise InvalidArguments(name, f"{name}(..., uint32_t, ...)", (value,))
    if not 0 <= value <= 0xFFFFFFFF:
        raise OverflowError(f"integer {value} does not fit '32-bit unsigned int'")
    return value


def c_int(name: str, value: Any) -> int:
    """A signed 32-bit argument: InvalidArguments if no int, OverflowError out of range."""
    if not isinstance(value, int):
        raise InvalidArguments(name, f"{name}(..., int, ...)", (value,))
    if not -0x80000000 <= value <= 0x7FFFFFFF:
        raise OverflowError(f"integer {value} does not fit '32-bit int'")
    return value
