"""flux gc — frees what no tree refers to any more from the backing store (spec 05, 11.6).

What is stored has the number of the newest checkpoint of then, its epoch. All that the checkpoints and namespaces refer
to is given the current epoch; then what has an older one is deleted. What somebody stores meanwhile has the current
one, so that the instance goes on.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from flux.cli.options import Command, Option, Parsed
from flux.cli.progress_line import maxreqs
from flux.cli.tool import Failure, call, connect, run, text_of
from flux.cli.tree_walk import directory_of
from flux.core import content_rpc, kvs_rpc, treeobj
from flux.core.handle import Flux

COMMAND = Command(
    "gc",
    "Free what is not referred to from the backing store",
    [
        Option("v", "verbose", "Print what is done."),
        Option("", "no-cache", "Read from the backing store, past the content cache."),
        Option("", "maxreqs", "Have N requests under way at a time (default 2).", "N"),
        Option("", "test-mark-only", "Delete nothing.", hidden=True),
        Option("", "test-delay-after-list", "Wait for FSD when the roots are known.", "FSD", hidden=True),
    ],
    builtin=True,
    description="Blobs that were stored by hand, and that no key refers to, are freed as well.",
    examples=(("flux gc -v", "Free what can be freed."),),
    see_also=("content", "fsck", "dump"),
)

#: Hashes in a request to mark; blobs and row ids of a request to sweep.
_MARKS = 8192
_DELETE = 4096
_WINDOW = 65536


class _Marker:
    """Marks the blobs of trees, each once."""

    def __init__(self, handle: Flux, parsed: Parsed, epoch: int) -> None:
        self._handle = handle
        self._epoch = epoch
        self._backing = parsed.has("no-cache")
        self._limit = maxreqs(parsed, 2)
        self._seen: set[bytes] = set()
        self._hashes: list[str] = []
        self.marked = 0

    def tree(self, rootref: str) -> None:
        """Marks all of a tree. Raises Failure."""
        pending = list(self._new(rootref))
        while pending:
            refs, pending = pending[: self._limit], pending[self._limit :]
            states = [(ref, content_rpc.load(self._handle.core, ref, self._backing)) for ref in refs]
            for ref, state in states:
                try:
                    entries = directory_of(content_rpc.blob(state))
                except OSError as exc:
                    # Nothing may be deleted that might be referred to from there.
                    raise Failure(f"cannot read the directory {ref}: {text_of(exc)}", "flux") from None
                for obj in entries.values():
                    pending += self._entry(obj)

    def blob(self, ref: str) -> None:
        """Marks a blob."""
        for _ in self._new(ref):
            pass

    def _entry(self, obj: dict[str, Any]) -> Iterator[str]:
        """Marks what an entry refers to; yields the directories to look into."""
        if obj["type"] == "valref":
            for ref in obj["data"]:
                self.blob(ref)
        elif obj["type"] == "dirref":
            for ref in obj["data"]:
                yield from self._new(ref)
        elif obj["type"] == "dir":
            for below in obj["data"].values():
                yield from self._entry(below)

    def _new(self, ref: str) -> Iterator[str]:
        """Marks a blob; yields it if that was not done yet."""
        digest = content_rpc.digest(ref)
        if digest in self._seen:
            return
        self._seen.add(digest)
        self._hashes.append(ref)
        if len(self._hashes) >= _MARKS:
            self.flush()
        yield ref

    def flush(self) -> None:
        """Sends what there is. Raises Failure."""
        hashes, self._hashes = self._hashes, []
        if hashes:
            request = {"epoch": self._epoch, "hashes": hashes}
            self.marked += call(self._handle, "content-backing.mark", request, "content-backing.mark", 0)["marked"]


def _roots(handle: Flux) -> Iterator[tuple[str, str]]:
    """(what it is, blobref) of all roots; that of the primary namespace last, as others may be linked into it."""
    try:
        found = handle.rpc("content.checkpoint-get", None, 0).get()["value"]
    except FileNotFoundError:
        found = []
    for checkpoint in found if isinstance(found, list) else [found]:
        yield "checkpoint", checkpoint["rootref"]
    try:
        spaces = handle.rpc("kvs.namespace-list", None, 0).get()["namespaces"]
    except OSError:
        return  # there is no KVS
    for space in sorted(spaces, key=lambda space: bool(space["namespace"] == "primary")):
        try:
            root = handle.rpc("kvs.getroot", {"namespace": space["namespace"]}, 0).get()
        except OSError:
            continue  # it has gone meanwhile
        yield f"namespace {space['namespace']}", root["rootref"]


def _body(parsed: Parsed) -> int:
    def say(text: str) -> None:
        if parsed.has("verbose"):
            print(f"flux: {text}", file=sys.stderr)

    with connect(COMMAND) as handle:
        call(handle, "content.flush", None, "content.flush", 0)
        info = call(handle, "content-backing.gc-info", {"epoch": 0}, "content-backing.gc-info", 0)
        epoch, high_water = info["current_epoch"], info["high_water"]
        marker = _Marker(handle, parsed, epoch)
        roots = list(_roots(handle))
        _delay(parsed)
        marker.blob(kvs_rpc.empty_root(handle.attr_get("content.hash")))  # what new namespaces begin with
        for what, rootref in roots:
            if treeobj.is_blobref(rootref):
                say(f"marking {what} {rootref}")
                marker.tree(rootref)
        marker.flush()
        deleted = 0
        cursor = high_water if parsed.has("test-mark-only") else 0
        while cursor < high_water:
            request = {
                "epoch": epoch,
                "cursor": cursor,
                "high_water": high_water,
                "delete_cap": _DELETE,
                "window": _WINDOW,
            }
            answer = call(handle, "content-backing.sweep", request, "content-backing.sweep", 0)
            deleted += answer["deleted"]
            cursor = answer["cursor"]
    text = f"gc complete: marked {marker.marked}, reclaimed {deleted} blobs (horizon epoch {epoch})"
    print(f"flux: {text}", file=sys.stderr)
    return 0


def _delay(parsed: Parsed) -> None:
    text = parsed.value("test-delay-after-list")
    if text is not None:
        import time

        from flux.util.durations import parse_fsd

        try:
            time.sleep(parse_fsd(text))
        except ValueError:
            raise Failure(f"invalid duration '{text}'", "flux") from None


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
