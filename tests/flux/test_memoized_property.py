"""memoized_property, beyond the golden cases."""

from __future__ import annotations

from typing import Any

import pytest

from flux.memoized_property import memoized_property


class Counter:
    calls = 0

    @memoized_property
    def value(self) -> int | None:
        self.calls += 1
        return None

    def __getattr__(self, name: str) -> Any:
        return f"made-up {name}"


def test_none_is_kept_too_and_getattr_is_not_asked() -> None:
    counter = Counter()
    assert (counter.value, counter.value, counter.calls) == (None, None, 1)


def test_objects_have_values_of_their_own() -> None:
    one, other = Counter(), Counter()
    assert one.value is other.value is None
    assert (one.calls, other.calls) == (1, 1)


def test_deleting_what_is_kept_computes_anew() -> None:
    counter = Counter()
    assert counter.value is None
    del counter._value
    assert (counter.value, counter.calls) == (None, 2)


def test_failure_is_not_kept() -> None:
    class Flaky:
        calls = 0

        @memoized_property
        def value(self) -> int:
            self.calls += 1
            if self.calls == 1:
                raise OSError("not yet")
            return self.calls

    flaky = Flaky()
    with pytest.raises(OSError, match="not yet"):
        _ = flaky.value
    assert flaky.value == 2


def test_works_with_slots() -> None:
    class Slotted:
        __slots__ = ("_value",)

        @memoized_property
        def value(self) -> list[int]:
            return []

    slotted = Slotted()
    assert slotted.value is slotted.value
