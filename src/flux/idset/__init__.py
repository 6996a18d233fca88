"""Sets of ids: ranks, cores, task ids (RFC 22; spec 02, section 14.1).

    ranks = IDset("0-3,7")
    ranks.add([9, 10]); str(ranks)      '0-3,7,9-10'

Rules:

- Ids are ints from 0 to 2147483647. Memory and time go by the number of runs of consecutive ids (`flux.idset.ranges`).
- Wherever an operation takes a set, it takes all that the constructor takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self, TypeAlias

from flux.idset.codec import (
    IDSET_FLAG_BRACKETS,
    IDSET_FLAG_RANGE,
    IDSET_INVALID_ID,
    MAX_ID,
    check_flags,
    check_storable,
    decode_text,
    encode_text,
)
from flux.idset.ranges import Ranges
from flux.wrapper import WrapperPimpl

if TYPE_CHECKING:
    from flux.idset.pimpl import IDsetPimpl

    #: What stands for a set.
    Ids: TypeAlias = "IDset | str | int | Iterable[Any]"

__all__ = [
    "IDSET_FLAG_BRACKETS",
    "IDSET_FLAG_RANGE",
    "IDSET_INVALID_ID",
    "IDset",
    "IDsetIterator",
    "decode",
]


class IDset(WrapperPimpl):
    """A mutable, sorted set of ids.

    Args:
        arg: text as RFC 22 defines it (``"0-3,7"``), an id, an IDset to copy, or an iterable of ids and texts that
            yields a valid idset when sorted and joined by commas (so: no duplicates).
        flags: IDSET_FLAG_RANGE and IDSET_FLAG_BRACKETS or-ed, how str() encodes this set.
        handle: the `handle` of another IDset, to share its ids; `arg` is then ignored.

    Raises ValueError if `arg` is no idset, or for unknown flags; TypeError if it is of a kind that cannot be one.
    """

    _ranges: Ranges

    def __init__(self, arg: Ids = "", flags: int = IDSET_FLAG_RANGE, handle: Any = None) -> None:
        super().__init__()
        self.set_flags(flags)
        if handle is None:
            self._ranges = _parse(arg)
        else:
            self.handle = handle

    def __getattr__(self, name: str) -> Any:
        # Only reached for what is not there: `_ranges` goes when the set is closed (`with IDset() as ids`).
        from flux.core.ownerpimpl import closed

        raise closed(self, name, "_ranges")

    @property
    def pimpl(self) -> IDsetPimpl:
        """The C functions `idset_*` with this set implied (spec 02, 9.3)."""
        from flux.idset.pimpl import IDsetPimpl

        return IDsetPimpl(self)

    def __reduce__(self) -> tuple[type[Self], tuple[str, int]]:
        # For pickle and copy. The flags are part of the object's state, though copy() leaves them behind.
        return type(self), (self.encode(IDSET_FLAG_RANGE), self._flags)

    # Text

    def __str__(self) -> str:
        return encode_text(self._ranges, self._flags)

    def __repr__(self) -> str:
        return f"IDset('{encode_text(self._ranges, IDSET_FLAG_RANGE)}')"

    def encode(self, flags: int | None = None) -> str:
        """The set as text, by `flags` or the set's own. Raises ValueError for unknown flags."""
        return encode_text(self._ranges, self._flags if flags is None else flags)

    def set_flags(self, flags: int) -> None:
        """Sets how str() encodes this set. Copies and results of operators do not inherit it.

        Raises ValueError for unknown flags.
        """
        check_flags(flags)
        self._flags = flags

    # Queries

    def __len__(self) -> int:
        return self._ranges.count()

    def count(self) -> int:
        """The number of ids."""
        return self._ranges.count()

    def __iter__(self) -> IDsetIterator:
        return IDsetIterator(self)

    def expand(self) -> list[int]:
        """All ids, ascending."""
        return list(self._ranges.ids())

    def test(self, i: int) -> bool:
        """Is `i` in the set? Raises TypeError if `i` is no int, ValueError if it is negative."""
        _check("test", i)
        return self._ranges.test(i)

    def __contains__(self, i: int) -> bool:
        return self.test(i)

    def __getitem__(self, i: int) -> bool:
        return self.test(i)

    def first(self) -> int:
        """The smallest id, or IDSET_INVALID_ID if there is none."""
        bounds = self._ranges.bounds
        return bounds[0] if bounds else IDSET_INVALID_ID

    def last(self) -> int:
        """The largest id, or IDSET_INVALID_ID if there is none."""
        bounds = self._ranges.bounds
        return bounds[-1] - 1 if bounds else IDSET_INVALID_ID

    def next(self, i: int) -> int:
        """The smallest id > `i`, or IDSET_INVALID_ID if there is none.

        Raises TypeError if `i` is no int, ValueError if it is negative.
        """
        _check("next", i)
        found = self._ranges.after(i)
        return IDSET_INVALID_ID if found is None else found

    def equal(self, idset: IDset) -> bool:
        """Do both sets have the same ids? Raises TypeError if `idset` is no IDset."""
        if not isinstance(idset, IDset):
            raise TypeError(f"IDset can only be compared with an IDset, not {type(idset)}")
        return self._ranges.bounds == idset._ranges.bounds

    def __eq__(self, idset: object) -> bool:
        # As in the reference, a comparison with something else is an error: `ids == "0-3"` would be a silent False.
        return self.equal(idset)  # type: ignore[arg-type]

    __hash__ = None  # type: ignore[assignment]  # mutable

    # Changes

    def set(self, start: int, end: int | None = None) -> Self:
        """Adds `start`, or start..end inclusive; returns self.

        Raises TypeError for what is no int, ValueError for negative ids and for start > end, OSError ERANGE above
        2147483647, EINVAL for 4294967294 and 4294967295, OverflowError above those.
        """
        end = _check_range("set", start, end)
        check_storable(end)
        self._ranges.set(start, end + 1)
        return self

    def clear(self, start: int, end: int | None = None) -> Self:
        """Removes `start`, or start..end inclusive, as far as they are there; returns self.

        Raises TypeError for what is no int, ValueError for negative ids and for start > end.
        """
        end = _check_range("clear", start, end)
        self._ranges.clear(start, end + 1)
        return self

    def __setitem__(self, i: int, value: bool | int) -> None:
        if not isinstance(value, int) or value not in (0, 1):
            raise TypeError(f"IDset setitem must be bool or 0,1 not {type(value)}")
        if value:
            self.set(i)
        else:
            self.clear(i)

    def add(self, arg: Ids) -> Self:
        """Adds the ids of `arg`, which is anything the constructor takes; returns self."""
        self._ranges.add(_other(arg))
        return self

    def subtract(self, arg: Ids) -> Self:
        """Removes the ids of `arg`, which is anything the constructor takes; returns self."""
        self._ranges.subtract(_other(arg))
        return self

    def __iadd__(self, arg: Ids) -> Self:
        return self.add(arg)

    def __isub__(self, arg: Ids) -> Self:
        return self.subtract(arg)

    # New sets

    def copy(self) -> IDset:
        """An independent set of the same ids, with default flags."""
        return IDset(self)

    def union(self, *args: Ids) -> IDset:
        """A new set: the ids that are in this set or in any of `args`."""
        result = self.copy()
        for arg in args:
            result._ranges.add(_other(arg))
        return result

    def intersect(self, *args: Ids) -> IDset:
        """A new set: the ids that are in this set and in all of `args`."""
        result = self.copy()
        for arg in args:
            result._ranges.intersect(_other(arg))
        return result

    def difference(self, *args: Ids) -> IDset:
        """A new set: the ids that are in this set and in none of `args`."""
        result = self.copy()
        for arg in args:
            result._ranges.subtract(_other(arg))
        return result

    def __add__(self, arg: Ids) -> IDset:
        return self.union(arg)

    def __or__(self, arg: Ids) -> IDset:
        return self.union(arg)

    def __sub__(self, arg: Ids) -> IDset:
        return self.difference(arg)

    def __and__(self, arg: Ids) -> IDset:
        return self.intersect(arg)


