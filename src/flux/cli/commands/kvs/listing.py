"""flux kvs dir and ls: what is in directories.

A directory's entries come with its listing, short values with them; only values that are stored in blobs of their own
are asked for, several at a time.
"""

from __future__ import annotations

import errno
import os
import sys
from collections import deque
from collections.abc import Iterator

from flux.cli.commands.kvs.common import connect, failure, line, text, width
from flux.cli.options import Parsed
from flux.cli.tool import text_of
from flux.constants import FLUX_KVS_READDIR, FLUX_KVS_TREEOBJ
from flux.core import kvs_rpc, treeobj
from flux.core.future_state import RpcState
from flux.core.handle import Flux
from flux.core.kvs_dir import DirState

#: Lookups that are under way at the same time.
_AHEAD = 64


class _Reader:
    """Looks keys up where the options say."""

    def __init__(self, handle: Flux, parsed: Parsed) -> None:
        self._core = handle.core
        self._namespace = parsed.value("namespace")
        self._at = parsed.value("at") if any(option.name == "at" for option in parsed.command.options) else None

    def ask(self, key: str, flags: int) -> RpcState:
        """Asks for a key."""
        if self._at is not None:
            return kvs_rpc.lookup_at(self._core, flags, key, self._at)
        return kvs_rpc.lookup(self._core, self._namespace, flags, key)

    def listing(self, key: str) -> DirState:
        """The listing of a directory. Raises OSError."""
        return kvs_rpc.listing(self.ask(key, FLUX_KVS_READDIR))

    def values(self, listing: DirState, names: list[str]) -> Iterator[tuple[str, bytes | None]]:
        """(name, value) of each entry, in order; None for one that is no value. Raises Failure."""
        window: deque[tuple[str, RpcState | None]] = deque()
        rest = iter(names)
        while True:
            while len(window) < _AHEAD and (name := next(rest, None)) is not None:
                is_long = listing.entries[name]["type"] == "valref"
                window.append((name, self.ask(listing.key_at(name), 0) if is_long else None))
            if not window:
                return
            name, state = window.popleft()
            entry = listing.entries[name]
            try:
                if state is not None:
                    yield name, kvs_rpc.value(state)
                else:
                    yield name, treeobj.data_of(entry) if entry["type"] == "val" else None
            except OSError as exc:
                raise failure(listing.key_at(name), exc) from None


# dir


def dir_command(parsed: Parsed) -> int:
    """Prints a directory, a line an entry."""
    key = parsed.words[0] if parsed.words else "."
    with connect() as handle:
        _print_dir(_Reader(handle, parsed), parsed, key, width(parsed))
    return 0


def _print_dir(reader: _Reader, parsed: Parsed, top: str, columns: int) -> None:
    only_keys, recursive = parsed.has("directory"), parsed.has("recursive")
    # Not recursive itself: a tree may be deeper than Python's stack.
    pending = [_entries(reader, top, only_keys)]
    while pending:
        listing, entries = pending[-1]
        for name, value in entries:
            entry, key = listing.entries[name], listing.key_at(name)
            if listing.is_dir(name):
                if recursive:
                    below = _entries(reader, key, only_keys)
                    if below[0].entries:
                        pending.append(below)
                        break
                line(f"{key}.")
            elif only_keys:
                line(key)
            elif entry["type"] == "symlink":
                namespace = entry["data"].get("namespace")
                line(f"{key} -> {namespace + '::' if namespace is not None else ''}{entry['data']['target']}")
            else:
                line(shortened(f"{key} = ", text((value or b"").partition(b"\0")[0]), columns))
        else:
            pending.pop()


def _entries(reader: _Reader, key: str, only_keys: bool) -> tuple[DirState, Iterator[tuple[str, bytes | None]]]:
    try:
        listing = reader.listing(key)
    except OSError as exc:
        raise failure(key, exc) from None
    names = listing.names()
    return listing, ((name, None) for name in names) if only_keys else reader.values(listing, names)


def shortened(label: str, value: str, columns: int) -> str:
    """A label and a value in one line of so many characters, with ``...`` for what is left out; 0: all of it."""
    if columns == 0:
        return label + value
    first, newline, more = value.partition("\n")
    whole = label + first
    if len(whole) > columns:
        return whole[: max(0, columns - 3)] + "..."
    return whole + "..." if newline and more else whole


# ls


def ls_command(parsed: Parsed) -> int:
    """Lists keys, then directories."""
    status = 0
    with connect() as handle:
        printer = _Names(_Reader(handle, parsed), parsed)
        files: list[tuple[str, str]] = []
        directories: list[str] = []
        for key in parsed.words or ["."]:
            try:
                mark = printer.kind(key)
            except OSError as exc:
                shown = key.rstrip(".") or key
                print(f"{shown if exc.errno == errno.ENOTDIR else key}: {text_of(exc)}", file=sys.stderr)
                status = 1
                continue
            if mark == "." and not parsed.has("directory"):
                directories.append(key)
            else:
                files.append((key, mark if key.rstrip(".") else ""))
        printer.names(files)
        headings = len(directories) > 1 or bool(files) or parsed.has("recursive")
        for key in directories:
            printer.directory(key.rstrip(".") or ".", headings)
    return status


class _Names:
    """Prints names in columns."""

    def __init__(self, reader: _Reader, parsed: Parsed) -> None:
        self._reader = reader
        self._follow = not (parsed.has("classify") or parsed.has("directory"))
        self._classify = parsed.has("classify")
        self._recursive = parsed.has("recursive")
        self._columns = 1 if parsed.has("1") else width(parsed)
        self._printed = False  # something that an empty line goes behind

    def kind(self, key: str) -> str:
        """What a key on the command line is, by its mark: ``.`` a directory, ``@`` a link, "" a value.

        Raises OSError, ENOTDIR for a key with a dot at its end that is no directory.
        """
        entry = kvs_rpc.tree_object(self._reader.ask(key, FLUX_KVS_TREEOBJ))
        kind = entry["type"]
        if kind == "symlink" and (self._follow or key.endswith(".")):
            try:
                self._reader.listing(key)
                return "."
            except NotADirectoryError:
                kind = "val"
        if kind in ("dir", "dirref"):
            return "."
        if key.endswith("."):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return "@" if kind == "symlink" else ""

    def names(self, names: list[tuple[str, str]]) -> None:
        """Prints names, each with its mark, in columns."""
        if not names:
            return
        self._printed = True
        cell = max(len(name) for name, _ in names) + 4
        shown = [name + (mark if self._classify else "") for name, mark in names]
        across = len(shown) if self._columns == 0 else max(1, self._columns // cell)
        for start in range(0, len(shown), across):
            line("".join(f"{name:<{cell}}" for name in shown[start : start + across]).rstrip(" "))

    def directory(self, top: str, headings: bool) -> None:
        """Prints what is in a directory, and with --recursive what is below it. Raises Failure."""
        pending = [top]
        while pending:
            key = pending.pop()
            try:
                listing = self._reader.listing(key)
            except OSError as exc:
                raise failure(key, exc) from None
            if headings:
                if self._printed:
                    line("")
                line(f"{key}:")
                self._printed = True
            names = listing.names()
            self.names([(name, _mark(listing, name)) for name in names])
            if self._recursive:
                pending += reversed([listing.key_at(name) for name in names if listing.is_dir(name)])


def _mark(listing: DirState, name: str) -> str:
    if listing.is_dir(name):
        return "."
    return "@" if listing.is_symlink(name) else ""
