"""flux content — stores and loads blobs, and looks at checkpoints (spec 05, 13.2)."""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import Failure, OutputClosed, call, connect, run, show, text_of
from flux.core import content_rpc, kvs_rpc, treeobj
from flux.core.future_state import RpcState
from flux.core.handle import Flux

_BYPASS = Option("b", "bypass-cache", "Go past the cache, to the backing store.")

COMMAND = Command(
    "content",
    "Store and load blobs",
    subcommands=[
        Command("content load", "Write blobs to standard output", [_BYPASS], "[BLOBREF ...]", (0, None)),
        Command(
            "content store",
            "Store standard input, and print the blobref",
            [_BYPASS, Option("", "chunksize", "Store it in blobs of N bytes.", "N")],
        ),
        Command("content flush", "Wait until all blobs of this rank are in the backing store"),
        Command("content dropcache", "Drop the blobs that are in this rank's memory only to be there"),
        Command(
            "content checkpoint",
            "List and change checkpoints",
            subcommands=[
                Command(
                    "content checkpoint list",
                    "List checkpoints, the newest first",
                    [
                        Option("n", "no-header", "Print no header."),
                        Option("j", "json", "Print a JSON object a line."),
                    ],
                ),
                Command(
                    "content checkpoint update",
                    "Make a root what the next KVS starts with; the kvs module must not be loaded",
                    (),
                    "blobref",
                    (1, 1),
                ),
            ],
        ),
    ],
    description="The content store keeps what the KVS is made of: blobs, which are named by their hash.",
    examples=(
        ("echo hello | flux content store", "Store a blob, and print its blobref."),
        ("flux content load sha1-f572d396fae9206628714fb2ce00f72e94f2258f", "Print it."),
    ),
    see_also=("kvs", "dump", "restore", "fsck"),
)

#: Requests that are under way at the same time.
_AHEAD = 64


def _blobrefs(parsed: Parsed) -> Iterator[str]:
    if parsed.words:
        yield from parsed.words
    else:
        for line in sys.stdin:
            yield from line.split()


def _load(handle: Flux, parsed: Parsed) -> None:
    window: deque[RpcState] = deque()
    some = False
    for blobref in _blobrefs(parsed):
        some = True
        try:
            window.append(content_rpc.load(handle.core, blobref, parsed.has("bypass-cache")))
        except OSError as exc:
            _write_all(window)
            raise Failure(f"error loading blob: {text_of(exc)}") from None
        if len(window) >= _AHEAD:
            _write(window.popleft())
    _write_all(window)
    if not some:
        raise Failure("no blobrefs were specified")


def _write_all(window: deque[RpcState]) -> None:
    while window:
        _write(window.popleft())


def _write(state: RpcState) -> None:
    try:
        data = content_rpc.blob(state)
    except OSError as exc:
        raise Failure(f"error loading blob: {text_of(exc)}") from None
    try:
        sys.stdout.buffer.write(data)
    except BrokenPipeError:
        raise OutputClosed from None


def _chunks(source: BinaryIO, size: int) -> Iterator[bytes]:
    if not size:
        yield source.read()
        return
    while chunk := source.read(size):
        yield chunk


def _store(handle: Flux, parsed: Parsed) -> None:
    given = parsed.value("chunksize")
    if given is not None and not (given.isascii() and given.isdigit() and int(given)):
        raise Failure(f"invalid --chunksize value '{given}': it must be a number of bytes")
    hash_name = handle.attr_get("content.hash")
    for chunk in _chunks(sys.stdin.buffer, int(given or 0)):
        try:
            kvs_rpc.wait(content_rpc.store(handle.core, chunk, parsed.has("bypass-cache")))
        except OSError as exc:
            raise Failure(f"error storing blob: {text_of(exc)}") from None
        show(treeobj.blobref(chunk, hash_name))


def _flush(handle: Flux, parsed: Parsed) -> None:
    call(handle, "content.flush", None, "content.flush")


def _dropcache(handle: Flux, parsed: Parsed) -> None:
    call(handle, "content.dropcache", None, "content.dropcache")


def _list(handle: Flux, parsed: Parsed) -> None:
    found = call(handle, "content.checkpoint-get", None, "error fetching checkpoints", 0)["value"]
    checkpoints: list[dict[str, Any]] = found if isinstance(found, list) else [found]
    if parsed.has("json"):
        for checkpoint in checkpoints:
            show(json.dumps(checkpoint, separators=(",", ":")))
        return
    form = "{:<10} {:<10} {:<20} {}"
    if not parsed.has("no-header"):
        show(form.format("Index", "Sequence", "Time", "Rootref"))
    for index, checkpoint in enumerate(checkpoints):
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(checkpoint.get("timestamp", 0)))
        show(form.format(index, checkpoint.get("sequence", 0), stamp, checkpoint["rootref"]))


def _update(handle: Flux, parsed: Parsed) -> None:
    (blobref,) = parsed.words
    if not treeobj.is_blobref(blobref):
        raise Failure(f"invalid blobref '{blobref}'")
    if content_rpc.kvs_is_loaded(handle.core):
        raise Failure("please unload kvs module before updating checkpoint")
    try:
        sequence = content_rpc.newest(content_rpc.checkpoint_get(handle.core)).get("sequence", 0) + 1
    except FileNotFoundError:
        sequence = 0
    except OSError as exc:
        raise Failure(f"error fetching checkpoint: {text_of(exc)}") from None
    try:
        kvs_rpc.wait(content_rpc.checkpoint_put(handle.core, blobref, sequence, time.time()))
    except OSError as exc:
        raise Failure(f"error updating checkpoint: {text_of(exc)}") from None


_ACTIONS: dict[str, Callable[[Flux, Parsed], None]] = {
    "load": _load,
    "store": _store,
    "flush": _flush,
    "dropcache": _dropcache,
    "list": _list,
    "update": _update,
}


def _body(parsed: Parsed) -> int:
    with connect(COMMAND) as handle:
        _ACTIONS[parsed.command.name.split()[-1]](handle, parsed)
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
