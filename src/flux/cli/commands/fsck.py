"""flux fsck — checks that all of the newest checkpoint is in the backing store (spec 05, 13.3).

Rules:

- Every blob of the tree is asked for: the store reads it, and compares it with its name.
- With --repair, what is damaged is taken out: values whose blobs are not all there go to `lost+found` with those that
  are, directories that are not there go. The result is a new checkpoint; nothing is deleted.
- With --job-aware, a job of which anything is damaged goes to `lost+found` as a whole, for half of one is of no use.
"""

from __future__ import annotations

import errno
import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import Failure, connect, run, text_of
from flux.cli.tree_walk import read_directory, store_tree
from flux.core import content_rpc, kvs_rpc, treeobj
from flux.core.flux_t import FluxT
from flux.core.future_state import RpcState

COMMAND = Command(
    "fsck",
    "Check the integrity of the KVS on disk",
    [
        Option("v", "verbose", "Print each damaged blob, too."),
        Option("q", "quiet", "Print only errors."),
        Option("r", "rootref", "Check the tree with this root, not the newest checkpoint.", "BLOBREF"),
        Option("R", "repair", "Take out what is damaged, and write a new checkpoint. Without the kvs module only."),
        Option("j", "job-aware", "With --repair: take out jobs as a whole."),
    ],
    builtin=True,
    description="Exits with 1 if anything is damaged.",
    examples=(("flux fsck -v", "Check, and say what is missing."),),
    see_also=("dump", "restore", "content", "gc"),
)

#: Where what was damaged is put.
LOST = "lost+found"
#: Blobs that are asked for at the same time.
_AHEAD = 256

_is_job = re.compile(r"job(\.[0-9a-f]{4}){4}").fullmatch


class _Place:
    """A directory on the way to what is checked now."""

    def __init__(self, key: str, name: str, entries: dict[str, dict[str, Any]]) -> None:
        self.key = key
        self.name = name
        self.entries = entries
        self.rest: Iterator[tuple[str, dict[str, Any]]] = iter(list(entries.items()))
        self.changed = False  # an entry is to be another, or none
        self.damaged = False  # something in it, at any depth

    def key_of(self, name: str) -> str:
        return f"{self.key}.{name}" if self.key else name


