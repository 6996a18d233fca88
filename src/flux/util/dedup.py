"""Merging the items of a listing whose lines would be equal (spec 02, 13.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from flux.util.outputformat import OutputFormat


class Deduplicator:
    """A collection of items that keeps one item for each different line of a listing.

    Args:
        formatter: the output format of the listing.
        except_fields: fields that may differ between items that are merged.
        combine: called as ``combine(existing, new)`` to account for `new` in `existing`; by default `new` is
            left out.

    `items` are the items kept, in the order of their first appearance; iterating gives the same.
    """

    def __init__(
        self,
        formatter: OutputFormat,
        except_fields: Sequence[str] | None = None,
        combine: Callable[[Any, Any], object] | None = None,
    ) -> None:
        self.formatter = formatter.copy(except_fields=except_fields, nullify_expansion=True)
        self.combine = combine
        self.items: list[Any] = []
        self._by_line: dict[str, Any] = {}
        self._position = 0

    def __iter__(self) -> Iterator[Any]:
        self._position = 0
        return iter(self.items)

    def __next__(self) -> Any:
        """The next item since the last `iter()` of this object."""
        if self._position >= len(self.items):
            raise StopIteration
        self._position += 1
        return self.items[self._position - 1]

    def append(self, item: Any) -> None:
        """Adds an item, or merges it into the one whose line is the same."""
        line = self.formatter.format(item)
        if line not in self._by_line:
            self._by_line[line] = item
            self.items.append(item)
        elif self.combine is not None:
            self.combine(self._by_line[line], item)
