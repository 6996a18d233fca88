"""flux.util's output formats, beyond the golden cases."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from flux.idset import IDset
from flux.job._infoparts import EmptyObject
from flux.util import AltField, Deduplicator, DisplayValue, OutputFormat, UtilDatetime, UtilFormatter


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


class Item:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Table(OutputFormat):
    headings = {"a": "A", "b": "BEE", "n": "NUM", "t": "TIME"}


def field(spec: str, value: Any) -> str:
    return UtilFormatter().format(f"{{0{spec}}}", value)


@pytest.mark.parametrize(
    ("spec", "value", "text"),
    [
        ("!d:%b%d::>7.4+", 86400.0, "   Jan+"),
        ("!d:%Hh", 3600.0, "01h"),  # a final h belongs to strftime unless it is behind ::
        ("!d:::h", "", "-"),
        ("!H", float("inf"), "inf"),
        ("!H", 59.7, "0:01:00"),
        ("!F", float("nan"), "nan"),
        (":.3+", AltField("ƒabcd", "fabcd"), "ƒa+"),
        (":.1+", "ab", "+"),
        (":.0+", "ab", ""),
        (":5.3f+", 3.14159, "3.142"),  # the precision of a number cuts nothing off
        (":.3h+", 123456, "12+"),  # h makes text of it
        (":>5dh", 7, "    7"),  # but not where there is to be a number
        # What is not known is empty, where a number was expected as well.
        (":5d", "", "     "),
        (":<5.1f", "", "     "),
        (":05x", "", "     "),
        (":>4dh", "", "   -"),
        (":*=+4,d", "", "****"),
        ("!F:>3", EmptyObject(), "   "),
        ("!d:%H::>3h", EmptyObject(), "  -"),
        ("!D", EmptyObject(), ""),
        (":>3d", EmptyObject(), "   "),
        ("", IDset("0-1"), "0-1"),  # no object is compared with a text
        ("!s:>3", IDset(""), "   "),
    ],
)
def test_field_is_formatted(spec: str, value: Any, text: str) -> None:
    assert field(spec, value) == text


@pytest.mark.parametrize("conversion", "dDFHP")
def test_conversion_of_text_is_a_type_error(conversion: str) -> None:
    with pytest.raises(TypeError):
        field(f"!{conversion}", "x")


def test_epoch_is_empty_in_any_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert format(UtilDatetime.fromtimestamp(0, UTC), "%F") == ""
    monkeypatch.setenv("TZ", "XXX-05:30")
    time.tzset()
    assert format(UtilDatetime.fromtimestamp(0), "::>3") == "   "
    assert field(":h", "1970-01-01T05:30:00") == "-"
    assert format(UtilDatetime(1970, 1, 1), "%F") == "1970-01-01"


def test_escaped_braces_stay_text() -> None:
    table = Table("{{x}} {a:>3} {{{{")
    assert table.get_format() == "{{x}} {0.a:>3} {{{{"
    assert table.header() == "{x}   A {{"
    assert table.format(Item(a=1)) == "{x}   1 {{"
    assert table.filter([Item(a=1)]) == "{{x}} {a:>3} {{{{"


def test_sentinels_are_never_printed() -> None:
    table = Table("{a} ?+:{b}?:{n}")
    assert table.header() == "A BEENUM"
    assert table.format(Item(a=1, b=2, n=3)) == "1 23"


def test_positional_field_works_like_the_plain_one() -> None:
    table = Table("+:{0.a:<2}|{0.b}")
    assert table.header() == "A |BEE"
    assert table.format(Item(a=1, b=2)) == "1 |2"
    assert table.filter([Item(a="long", b=2)]) == "{0.a:<4}|{0.b}"


def test_widened_time_keeps_its_strftime_part() -> None:
    assert Table("+:{t!d:%b%d::<3}").filter([Item(t=86400.0)]) == "{t!d:%b%d::<5}"
    assert Table("+:{t!d:%b%d}").filter([Item(t=86400.0)], no_header=True) == "{t!d:%b%d::5}"
    assert Table("?:{t!d:%b%d} x").filter([Item(t=0.0)]) == " x"


def test_widening_counts_the_width_asked_for() -> None:
    assert Table("+:{a:>6}").filter([Item(a="x")]) == "{a:>6}"


def test_filter_takes_the_sentinels_off_the_object() -> None:
    table = Table("?:{a} +:{b:1.1}")
    assert table.filter([Item(a="", b="xyz")]) == " {b:3.3}"
    assert table.get_format() == "{0.a} {0.b:1.1}"


def test_filter_takes_an_iterator_and_stops_at_nothing_to_measure() -> None:
    assert Table("?:{a}").filter(iter([Item(a="x")])) == "{a}"
    assert Table("{a}").filter(iter([Item()])) == "{a}"  # items without the attribute: not looked at


def test_printing_can_be_repeated(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("sort:-n ?:{a}{n}")
    items = (Item(a="", n=n) for n in (1, 2))
    table.print_items(items)
    table.print_items([Item(a="x", n=3)], no_header=True)
    assert capsys.readouterr().out == "NUM\n2\n1\nx3\n"


def test_blank_header_is_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    Table("?:{a} ").print_items([Item(a="")])
    assert capsys.readouterr().out == ""


def test_width_zero_is_that_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "4")
    assert Table("{a:>9}").header(width=0) == "   +"


def test_new_sort_keys_do_not_run_into_text() -> None:
    table = Table("x {a}")
    table.set_sort_keys("-n")
    assert table.get_format(orig=True) == "sort:-n x {a}"
    assert Table(table.get_format(orig=True)).get_format() == "sort:-n x {0.a}"


def test_sort_prefix_without_keys_sorts_nothing() -> None:
    table = Table("sort: {a}")
    assert table.sort_keys == []
    assert table.get_format() == "{0.a}"


def test_prepend_none_is_the_default() -> None:
    assert Table("{a}", prepend=None).format(Item(a=1)) == "1"


def test_missing_key_names_field_and_type() -> None:
    with pytest.raises(KeyError, match=r"Invalid format field 'a' for <class '.*Item'>"):
        Table("{a}", prepend="").format(Item(a=1))


def test_copy_of_a_subclass_with_its_own_constructor() -> None:
    class Special(Table):
        def __init__(self, fmt: str, extra: int) -> None:
            super().__init__(fmt, prepend="")
            self.extra = extra

    copy = Special("{a} {b}", 7).copy(except_fields=["a"])
    assert (type(copy), copy.extra, copy.get_format()) == (Special, 7, " {b}")


@pytest.mark.parametrize(
    ("fmt", "excepted", "left"),
    [
        ("{a} ?+:{b} {n}", ["b"], "{a} {n}"),
        ("{a} x ?:{b} {n}", ["b"], "{a} x  {n}"),
        ("{a}|{b}", ["b"], "{a}|"),
    ],
)
def test_field_left_out(fmt: str, excepted: list[str], left: str) -> None:
    assert Table(fmt).get_format_prepended("", except_fields=excepted) == left


def test_merging_keeps_lines_apart_that_differ_only_by_where_a_column_ends() -> None:
    items = Deduplicator(Table("{a} +:{b}"))
    items.append(Item(a="1", b="12"))
    items.append(Item(a="11", b="2"))
    assert len(items.items) == 2


def test_merged_items_may_be_iterated_nested_and_with_next() -> None:
    items = Deduplicator(Table("{a}"))
    for a in (1, 2, 1):
        items.append(Item(a=a))
    assert [(x.a, y.a) for x in items for y in items] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    iter(items)
    assert [next(items).a, next(items).a] == [1, 2]
    with pytest.raises(StopIteration):
        next(items)


def test_large_integers_are_ordered_exactly() -> None:
    assert DisplayValue(2**60) < DisplayValue(2**60 + 1)


def test_order_survives_nan() -> None:
    values = [3, float("nan"), 1, "x", None, 2]
    assert [repr(v) for v in sorted(values, key=DisplayValue)] == ["None", "1", "2", "3", "nan", "'x'"]


def test_display_value_compares_with_its_kind_only() -> None:
    assert DisplayValue(1) != 1
    assert DisplayValue("5").value == "5"
    with pytest.raises(TypeError):
        _ = DisplayValue(1) < 2
    with pytest.raises(TypeError):
        hash(DisplayValue(1))


def test_plain_datetime_is_left_to_python() -> None:
    assert field(":%Y", datetime(2021, 6, 10)) == "2021"


def test_a_format_with_fields_in_a_spec_is_that_of_str_format() -> None:
    item = SimpleNamespace(name="job", width=7)
    assert OutputFormat("{name:>{0.width}}|{width}", headings={"name": "NAME", "width": "WIDTH"}).format(item) == (
        "{0.name:>{0.width}}|{0.width}".format(item)
    )
