"""Flux's rules for sets of ids: which ids there are, and their text form (RFC 22; spec 02, 14.1; spec 07, 1.2)."""

from __future__ import annotations

import errno
import re

from flux.idset.ranges import Ranges
from flux.wrapper import local_error

#: What first(), last() and next() give when there is no such id.
IDSET_INVALID_ID = 4294967294
#: Encode in brackets if the set has more than one id.
IDSET_FLAG_BRACKETS = 2
#: Encode runs of two ids and more as ``a-b``.
IDSET_FLAG_RANGE = 4

#: The largest id a set can hold.
MAX_ID = 2147483647

#: An element; ten digits hold every id, and keep int() from being fed megabytes of them.
_ELEMENT = re.compile(r"(0|[1-9][0-9]{0,9})(?:-([1-9][0-9]{0,9}))?")


def check_flags(flags: int) -> None:
    """Raises ValueError if `flags` has bits other than IDSET_FLAG_RANGE and IDSET_FLAG_BRACKETS."""
    if flags & ~(IDSET_FLAG_RANGE | IDSET_FLAG_BRACKETS):
        raise ValueError(f"invalid idset flags {flags}: only IDSET_FLAG_RANGE and IDSET_FLAG_BRACKETS may be set")


def check_storable(i: int) -> None:
    """Raises what adding `i` to a set raises if `i` cannot be in one: OverflowError, or OSError EINVAL or ERANGE."""
    if i <= MAX_ID:
        return
    if i > 0xFFFFFFFF:
        raise OverflowError(f"id {i} is too large for an idset: the largest is {MAX_ID}")
    raise local_error(errno.EINVAL if i >= IDSET_INVALID_ID else errno.ERANGE)


def decode_text(text: str) -> Ranges | None:
    """The set that `text` stands for, or None if it stands for none."""
    if text[:1] == "[" and text[-1:] == "]":
        text = text[1:-1]
    bounds: list[int] = []
    end = 0  # one past the last id so far
    match = _ELEMENT.fullmatch
    for element in text.split(","):
        if not element:
            continue
        found = match(element)
        if found is None:
            return None
        low, high = found.groups()
        first = int(low)
        if first < end:
            return None
        touches = first == end and bool(bounds)
        if high is None:
            end = first + 1
        else:
            end = int(high) + 1
            if end <= first + 1:
                return None
        if touches:
            bounds[-1] = end
        else:
            bounds += (first, end)
    if end > MAX_ID + 1:
        return None
    return Ranges(bounds)


def encode_text(ids: Ranges, flags: int) -> str:
    """The text form of a set. Raises ValueError for unknown flags."""
    check_flags(flags)
    if flags & IDSET_FLAG_RANGE:
        text = ",".join([str(start) if end == start + 1 else f"{start}-{end - 1}" for start, end in ids.runs()])
    else:
        text = ",".join(map(str, ids.ids()))
    if flags & IDSET_FLAG_BRACKETS and len(ids.bounds) and ids.bounds[-1] - ids.bounds[0] > 1:
        return f"[{text}]"
    return text
