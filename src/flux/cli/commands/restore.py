"""flux restore — stores what an archive holds as a tree of the KVS (spec 05, 11.5 and 13.3).

Rules:

- A path is a key: its slashes are dots. Files and links are restored, and directories that are empty.
- Blobs are stored as they are read, `--maxreqs` at a time. The tree of keys is held in memory until the end, when
  its directories are stored, those below before those above; nothing refers to any of it before that.
- A value shorter than 72 bytes is kept in its directory, as in the reference: the same archive, the same root.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

from flux.cli.blob_store import BlobStore
from flux.cli.options import Command, Option, Parsed
from flux.cli.progress_line import ProgressLine, maxreqs
from flux.cli.tool import Failure, connect, run, text_of
from flux.cli.tree_walk import store_tree
from flux.core import content_rpc, kvs_rpc, treeobj
from flux.core.flux_t import FluxT
from flux.core.kvs_txn import Txn

if TYPE_CHECKING:
    import tarfile

COMMAND = Command(
    "restore",
    "Read an archive into the KVS",
    [
        Option("v", "verbose", "Print the keys."),
        Option("q", "quiet", "Print no progress."),
        Option("", "checkpoint", "Make it what the next KVS starts with. The kvs module must not be loaded."),
        Option("", "key", "Make it the directory KEY.", "KEY"),
        Option("", "no-cache", "Write to the backing store, past the content cache."),
        Option("", "size-limit", "Leave out values of more than SIZE bytes; with a suffix such as 100M.", "SIZE"),
        Option("", "maxreqs", "Have N requests under way at a time (default 256).", "N"),
        Option("", "sd-notify", "Report progress to systemd."),
    ],
    "INFILE",
    (1, 1),
    builtin=True,
    description="Stores the files of a tar archive, such as flux dump writes, as keys. INFILE - is standard input; "
    "compressed archives are recognized.",
    examples=(
        ("flux restore --key=old state.tgz", "Put what was dumped below the key old."),
        ("flux dump - | flux restore --key=copy -", "Put a copy of all keys below another."),
    ),
    see_also=("dump", "kvs", "start"),
)

#: Values of this many bytes get a blob of their own.
_BLOB_SIZE = 72

_SUFFIXES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str) -> int:
    """The bytes of a text such as 100M. Raises ValueError."""
    suffix = text[-1:].upper()
    if suffix not in _SUFFIXES or not suffix:
        suffix = ""
    size = float(text[: len(text) - len(suffix)]) * _SUFFIXES[suffix]
    if not 0 <= size < float("inf"):
        raise ValueError("not a size")
    return int(size)


class _Restore:
    """The tree that is being made.

    Attributes:
        newest: when the newest file of the archive was modified.
    """

    def __init__(self, ctx: FluxT, parsed: Parsed, hash_name: str) -> None:
        self._verbose = parsed.has("verbose")
        self._blobs = BlobStore(ctx, hash_name, maxreqs(parsed, 256), parsed.has("no-cache"))
        self._size_limit: int | None = None
        limit = parsed.value("size-limit")
        if limit is not None:
            try:
                self._size_limit = parse_size(limit)
            except ValueError:
                raise Failure(f"invalid --size-limit value '{limit}': it must be a size such as 500K or 1G") from None
        self._root: dict[str, Any] = {}  # names to directories like this one, or to tree objects (in a list)
        self.newest = 0.0
        self._progress = ProgressLine("flux-restore", parsed, "restored {} keys ({} blobs)", ctx)

    def read(self, archive: tarfile.TarFile) -> None:
        """Takes in an archive. Raises Failure, OSError."""
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # it would remember them all
            key = [name for name in member.name.replace("/", ".").split(".") if name]
            if not key:
                continue
            if member.isreg():
                self._file(archive, member, key)
            elif member.issym():
                namespace, colons, target = member.linkname.partition("::")
                link = treeobj.symlink(target, namespace) if colons else treeobj.symlink(member.linkname)
                self._add(member, key, link)
            elif member.isdir():
                self._place(key, {})

    def _file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, key: list[str]) -> None:
        if self._size_limit is not None and member.size > self._size_limit:
            self._progress.message(f"{'.'.join(key)}: {member.size} bytes exceed the size limit, skipped")
            return
        file = archive.extractfile(member)
        assert file is not None  # a regular file
        data = file.read()
        self._add(member, key, treeobj.val(data) if member.size < _BLOB_SIZE else treeobj.valref(self._store(data)))

    def _add(self, member: tarfile.TarInfo, key: list[str], obj: dict[str, Any]) -> None:
        self.newest = max(self.newest, member.mtime)
        self._place(key, [obj])
        if self._verbose:
            print(".".join(key), file=sys.stderr)
        self._progress.advance()

    def _place(self, key: list[str], entry: dict[str, Any] | list[Any]) -> None:
        parent = self._root
        for name in key[:-1]:
            below = parent.get(name)
            if not isinstance(below, dict):
                below = parent[name] = {}  # a value where a directory has to be gives way
            parent = below
        if isinstance(entry, list) or not isinstance(parent.get(key[-1]), dict):
            parent[key[-1]] = entry

    def _store(self, data: bytes) -> str:
        """Has a blob stored, and returns its name. Raises Failure for one that could not be."""
        name = self._blobs(data)
        self._progress.advance(1)
        return name

    def finish(self) -> str:
        """Stores the directories; returns the blobref of the root. Raises Failure."""
        rootref = store_tree(self._root, self._store)
        self._blobs.finish()
        self._progress.end()
        return rootref


def _archive(stack: ExitStack, path: str) -> tarfile.TarFile:
    import tarfile

    source: BinaryIO = sys.stdin.buffer
    if path != "-":
        try:
            source = stack.enter_context(open(path, "rb"))  # noqa: SIM115
        except OSError as exc:
            raise Failure(f"Failed to open '{path}'", None, (text_of(exc),)) from None
    return stack.enter_context(tarfile.open(fileobj=source, mode="r|*"))


def _body(parsed: Parsed) -> int:
    key = parsed.value("key")
    to_checkpoint = parsed.has("checkpoint")
    if (key is None) == (not to_checkpoint):
        raise Failure("Please specify a restore target with --checkpoint or --key")
    import tarfile

    (path,) = parsed.words
    with connect(COMMAND) as handle, ExitStack() as stack:
        core = handle.core
        if to_checkpoint and content_rpc.kvs_is_loaded(core):
            raise Failure("please unload kvs module before using --checkpoint")
        restore = _Restore(core, parsed, handle.attr_get("content.hash"))
        try:
            restore.read(_archive(stack, path))
        except (tarfile.TarError, EOFError) as exc:
            raise Failure(f"error reading '{path}': {exc}") from None
        rootref = restore.finish()
        if not parsed.has("quiet"):
            where = "checkpoint for next KVS start" if key is None else f"KVS key '{key}'"
            name, _, digits = rootref.partition("-")
            print(f"flux-restore: writing snapshot {name}-{digits[:8]} to {where}", file=sys.stderr)
        try:
            if key is None:
                kvs_rpc.wait(content_rpc.checkpoint_put(core, rootref, 0, restore.newest))
            else:
                txn = Txn()
                txn.put_treeobj(key, treeobj.encode(treeobj.dirref(rootref)))
                kvs_rpc.wait(kvs_rpc.commit(core, None, 0, txn))
        except OSError as exc:
            raise Failure(f"error updating {'checkpoint' if key is None else key}: {text_of(exc)}") from None
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