class _Check:
    """The walk through a tree.

    Attributes:
        errors: how many keys are damaged.
    """

    def __init__(self, ctx: FluxT, parsed: Parsed, hash_name: str) -> None:
        self._ctx = ctx
        self._hash = hash_name
        self._verbose = parsed.has("verbose")
        self._repair = parsed.has("repair")
        self._job_aware = parsed.has("job-aware")
        self._under_way: deque[tuple[_Place, str, list[RpcState]]] = deque()
        self._requests = 0
        self._lost: dict[str, dict[str, Any]] = {}  # by key
        self.errors = 0

    def run(self, rootref: str) -> str:
        """Checks a tree; returns its root, or that of the repaired one. Raises Failure."""
        try:
            entries = read_directory(self._ctx, rootref, True)
        except OSError as exc:
            self.errors += 1
            raise Failure(f"the root directory {rootref} is damaged: {text_of(exc)}") from None
        # Not recursive: a tree may be deeper than Python's stack.
        places = [_Place("", "", entries)]
        while True:
            place = places[-1]
            below = self._go_on(place)
            if below is not None:
                places.append(below)
                continue
            places.pop()
            self._settle(0)
            if not places:
                break
            self._leave(place, places[-1])
        root = place
        if not self._repair or not (root.changed or self._lost):
            return rootref
        return self._store(self._with_lost(root.entries))

    def _go_on(self, place: _Place) -> _Place | None:
        """Goes through a directory up to the next one in it."""
        for name, obj in place.rest:
            kind = obj["type"]
            if kind == "valref":
                self._ask(place, name, obj["data"])
            elif kind == "dirref":
                try:
                    if len(obj["data"]) != 1:
                        raise OSError(errno.ENOTRECOVERABLE, "a directory must be one blob")
                    entries = read_directory(self._ctx, obj["data"][0], True)
                except OSError as exc:
                    self._damaged(place, name, f"{obj['data'][0]}: {text_of(exc)}")
                    self._drop(place, name)
                    continue
                return _Place(place.key_of(name), name, entries)
            elif kind == "dir":
                return _Place(place.key_of(name), name, obj["data"])
        return None

    def _ask(self, place: _Place, name: str, refs: list[str]) -> None:
        self._settle(_AHEAD)
        self._under_way.append((place, name, [content_rpc.validate(self._ctx, ref) for ref in refs]))
        self._requests += len(refs)

    def _settle(self, most: int) -> None:
        """Waits until fewer blobs are asked for."""
        while self._under_way and self._requests >= most:
            place, name, states = self._under_way.popleft()
            self._requests -= len(states)
            refs = place.entries[name]["data"]
            good, bad = [], []
            for ref, state in zip(refs, states, strict=True):
                try:
                    kvs_rpc.wait(state)
                    good.append(ref)
                except OSError as exc:
                    bad.append(f"{ref}: {text_of(exc)}")
            if bad:
                self._damaged(place, name, *bad)
                if good:
                    self._lost[place.key_of(name)] = treeobj.valref(*good)
                self._drop(place, name)

    def _damaged(self, place: _Place, name: str, *details: str) -> None:
        self.errors += 1
        place.damaged = True
        print(f"flux-fsck: {place.key_of(name)}: {len(details)} of its blobs cannot be read", file=sys.stderr)
        if self._verbose:
            for detail in details:
                print(f"flux-fsck: {detail}", file=sys.stderr)

    def _drop(self, place: _Place, name: str) -> None:
        del place.entries[name]
        place.changed = True

    def _leave(self, place: _Place, parent: _Place) -> None:
        """All that is in a directory has been checked."""
        parent.damaged |= place.damaged
        if not self._repair or not place.changed:
            return
        parent.changed = True
        new = treeobj.dirref(self._store(place.entries))
        if self._job_aware and _is_job(place.key):
            for key in [key for key in self._lost if key.startswith(f"{place.key}.")]:
                name = key[len(place.key) + 1 :]
                if "." not in name:
                    place.entries[name] = self._lost.pop(key)
            self._lost[place.key] = treeobj.dirref(self._store(place.entries))
            del parent.entries[place.name]
        else:
            parent.entries[place.name] = new

    def _store(self, entries: dict[str, dict[str, Any]]) -> str:
        return self._store_blob(treeobj.encode_bytes(treeobj.directory(entries)))

    def _store_blob(self, blob: bytes) -> str:
        kvs_rpc.wait(content_rpc.store(self._ctx, blob))
        return treeobj.blobref(blob, self._hash)

    def _with_lost(self, root: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """The root directory, and what was lost under its keys in `lost+found`."""
        if not self._lost:
            return root
        lost: dict[str, Any] = {}
        for key, obj in self._lost.items():
            below = lost
            *path, last = key.split(".")
            for name in path:
                below = below.setdefault(name, {})
            below[last] = [obj]
        return {**root, LOST: treeobj.dirref(store_tree(lost, self._store_blob))}


def _say(parsed: Parsed, text: str) -> None:
    if not parsed.has("quiet"):
        print(text, file=sys.stderr)


def _body(parsed: Parsed) -> int:
    rootref = parsed.value("rootref")
    with connect(COMMAND) as handle:
        core = handle.core
        if parsed.has("repair") and content_rpc.kvs_is_loaded(core):
            raise Failure("please unload kvs module before using --repair")
        sequence = 0
        if rootref is None:
            try:
                checkpoint = content_rpc.newest(content_rpc.checkpoint_get(core))
            except OSError as exc:
                raise Failure(f"error fetching checkpoint: {text_of(exc)}") from None
            rootref, sequence = checkpoint["rootref"], checkpoint.get("sequence", 0)
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(checkpoint.get("timestamp", 0)))
            _say(parsed, f"Checking integrity of checkpoint from {stamp}")
        elif not treeobj.is_blobref(rootref):
            raise Failure(f"invalid blobref '{rootref}'")
        check = _Check(core, parsed, handle.attr_get("content.hash"))
        new = check.run(rootref)
        if new != rootref:
            kvs_rpc.wait(content_rpc.checkpoint_put(core, new, sequence + 1, time.time()))
            _say(parsed, f"Repaired: the new root is {new}")
    if check.errors or not parsed.has("quiet"):
        print(f"flux-fsck: Total errors: {check.errors}", file=sys.stderr)
    return 1 if check.errors else 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
