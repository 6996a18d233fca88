"""What the `flux kvs` commands share: the connection, output as bytes, errors, new roots."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from flux.cli.options import Parsed
from flux.cli.tool import Failure, OutputClosed, text_of
from flux.cli.tool import connect as connect_to
from flux.core import kvs_rpc, treeobj
from flux.core.handle import Flux

if TYPE_CHECKING:
    from flux.core.future_state import FutureState
    from flux.core.kvs_txn import Txn

__all__ = ["FLUSH", "commit", "connect", "failure", "line", "number", "text", "width", "write"]

#: Output that somebody waits for.
FLUSH = True


def connect() -> Flux:
    """A handle. Raises Failure."""
    from flux.cli.commands.kvs import COMMAND

    return connect_to(COMMAND)


def failure(what: str, error: OSError) -> Failure:
    """``flux-kvs: WHAT: TEXT``, with what else is known of the error in further lines. `what`: a key."""
    text = f"{what}: {text_of(error)}" if what else "a key must not be empty"
    return Failure(text, None, tuple(getattr(error, "__notes__", ())))


def write(data: bytes, flush: bool = False) -> None:
    """Writes to stdout. Raises OutputClosed."""
    try:
        sys.stdout.buffer.write(data)
        if flush:
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise OutputClosed from None


def text(data: bytes) -> str:
    """Bytes as text that `line` gives back as they were."""
    return data.decode("utf-8", "surrogateescape")


def line(words: str, flush: bool = False) -> None:
    """Prints a line."""
    write(words.encode("utf-8", "surrogateescape") + b"\n", flush)


def number(parsed: Parsed, name: str, default: int = 0) -> int:
    """The whole number that an option has as argument. Raises Failure."""
    given = parsed.value(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit()):
        raise Failure(f"invalid --{name} value '{given}': it must be a whole number")
    return int(given)


def width(parsed: Parsed) -> int:
    """The characters that a line may have: --width, or those of the terminal, or $COLUMNS, or 80; 0: any number."""
    if parsed.has("width"):
        return number(parsed, "width")
    if sys.stdout.isatty():
        return os.get_terminal_size(sys.stdout.fileno()).columns
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isascii() and columns.isdigit() else 80


def commit(handle: Flux, parsed: Parsed, txn: Txn, flags: int = 0) -> None:
    """Commits, and prints what the options ask for of the new root. Raises Failure."""
    try:
        state = kvs_rpc.commit(handle.core, parsed.value("namespace"), flags, txn)
        kvs_rpc.wait(state)
    except OSError as exc:
        raise failure("flux_kvs_commit", exc) from None
    if parsed.has("treeobj-root"):
        line(root_text(state))
    elif parsed.has("blobref"):
        line(kvs_rpc.root_reference(state))
    elif parsed.has("sequence"):
        line(str(kvs_rpc.root_sequence(state)))


def root_text(state: FutureState) -> str:
    """The root that a commit or getroot tells of, as a tree object's text."""
    return treeobj.encode(treeobj.dirref(kvs_rpc.root_reference(state)))
