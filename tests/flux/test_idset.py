"""flux.idset: the golden cases, set algebra against Python's sets, and what we do better than the reference."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable
from typing import Any

import pycore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux.idset import IDSET_FLAG_BRACKETS, IDSET_FLAG_RANGE, IDSET_INVALID_ID, IDset, IDsetIterator
from flux.wrapper import InvalidArguments, MissingFunctionError

#: Dense enough for runs, with an id at the upper limit now and then.
ids = st.sets(st.one_of(st.integers(0, 60), st.sampled_from([2147483646, 2147483647])))
#: Many runs: these are combined by the sweep, not run by run.
many = st.sets(st.integers(0, 200), min_size=60)


@pytest.mark.parametrize("case", pycore.params("idset"))
def test_golden_case(case: dict[str, Any]) -> None:
    pycore.run_case("idset", case)


@given(ids, st.sampled_from([0, 2, 4, 6]))
def test_text_round_trips_with_all_flags(wanted: set[int], flags: int) -> None:
    idset = IDset(wanted)
    assert idset.expand() == list(idset) == sorted(wanted)
    assert idset.count() == len(wanted)
    if max(wanted, default=0) < 1000:  # without ranges, 0-2147483647 is a long text
        assert IDset(idset.encode(flags)) == idset
    assert str(IDset(str(idset))) == str(idset)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (operator.or_, operator.or_),
        (operator.add, operator.or_),
        (operator.and_, operator.and_),
        (operator.sub, operator.sub),
        (IDset.add, operator.or_),
        (IDset.subtract, operator.sub),
        (IDset.union, operator.or_),
        (IDset.intersect, operator.and_),
        (IDset.difference, operator.sub),
    ],
)
@given(a=st.one_of(ids, many), b=st.one_of(ids, many))
def test_operation_agrees_with_python_sets(
    ours: Callable[[IDset, IDset], IDset], theirs: Callable[[set[int], set[int]], set[int]], a: set[int], b: set[int]
) -> None:
    right = IDset(b)
    result = ours(IDset(a), right)
    assert set(result) == theirs(a, b)
    assert str(result) == str(IDset(theirs(a, b)))  # canonical: runs that touch are one
    assert set(right) == b


@given(ids, st.lists(st.tuples(st.booleans(), st.integers(0, 70), st.integers(0, 15))))
def test_set_and_clear_agree_with_python_sets(start: set[int], steps: list[tuple[bool, int, int]]) -> None:
    idset, wanted = IDset(start), set(start)
    for add, low, length in steps:
        if add:
            idset.set(low, low + length)
            wanted |= set(range(low, low + length + 1))
        else:
            idset.clear(low, low + length)
            wanted -= set(range(low, low + length + 1))
        assert str(idset) == str(IDset(wanted))


@given(ids, st.integers(0, 70))
def test_queries_agree_with_python_sets(wanted: set[int], i: int) -> None:
    idset = IDset(wanted)
    assert (i in idset) == (i in wanted)
    assert idset.first() == min(wanted, default=IDSET_INVALID_ID)
    assert idset.last() == max(wanted, default=IDSET_INVALID_ID)
    assert idset.next(i) == min((each for each in wanted if each > i), default=IDSET_INVALID_ID)
    assert idset.pimpl.prev(i) == max((each for each in wanted if each < i), default=IDSET_INVALID_ID)


@pytest.mark.parametrize("operation", ["add", "subtract", "intersect"])
def test_an_operand_may_be_the_set_itself(operation: str) -> None:
    text = ",".join(map(str, range(0, 200, 2)))
    idset = IDset(text)
    result = getattr(idset, operation)(idset)
    assert str(result) == ("" if operation == "subtract" else text)


def test_iteration_follows_changes_ahead_of_it() -> None:
    idset = IDset("0-9")
    seen = []
    for i in idset:
        seen.append(i)
        if i == 1:
            idset.clear(2, 5)
            idset.set(20)
    assert seen == [0, 1, 6, 7, 8, 9, 20]
    assert list(IDsetIterator(IDset("3,5"))) == [3, 5]


@pytest.mark.parametrize("text", ["4294967296", "4294967297-4294967299", "2147483648", "0-2147483648", "9" * 5000])
def test_text_of_ids_that_are_too_large_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"IDset\(\): Invalid argument: "):
        IDset(text)


def test_largest_id() -> None:
    assert IDset("0-2147483647").count() == 2147483648
    assert IDset([2147483647]).last() == 2147483647


@pytest.mark.parametrize("text", ["٣", "1\n", "1-2\n", "1_0", "[]]", "[[]"])
def test_text_that_only_python_takes_for_numbers_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Invalid argument"):
        IDset(text)


@pytest.mark.parametrize("arg", [True, False, [True], [0, 0], [-1, 0], [2147483648], {3, "3"}])
def test_argument_that_is_no_set_of_ids_is_refused(arg: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        IDset(arg)


@pytest.mark.parametrize(
    ("i", "error", "errno"),
    [
        (2147483648, OSError, "ERANGE"),
        (4294967293, OSError, "ERANGE"),
        (4294967294, OSError, "EINVAL"),
        (4294967295, OSError, "EINVAL"),
        (4294967296, OverflowError, None),
    ],
)
def test_ids_that_no_set_holds(i: int, error: type[Exception], errno: str | None) -> None:
    idset = IDset("1")
    for attempt in (lambda: idset.set(i), lambda: idset.set(0, i)):
        with pytest.raises(error) as caught:
            attempt()
        if errno:
            assert caught.value.strerror.startswith(f"{errno}: ")  # type: ignore[attr-defined]
    assert i not in idset
    assert idset.next(i) == IDSET_INVALID_ID
    assert str(idset.clear(i)) == "1"


@pytest.mark.parametrize("flags", [1, 8, 7, -1])
def test_unknown_flags_are_a_value_error(flags: int) -> None:
    for attempt in (
        lambda: IDset("0", flags),
        lambda: IDset("0").encode(flags),
        lambda: IDset("0").set_flags(flags),
    ):
        with pytest.raises(ValueError, match="flags"):
            attempt()


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        *(lambda x, p=p: pickle.loads(pickle.dumps(x, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)),
    ],
)
def test_copies_and_pickles_are_independent_and_keep_flags(duplicate: Callable[[IDset], IDset]) -> None:
    original = IDset("0-3,9", flags=IDSET_FLAG_RANGE | IDSET_FLAG_BRACKETS)
    other = duplicate(original)
    assert type(other) is IDset
    assert str(other) == "[0-3,9]"
    other.clear(9)
    assert str(original) == "[0-3,9]"


@pytest.mark.parametrize("value", [2, -1, "1", None, 1.0])
def test_item_assignment_takes_only_bool_0_and_1(value: Any) -> None:
    with pytest.raises(TypeError, match="IDset setitem must be bool or 0,1 not"):
        IDset()[0] = value


def test_ordering_is_not_supported() -> None:
    with pytest.raises(TypeError):
        IDset("0") < IDset("1")  # type: ignore[operator]  # noqa: B015
    with pytest.raises(TypeError):
        IDset("0") != "0"  # noqa: B015


def test_pimpl_offers_the_c_functions() -> None:
    idset = IDset("0-3")
    pimpl = idset.pimpl
    assert pimpl.encode(IDSET_FLAG_RANGE) == b"0-3"
    assert pimpl.idset_encode(0) == b"0,1,2,3"
    assert (pimpl.count(), pimpl.first(), pimpl.last(), pimpl.next(1), pimpl.prev(0)) == (4, 0, 3, 2, IDSET_INVALID_ID)
    assert pimpl.set(7) == pimpl.range_set(9, 8) == pimpl.clear(0) == pimpl.range_clear(1, 2) == 0
    assert str(idset) == "3,7-9"
    assert pimpl.test(7)
    assert pimpl.equal(IDset("3,7-9"))
    assert pimpl.equal(pimpl.copy())
    assert pimpl.has_intersection(IDset("9-10"))
    assert not pimpl.has_intersection(IDset("10"))
    assert str(IDset(handle=pimpl.union(IDset("1")))) == "1,3,7-9"
    assert str(IDset(handle=pimpl.intersect(IDset("0-8")))) == "3,7-8"
    assert str(IDset(handle=pimpl.difference(IDset("0-8")))) == "9"
    assert pimpl.add(IDset("0")) == pimpl.subtract(IDset("3").handle) == 0
    assert str(idset) == "0,7-9"


def test_pimpl_refuses_what_is_no_function_of_a_set() -> None:
    pimpl = IDset().pimpl
    for name in ("decode", "idset_create"):
        with pytest.raises(AttributeError, match="masks function"):
            getattr(pimpl, name)
    with pytest.raises(MissingFunctionError):
        pimpl.no_such_function()
    with pytest.raises(InvalidArguments):
        pimpl.equal("0")
    with pytest.raises(AttributeError):
        pimpl.__no_such__  # noqa: B018


def test_sets_share_a_handle_until_it_is_closed() -> None:
    idset = IDset("0-3")
    other = IDset(handle=idset.handle)
    with other:
        other.set(9)
    assert str(idset) == "0-3,9"
    assert other.handle is None
    with pytest.raises(ValueError, match="NULL handle"):
        other.count()
    other.handle = idset.handle
    assert other == idset
    with pytest.raises(TypeError):
        other.handle = object()
