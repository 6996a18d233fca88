"""`OutputFormat`: the language that tells listing tools what to print (spec 02, 13.3; spec 08, section 4).

A format is literal text and replacement fields, ``{id.f58:>12} ?:{queue:<8.8} +:{name}``, with an optional
prefix ``sort:KEY,-KEY``. Rules that hold here:

- A format is kept as columns: the literal text before a field, and the field. Everything else (the header's
  format, a format without some field, ...) is made from the columns.
- A sentinel is the end of a literal right before a field: ``?:`` drops the column if it is empty for all
  items, ``+:`` makes it as wide as its widest value, ``?+:`` both. It is an instruction and never printed.
- A column goes or stays together with the literal before it.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Any, NamedTuple, Self, TypeVar

from flux.util.formatspec import FormatSpec
from flux.util.formatter import UtilFormatter, empty_outputs
from flux.util.values import DisplayValue

_Item = TypeVar("_Item")

_SENTINELS = ("?+:", "?:", "+:")  # longest first: "+:" ends "?+:"


class _Column(NamedTuple):
    """Literal text and the field that follows it; no field for text at the end of a format."""

    literal: str
    field: str | None
    spec: str
    conversion: str | None

    @property
    def sentinel(self) -> str:
        if self.field is not None:
            for sentinel in _SENTINELS:
                if self.literal.endswith(sentinel):
                    return sentinel
        return ""

    @property
    def heading(self) -> str:
        """The key of the heading: fields may be written as attributes of the first argument."""
        return (self.field or "").removeprefix("0.")

    def plain(self) -> _Column:
        """The column without its sentinel."""
        return self._replace(literal=self.literal.removesuffix(self.sentinel))

    def text(self, prepend: str = "") -> str:
        """The column as a piece of a format, with `prepend` in front of the name of its field."""
        literal = self.literal.replace("{", "{{").replace("}", "}}")
        if self.field is None:
            return literal
        name = self.field if self.field.startswith("0.") else prepend + self.field
        conversion = f"!{self.conversion}" if self.conversion else ""
        spec = f":{self.spec}" if self.spec else ""
        return f"{literal}{{{name}{conversion}{spec}}}"

    def measured(self) -> _Column:
        """What a column is measured by: its converted value, without layout.

        For a time, strftime's part of the spec is no layout: it says what the value is.
        """
        strftime = self.spec.partition("::")[0] if self.conversion == "d" else ""
        return self._replace(literal="", spec=strftime)

    def widened(self, width: int) -> _Column:
        """The column at least `width` wide."""
        strftime, spec = "", self.spec
        if self.conversion == "d":
            strftime, _, spec = self.spec.partition("::")
            strftime += "::"
        layout = FormatSpec(spec)
        layout.width = max(width, int(layout.width or 0))
        return self._replace(spec=f"{strftime}{layout}")


def _parse(fmt: str) -> list[_Column]:
    pieces = string.Formatter().parse(fmt)
    return [_Column(literal, field, spec or "", conv) for literal, field, spec, conv in pieces]


class OutputFormat:
    """A parsed output format.

    Args:
        fmt: the format, perhaps with a sort prefix.
        headings: heading of each field that may be used, by field name; by default the class's `headings`.
        prepend: what goes before the names of fields to find them in the arguments of `str.format`; None
            means the default, attributes of the first argument.
        nullify_expansion_sentinel: ignored.

    Raises ValueError for a format that does not parse, an unknown field or an unknown sort key.

    Tools make a subclass with their own `headings`, and if need be `formatter`. `sort_keys` is a list of
    ``(field, reverse)``.
    """

    formatter: type[UtilFormatter] = UtilFormatter
    headings: Mapping[str, str] = {}

    FormatSpec = FormatSpec

    class HeaderFormatter(UtilFormatter):
        """Looks fields up by their whole names: ``{a.b}`` is the keyword argument ``a.b``."""

        def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
            return kwargs[field_name], field_name

    def __init__(
        self,
        fmt: str,
        headings: Mapping[str, str] | None = None,
        prepend: str | None = "0.",
        nullify_expansion_sentinel: bool = False,
    ) -> None:
        if headings is not None:
            self.headings = headings
        self._prepend = "0." if prepend is None else prepend
        self._set_format(fmt)

    def _set_format(self, fmt: str) -> None:
        self.sort_keys: list[tuple[str, bool]] = []
        self._sort_blank = False
        if fmt.startswith("sort:"):
            end = min((at for at in (fmt.find(" "), fmt.find("{")) if at >= 0), default=len(fmt))
            self._sort_blank = fmt[end : end + 1] == " "
            self.set_sort_keys(fmt[len("sort:") : end])
            fmt = fmt[end + self._sort_blank :]
        self._original = fmt
        self._columns = _parse(fmt)
        for column in self._columns:
            if column.field is not None and column.heading not in self.headings:
                raise ValueError(f"Unknown format field: {column.heading}")
        self._line_format = self._join([column.plain() for column in self._columns], self._prepend)

    @staticmethod
    def _join(columns: Iterable[_Column], prepend: str = "") -> str:
        return "".join([column.text(prepend) for column in columns])

    def _with_sort_prefix(self, fmt: str) -> str:
        if not self.sort_keys:
            return fmt
        keys = ",".join([f"-{key}" if reverse else key for key, reverse in self.sort_keys])
        # Without the blank that the user wrote, the keys would run into text that is no field.
        blank = " " if self._sort_blank or (fmt and not fmt.startswith("{")) else ""
        return f"sort:{keys}{blank}{fmt}"

    @property
    def fields(self) -> list[str]:
        """The fields needed, those only sorted by included; each once, in no particular order."""
        used = [column.field for column in self._columns if column.field is not None]
        return list(dict.fromkeys([*used, *(key for key, _ in self.sort_keys)]))

    def get_format(self, orig: bool = False, include_sort_prefix: bool = True) -> str:
        """The format for `str.format`, or with `orig` as it was given."""
        if not orig:
            return self.get_format_prepended(self._prepend, include_sort_prefix=include_sort_prefix)
        return self._with_sort_prefix(self._original) if include_sort_prefix else self._original

    def get_format_prepended(
        self,
        prepend: str,
        except_fields: Collection[str] | None = None,
        include_sort_prefix: bool = True,
        nullify_expansion_sentinel: bool = False,
    ) -> str:
        """The format with `prepend` before the name of each field.

        Args:
            except_fields: fields to leave out. Literal text before them stays if it is more than blanks.
            nullify_expansion_sentinel: columns that would be widened lose their sentinel and their spec.
        """
        columns = []
        for column in self._columns:
            if column.field is not None and column.field in (except_fields or ()):
                kept = column.plain().literal
                if kept.strip():
                    columns.append(_Column(kept, None, "", None))
            elif nullify_expansion_sentinel and column.sentinel.endswith("+:"):
                columns.append(column.plain()._replace(spec=""))
            else:
                columns.append(column)
        fmt = self._join(columns, prepend)
        return self._with_sort_prefix(fmt) if include_sort_prefix else fmt

    def copy(self, except_fields: Collection[str] | None = None, nullify_expansion: bool = False) -> Self:
        """Another object of the same class, headings and sort keys; see `get_format_prepended`."""
        # Not by the constructor: those of subclasses take what arguments they like.
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._set_format(self.get_format_prepended("", except_fields, True, nullify_expansion))
        return other

    def header_format(self) -> str:
        """The format of the header: of a field's spec only alignment and width matter to its heading."""
        columns = []
        for column in self._columns:
            spec = FormatSpec(column.spec)
            columns.append(column._replace(spec=f"{spec.align}{spec.width_str}", conversion=None))
        return self._join(columns)

    def header(self, width: int = -1) -> str:
        """The header line.

        Args:
            width: characters to cut it to, ``+`` in the last place; 0 for the width of the terminal, if there
                is one; negative for no limit.
        """
        columns = [column.plain() for column in _parse(self.header_format())]
        headings = {column.field: self.headings[column.heading] for column in columns if column.field is not None}
        return _cut(self.HeaderFormatter().vformat(self._join(columns), (), headings), width)

    def format(self, obj: Any) -> str:
        """The line of an object.

        Raises AttributeError for an attribute it does not have, KeyError for a field that is no attribute and
        is missing, TypeError or ValueError where a conversion or spec does not suit the value.
        """
        return self._formatted(self._line_format, obj)

    def _formatted(self, fmt: str, obj: Any) -> str:
        formatter = self.formatter()
        pieces = _pieces(fmt)
        try:
            if pieces is None:
                return formatter.format(fmt, obj)
            text = []
            for literal, field, spec, conversion in pieces:
                text.append(literal)
                if field is not None:
                    value = formatter.convert_field(formatter.get_field(field, (obj,), {})[0], conversion)
                    text.append(formatter.format_field(value, spec))
            return "".join(text)
        except KeyError as exc:
            raise KeyError(f"Invalid format field {exc} for {type(obj)}") from exc

    def filter(self, items: Iterable[Any], no_header: bool = False) -> str:
        """The format (fields without prefix) that the sentinels make of this one for these items.

        With `no_header` columns need not be as wide as their headings. This object loses its sentinels.
        """
        fmt = self._join(self._without_sentinels(items, no_header))
        self._columns = [column.plain() for column in self._columns]
        return self._with_sort_prefix(fmt)

    def _without_sentinels(self, items: Iterable[Any], no_header: bool) -> list[_Column]:
        marked = [at for at, column in enumerate(self._columns) if column.sentinel]
        measures = [(at, self._columns[at].measured().text(self._prepend)) for at in marked]
        widest = dict.fromkeys(marked, 0)
        empty = set(marked)
        nothing = empty_outputs()
        for item in items if marked else ():
            for at, measure in measures:
                text = self._formatted(measure, item)
                if text not in nothing:
                    empty.discard(at)
                    widest[at] = max(widest[at], len(text))
        columns = []
        for at, column in enumerate(self._columns):
            sentinel, column = column.sentinel, column.plain()
            if at in empty and sentinel.startswith("?"):
                continue
            if sentinel.endswith("+:"):
                heading = 0 if no_header else len(self.headings[column.heading])
                column = column.widened(max(widest[at], heading))
            columns.append(column)
        return columns

    def set_sort_keys(self, sort_keys: str) -> None:
        """Sorts by these comma-separated fields instead; ``-`` before one reverses it.

        Raises ValueError for a field that is none.
        """
        keys = []
        for key in filter(None, map(str.strip, sort_keys.split(","))):
            field = key.removeprefix("-")
            if field not in self.headings:
                raise ValueError(f"Invalid sort key: {field}")
            keys.append((field, field != key))
        self.sort_keys = keys

    def sort_items(self, items: list[_Item]) -> list[_Item]:
        """Sorts a list in place by the sort keys, if there are any, and returns it. The sort is stable."""
        for key, reverse in reversed(self.sort_keys):
            value_of = attrgetter(key)
            items.sort(key=lambda item, of=value_of: DisplayValue(of(item)), reverse=reverse)  # type: ignore[misc]
        return items

    def print_items(
        self,
        items: Iterable[_Item],
        no_header: bool = False,
        width: int = -1,
        pre: Callable[[_Item], object] | None = None,
        post: Callable[[_Item], object] | None = None,
    ) -> None:
        """Prints the header and the sorted lines of all items, except lines that are blank.

        Args:
            width: see `header`.
            pre, post: called with the item right before and after its line is printed.
        """
        items = list(items)
        table = self.copy()
        table._set_format(table.filter(items, no_header))
        header = "" if no_header else table.header(width)
        if header.strip():
            print(header)
        for item in table.sort_items(items):
            line = table.format(item)
            if not line.strip():
                continue
            if pre is not None:
                pre(item)
            print(_cut(line, width))
            if post is not None:
                post(item)


@lru_cache(maxsize=64)
def _pieces(fmt: str) -> list[tuple[str, str | None, str, str | None]] | None:
    """A format taken apart, as `string.Formatter.format` does for every object; None for what takes more than that.

    That is fields in specs, fields numbered by where they stand, and what is no format.
    """
    pieces = []
    try:
        for literal, field, spec, conversion in string.Formatter().parse(fmt):
            if field is not None and ("{" in (spec or "") or not field or field[0] in ".["):
                return None
            pieces.append((literal, field, spec or "", conversion))
    except ValueError:
        return None
    return pieces


def _cut(line: str, width: int) -> str:
    if width == 0:
        from shutil import get_terminal_size

        width = get_terminal_size((0, 0)).columns
    if 0 < width < len(line):
        return line[: width - 1] + "+"
    return line