class IDsetIterator:
    """Iterates over the ids of a set, ascending; ids that are removed or added ahead of it on the way count."""

    def __init__(self, idset: IDset) -> None:
        self._ids = idset._ranges.live_ids()

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        return next(self._ids)


def decode(string: Ids) -> IDset:
    """The IDset of `string`, or of anything else that the constructor takes."""
    return IDset(string)


def _check(method: str, i: int) -> None:
    if not isinstance(i, int):
        raise TypeError(f"IDset.{method} supports integers, not {type(i)}")
    if i < 0:
        raise ValueError(f"negative index passed to IDset.{method}")


def _check_range(method: str, start: int, end: int | None) -> int:
    """The inclusive end of a range of ids given to `method`."""
    _check(method, start)
    if end is None:
        return start
    _check(method, end)
    if start > end:
        # The reference says so for clear(), too.
        raise ValueError(f"can't set range with {start} > {end}")
    return end


def _other(arg: Ids) -> Ranges:
    """The ids of an operand, not to be changed."""
    return arg._ranges if isinstance(arg, IDset) else _parse(arg)


def _parse(arg: Ids) -> Ranges:
    """The ids that `arg` stands for, not shared with it."""
    if isinstance(arg, IDset):
        return arg._ranges.copy()
    if isinstance(arg, int):
        text = str(arg)  # True is refused as the text "True"
    elif isinstance(arg, str):
        text = arg
    elif isinstance(arg, Iterable):
        elements = sorted(arg)
        if not elements:
            return Ranges()
        if all(type(element) is int for element in elements) and elements[0] >= 0 and elements[-1] <= MAX_ID:
            # The same outcome as by way of text, faster.
            ids = Ranges.from_sorted(elements)
            if ids is not None:
                return ids
        text = ",".join(map(str, elements))
    else:
        raise TypeError(f"IDset(): expected a string, an integer, an IDset or an iterable, got {type(arg)}")
    decoded = decode_text(text)
    if decoded is None:
        raise ValueError(f"IDset(): Invalid argument: {text}")
    return decoded
