"""flux archive — files in the KVS, to have them on other nodes (RFC 37; spec 05, 13.3).

Rules:

- An archive is one value: a JSON array of file objects at `archive.NAME`, which is written when all content is stored.
- Blobs are stored and loaded some at a time, and none is asked for twice in a row.
- What is there is not touched unless the user says so: neither an archive nor a file.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from flux.cli.archive_files import (
    ArchiveError,
    FileObject,
    blobrefs,
    describe,
    extract,
    long_form,
    matching,
    walk,
)
from flux.cli.blob_store import BlobStore
from flux.cli.commands.restore import parse_size
from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import Failure, connect, run, show, text_of
from flux.constants import FLUX_KVS_TREEOBJ, FLUX_KVS_WAITCREATE
from flux.core import content_rpc, kvs_rpc, treeobj
from flux.core.codec import dump_payload
from flux.core.flux_t import FluxT
from flux.core.future_state import RpcState
from flux.core.kvs_txn import Txn

if TYPE_CHECKING:
    from collections.abc import Callable

_NAME = Option("n", "name", "The archive (default main).", "NAME")
_OTHER = Option("", "no-force-primary", "Use the namespace of FLUX_KVS_NAMESPACE, not always the primary one.")
_VERBOSE = Option("v", "verbose", "Print the paths on standard error.", "LEVEL", optional=True)
_DIRECTORY = Option("C", "directory", "Go to DIR first.", "DIR")

COMMAND = Command(
    "archive",
    "Put files into the KVS, and have them on other nodes",
    subcommands=[
        Command(
            "archive create",
            "Archive files, and directories with what is in them",
            [
                _NAME,
                _OTHER,
                _DIRECTORY,
                _VERBOSE,
                Option("", "overwrite", "Replace an archive of that name."),
                Option("", "append", "Add to an archive of that name, if there is one."),
                Option("", "preserve", "Have the content kept by dumps and gc, as long as the archive is there."),
                Option("", "mmap", "Leave content over 1K in its files, which must stay as they are. On rank 0."),
                Option("", "chunksize", "The largest blob (1M).", "N[KMG]", hidden=True),
                Option("", "small-file-threshold", "What is in the archive itself (1K).", "N[KMG]", hidden=True),
                Option("", "disable-mmap", "Read files with read(2).", hidden=True),
            ],
            "PATH...",
            (1, None),
        ),
        Command(
            "archive remove",
            "Remove an archive",
            [_NAME, _OTHER, Option("f", "force", "There need be none.")],
        ),
        Command(
            "archive extract",
            "Write the files of an archive, or those whose paths match PATTERN",
            [
                _NAME,
                _VERBOSE,
                _DIRECTORY,
                Option("", "overwrite", "Replace files that are there."),
                Option("", "waitcreate", "Wait until there is such an archive, at most so long.", "FSD", optional=True),
                _OTHER,
                Option("t", "list-only", "Print the paths, and write nothing."),
            ],
            "[PATTERN]",
            (0, 1),
        ),
        Command(
            "archive list",
            "Print the paths in an archive",
            [
                _NAME,
                _OTHER,
                Option("l", "long", "Print type, mode and size as well."),
                Option("", "raw", "Print the objects of RFC 37."),
            ],
            "[PATTERN]",
            (0, 1),
        ),
    ],
    builtin=True,
    description="Copies files to nodes that share no file system: an archive is made once, and extracted on each node.",
    examples=(
        ("flux archive create -C /data input model", "Archive a file and a directory below /data."),
        ("flux exec -x 0 flux archive extract -C /data", "Write them on all ranks but the first."),
        ("flux archive remove", "Remove the archive."),
    ),
    see_also=("kvs", "exec", "dump"),
)

#: Blobs that are under way at the same time.
_AHEAD = 64


class _Archive:
    """An archive of an instance, there or not."""

    def __init__(self, ctx: FluxT, parsed: Parsed) -> None:
        self._ctx = ctx
        self._namespace = None if parsed.has("no-force-primary") else "primary"
        self.key = f"archive.{parsed.value('name') or 'main'}"

    def read(self, wait: float | None = None) -> list[Any]:
        """The objects. Raises Failure.

        Args:
            wait: seconds to wait for the archive, -1.0 for as long as it takes; None: it is there or not.
        """
        objects = self._read(wait)
        if objects is None:
            where = f"{self._namespace} KVS namespace" if self._namespace else "KVS"
            raise Failure(f"could not lookup {self.key} in {where}: {os.strerror(errno.ENOENT)}")
        return objects

    def existing(self) -> list[Any] | None:
        """The objects; None if there is no archive. Raises Failure."""
        return self._read(None)

    def _read(self, wait: float | None) -> list[Any] | None:
        state = kvs_rpc.lookup(self._ctx, self._namespace, 0 if wait is None else FLUX_KVS_WAITCREATE, self.key)
        try:
            if wait is not None:
                state.wait(wait)
            objects = json.loads(kvs_rpc.value(state))
        except OSError as exc:
            if exc.errno == errno.ENOENT:
                return None
            raise Failure(f"{self.key}: {text_of(exc)}") from None
        except ValueError:
            objects = None
        if not isinstance(objects, list):
            raise Failure(f"{self.key}: the value is no archive of files")
        return objects

    def _kept(self) -> list[str]:
        """The blobrefs that `--preserve` has kept so far."""
        try:
            state = kvs_rpc.lookup(self._ctx, self._namespace, FLUX_KVS_TREEOBJ, f"{self.key}_blobs")
            obj = kvs_rpc.tree_object(state)
        except OSError:
            return []
        return list(obj["data"]) if obj["type"] == "valref" else []

    def write(self, objects: list[FileObject], preserve: bool, append: bool) -> None:
        """Makes it these. Raises Failure."""
        txn = Txn()
        txn.put(self.key, json.dumps(objects, ensure_ascii=False, separators=(",", ":")).encode())
        kept = self._kept() if append else []
        if preserve:
            kept += (ref for one in objects for ref in blobrefs(one))
        if kept:
            txn.put_treeobj(f"{self.key}_blobs", treeobj.encode(treeobj.valref(*dict.fromkeys(kept))))
        else:
            txn.unlink(f"{self.key}_blobs")
        self._commit(txn)

    def remove(self) -> None:
        """There is no such archive any more. Raises Failure."""
        txn = Txn()
        txn.unlink(self.key)
        txn.unlink(f"{self.key}_blobs")
        self._commit(txn)

    def _commit(self, txn: Txn) -> None:
        try:
            kvs_rpc.wait(kvs_rpc.commit(self._ctx, self._namespace, 0, txn))
        except OSError as exc:
            raise Failure(f"{self.key}: {text_of(exc)}") from None


class _Loading:
    """Loads the blobs of a file, some ahead of what is written."""

    def __init__(self, ctx: FluxT, refs: list[str]) -> None:
        self._ctx = ctx
        self._left = deque(refs)
        self._under_way: deque[RpcState] = deque()

    def __call__(self, ref: str) -> bytes:
        while self._left and len(self._under_way) < _AHEAD:
            self._under_way.append(content_rpc.load(self._ctx, self._left.popleft()))
        return content_rpc.blob(self._under_way.popleft())


def _enter(parsed: Parsed) -> None:
    directory = parsed.value("directory")
    if directory is not None:
        try:
            os.chdir(directory)
        except OSError as exc:
            raise Failure(f"chdir {directory}: {text_of(exc)}") from None


def _bytes(parsed: Parsed, name: str, default: int, least: int) -> int:
    given = parsed.value(name)
    if given is None:
        return default
    try:
        size = parse_size(given)
    except ValueError:
        size = -1
    if size < least:
        raise Failure(f"invalid --{name} value '{given}': it must be a size such as 500K or 1M")
    return size


def _map(ctx: FluxT, tag: str, chunk: int, path: str) -> None:
    """Has the content service read a file when it is asked for its content. Raises OSError."""
    request = dump_payload({"path": os.path.abspath(path), "chunksize": chunk, "tag": tag})
    kvs_rpc.wait(ctx.rpc(b"content.mmap-add", request, 0, 0))


def _unmap(ctx: FluxT, tag: str) -> None:
    """Those of an archive no longer. Raises OSError."""
    kvs_rpc.wait(ctx.rpc(b"content.mmap-remove", dump_payload({"tag": tag}), 0, 0))


def _create(ctx: FluxT, parsed: Parsed, hash_name: str) -> None:
    for other in ("preserve", "no-force-primary"):
        if parsed.has("mmap") and parsed.has(other):
            raise Failure(f"--mmap cannot be used with --{other}")
    if parsed.has("overwrite") and parsed.has("append"):
        raise Failure("--overwrite and --append cannot be used together")
    inline, chunk = _bytes(parsed, "small-file-threshold", 1 << 10, 0), _bytes(parsed, "chunksize", 1 << 20, 1)
    archive = _Archive(ctx, parsed)
    before = None if parsed.has("overwrite") else archive.existing()
    if before is not None and not parsed.has("append"):
        raise Failure(f"{archive.key}: Key exists: use --overwrite or --append")
    _enter(parsed)
    store = BlobStore(ctx, hash_name)
    objects: list[FileObject] = []
    tag = archive.key.removeprefix("archive.")
    if parsed.has("overwrite"):
        _unmap(ctx, tag)
    mapped, keep = None, cast("Callable[[bytes], str]", store)
    if parsed.has("mmap") and not parsed.has("disable-mmap"):
        mapped, keep = partial(_map, ctx, tag, chunk), partial(treeobj.blobref, hash_name=hash_name)
    for given in parsed.words:
        for path in walk(given):
            if os.path.normpath(path) in (".", "/"):
                continue  # where it is extracted, there is one
            try:
                objects.append(describe(path, keep, inline, chunk, mapped))
            except OSError as exc:
                raise Failure(f"{path}: {text_of(exc)}") from None
            if parsed.has("verbose"):
                print(objects[-1]["path"], file=sys.stderr)
    store.finish()
    archive.write((before or []) + objects, parsed.has("preserve"), before is not None)


def _extract(ctx: FluxT, parsed: Parsed) -> None:
    wait = None
    if parsed.has("waitcreate"):
        from flux.util.durations import parse_fsd

        given = parsed.value("waitcreate")
        try:
            wait = -1.0 if given is None else parse_fsd(given)
        except ValueError:
            raise Failure(f"invalid --waitcreate value '{given}': it must be a duration such as 10s") from None
    _enter(parsed)
    objects = matching(_Archive(ctx, parsed).read(wait), parsed.words[0] if parsed.words else None)
    for one in objects:
        if parsed.has("list-only"):
            show(one["path"])
            continue
        if parsed.has("verbose"):
            print(one["path"], file=sys.stderr)
        try:
            extract(one, _Loading(ctx, blobrefs(one)), parsed.has("overwrite"))
        except OSError as exc:
            raise Failure(f"{one['path']}: {text_of(exc)}") from None


def _list(ctx: FluxT, parsed: Parsed) -> None:
    for one in matching(_Archive(ctx, parsed).read(), parsed.words[0] if parsed.words else None):
        if parsed.has("raw"):
            show(json.dumps(one, ensure_ascii=False, separators=(",", ":")))
        else:
            show(long_form(one) if parsed.has("long") else one["path"])


def _remove(ctx: FluxT, parsed: Parsed) -> None:
    archive = _Archive(ctx, parsed)
    if not parsed.has("force"):
        archive.read()
    archive.remove()
    _unmap(ctx, archive.key.removeprefix("archive."))


def act(command: Command, name: str, parsed: Parsed) -> int:
    """What a subcommand does.

    Args:
        name: create, extract, list or remove.
    """
    with connect(command) as handle:
        try:
            if name == "create":
                _create(handle.core, parsed, handle.attr_get("content.hash"))
            elif name == "extract":
                _extract(handle.core, parsed)
            elif name == "list":
                _list(handle.core, parsed)
            else:
                _remove(handle.core, parsed)
        except ArchiveError as exc:
            raise Failure(str(exc)) from None
    return 0


def _body(parsed: Parsed) -> int:
    return act(COMMAND, parsed.command.name.rpartition(" ")[2], parsed)


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
