"""flux.hostlist: the golden cases, list operations against Python's lists, and what we do better."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from typing import Any

import pycore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux.hostlist import Hostlist, HostlistIterator
from flux.idset import IDset
from flux.wrapper import InvalidArguments, MissingFunctionError

#: Few prefixes and numbers, so that runs, duplicates and all kinds of padding meet.
names = st.builds(
    lambda prefix, number: prefix + number,
    st.sampled_from(["a", "ab", "n-", "x.y", "a1", "é"]),
    st.one_of(
        st.just(""),
        st.sampled_from(["0", "00", "09", "9", "10", "11", "010", "99", "100"]),
        st.from_regex("[0-9]{1,3}", fullmatch=True),
    ),
)
#: One run at least, so that runs longer than one host are cut and joined.
lists = st.lists(st.one_of(names, st.sampled_from(["a[0-12]", "a[08-11]", "n-[1-9,3-5]", "a1[0-3]"])))


def expanded(texts: list[str]) -> list[str]:
    return [name for text in texts for name in Hostlist(text)]


@pytest.mark.parametrize("case", pycore.params("hostlist"))
def test_golden_case(case: dict[str, Any]) -> None:
    pycore.run_case("hostlist", case)


@given(st.lists(names))
def test_names_come_back_in_order(wanted: list[str]) -> None:
    hosts = Hostlist(wanted)
    assert hosts.expand() == list(hosts) == wanted
    assert len(hosts) == hosts.count() == len(wanted)
    assert [hosts[at] for at in range(len(wanted))] == wanted


@given(lists)
def test_text_round_trips(texts: list[str]) -> None:
    hosts = Hostlist(texts)
    assert list(Hostlist(str(hosts))) == expanded(texts)
    assert str(Hostlist(str(hosts))) == str(hosts)


@given(lists, st.slices(20))
def test_slice_agrees_with_python_lists(texts: list[str], part: slice) -> None:
    hosts = Hostlist(texts)[part]
    assert list(hosts) == expanded(texts)[part]


@given(lists, lists)
def test_append_agrees_with_python_lists(one: list[str], other: list[str]) -> None:
    hosts = Hostlist(one)
    assert hosts.append(other) == len(expanded(other))
    assert list(hosts) == expanded(one) + expanded(other)


@given(lists, lists)
def test_delete_removes_first_occurrences(texts: list[str], unwanted: list[str]) -> None:
    wanted, count = expanded(texts), 0
    for name in expanded(unwanted):
        if name in wanted:
            wanted.remove(name)
            count += 1
    hosts = Hostlist(texts)
    assert hosts.delete(Hostlist(unwanted)) == count
    assert list(hosts) == wanted


@given(lists, lists)
def test_index_and_find_give_first_occurrences(texts: list[str], sought: list[str]) -> None:
    hosts, known = Hostlist(texts), expanded(texts)
    positions = [known.index(name) for name in expanded(sought) if name in known]
    assert hosts.index(sought, ignore_nomatch=True) == positions
    for name in expanded(sought):
        assert (name in hosts) == (name in known)
        if name in known:
            assert hosts.find(name) == known.index(name)


@given(lists)
def test_sort_keeps_and_uniq_drops_duplicates(texts: list[str]) -> None:
    known = expanded(texts)
    in_order = Hostlist(texts).sort()
    assert sorted(in_order) == sorted(known)
    once = Hostlist(texts).uniq()
    assert sorted(once) == sorted(set(known))
    assert list(once.copy().sort()) == list(once)
    assert list(in_order.copy().sort()) == list(in_order)


@given(st.lists(names))
def test_sorting_does_not_depend_on_the_order_before(wanted: list[str]) -> None:
    assert list(Hostlist(wanted).sort()) == list(Hostlist(wanted[::-1]).sort())


def test_a_name_is_found_however_it_was_split() -> None:
    hosts = Hostlist("foo1[2-3],foo0[09-10]")
    assert str(hosts) == "foo1[2-3],foo0[09-10]"
    assert hosts.index("foo12,foo010,foo009") == [0, 3, 2]
    assert "foo9" not in hosts
    assert str(Hostlist("foo12,foo1[2-3],foo13").uniq()) == "foo[12-13]"
    assert hosts.delete("foo13") == 1


@pytest.mark.parametrize(
    ("text", "encoded"),
    [
        ("foo[1-2]-ib0", "foo1-ib0,foo2-ib0"),
        ("foo[1-2].example.com", "foo1.example.com,foo2.example.com"),
        ("a9,a10", "a[9-10]"),
        ("a09,a10", "a[09-10]"),
        ("a009,a10", "a[009,10]"),
        ("vm,vm,vm", "vm,vm,vm"),
        ("foo[99999999999999999999-100000000000000000001]", "foo[99999999999999999999-100000000000000000001]"),
        ("foo[0-1048575]", "foo[0-1048575]"),
        ("a[0-1] , b\tc", "a[0-1],b,c"),
    ],
)
def test_encoding(text: str, encoded: str) -> None:
    assert str(Hostlist(text)) == encoded


@pytest.mark.parametrize(
    "text", ["foo[٣]", "foo[1\n]", "foo[0-1]]", "foo[0-1][", "a,]b", "[", "foo[" + "1" * 5000 + "]"]
)
def test_malformed_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Hostlist(text)
    assert str(caught.value) == f"Invalid hostlist: '{text}'"


def test_names_with_more_digits_than_python_converts() -> None:
    name = "n" + "1" * (sys.get_int_max_str_digits() + 1)
    assert list(Hostlist([name, name])) == [name, name]
    assert str(Hostlist(name)) == name
    assert Hostlist(f"a,{name}").find(name) == 1


def test_append_is_all_or_nothing() -> None:
    hosts = Hostlist("a")
    with pytest.raises(ValueError, match="Invalid hostlist"):
        hosts.append("b", "c[")
    assert str(hosts) == "a"


def test_a_list_may_be_appended_to_itself() -> None:
    hosts = Hostlist("a[0-1],b")
    assert hosts.append(hosts) == 3
    assert str(hosts) == "a[0-1],b,a[0-1],b"
    assert hosts[5] == "b"


def test_membership_of_what_is_no_name_is_false() -> None:
    hosts = Hostlist("foo[0-3],bar")
    assert b"foo1" in hosts
    for other in (None, 1, ["bar"]):
        assert other not in hosts


@pytest.mark.parametrize(
    ("host", "error"), [(1, InvalidArguments), (None, OSError), ("a,b", OSError), ("a[0-1]", OSError)]
)
def test_find_of_what_is_no_name(host: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        Hostlist("a,b").find(host)
    if error is OSError:
        assert str(caught.value) == "[Errno 22] EINVAL: Invalid argument"


def test_a_name_with_brackets_in_its_suffix_is_found() -> None:
    assert Hostlist("foo[0-1][2-3]").find("foo1[2-3]") == 1


def test_delete_takes_what_the_constructor_takes() -> None:
    hosts = Hostlist("a[0-5]")
    assert hosts.delete(["a[0-1]", "a4", "b"]) == 3
    assert str(hosts) == "a[2-3,5]"


def test_positions_may_be_an_idset() -> None:
    assert str(Hostlist("a[0-9]")[IDset("0-2,9")]) == "a[0-2,9]"


@pytest.mark.parametrize("index", ["", b"", [1.0], [None]])
def test_index_of_the_wrong_kind_is_a_type_error(index: Any) -> None:
    with pytest.raises(TypeError):
        Hostlist("a")[index]


@pytest.mark.parametrize(
    "duplicate",
    [
        copy.copy,
        copy.deepcopy,
        *(lambda x, p=p: pickle.loads(pickle.dumps(x, p)) for p in range(pickle.HIGHEST_PROTOCOL + 1)),
    ],
)
def test_copies_and_pickles_are_independent(duplicate: Callable[[Hostlist], Hostlist]) -> None:
    original = Hostlist("foo[0-1][2-3],a[08-11]")
    other = duplicate(original)
    assert list(other) == list(original)
    other.append("b")
    other.delete("a08")
    assert len(original) == 6
    assert "a08" in original


def test_iterating_sees_the_list_as_it_was() -> None:
    hosts = Hostlist("a[0-2]")
    seen = []
    for name in hosts:
        seen.append(name)
        hosts.delete("a2")
    assert seen == ["a0", "a1", "a2"]
    assert list(HostlistIterator(hosts)) == ["a0", "a1"]


def test_pimpl_offers_the_c_functions() -> None:
    hosts = Hostlist("a[0-3],é")
    pimpl = hosts.pimpl
    assert pimpl.encode() == pimpl.hostlist_encode() == "a[0-3],é".encode()
    assert (pimpl.count(), pimpl.nth(4), pimpl.find("a2")) == (5, "é".encode(), 2)
    assert pimpl.append(b"b[0-1]") == 2
    assert pimpl.append_list(Hostlist("a0")) == 1
    assert pimpl.delete("a0,a1") == 2
    assert str(hosts) == "a[2-3],é,b[0-1],a0"
    pimpl.uniq()
    assert str(hosts) == str(Hostlist(handle=pimpl.copy())) == "a[0,2-3],b[0-1],é"
    for attempt, errno in (
        (lambda: pimpl.nth(9), "ENOENT"),
        (lambda: pimpl.append("a["), "EINVAL"),
        (lambda: pimpl.find("x"), "ENOENT"),
    ):
        with pytest.raises(OSError, match=errno):
            attempt()
    with pytest.raises(AttributeError, match="masks function"):
        pimpl.decode  # noqa: B018
    with pytest.raises(MissingFunctionError):
        pimpl.no_such_function()


def test_a_closed_list_says_so() -> None:
    with Hostlist("a") as hosts:
        pass
    with pytest.raises(ValueError, match="NULL handle"):
        str(hosts)
