"""flux dump — writes the KVS to a tar archive (spec 05, 11.5 and 13.3).

Rules:

- A key is a path: its dots are slashes. Values are files, links are links. A directory is implied by what is in it;
  only an empty one has an entry, which the reference's `flux restore` passes over, and ours does not.
- What is held in memory at a time: the directories on the way to the current key, and `--maxreqs` blobs.
"""

from __future__ import annotations

import io
import os
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from flux.cli.options import Command, Option, Parsed
from flux.cli.progress_line import ProgressLine, maxreqs
from flux.cli.tool import Failure, connect, run, text_of
from flux.cli.tree_walk import directory_of
from flux.core import content_rpc, kvs_rpc, treeobj
from flux.core.flux_t import FluxT
from flux.core.future_state import RpcState

if TYPE_CHECKING:
    import tarfile

COMMAND = Command(
    "dump",
    "Write the KVS to an archive",
    [
        Option("v", "verbose", "Print the keys."),
        Option("q", "quiet", "Print no progress."),
        Option("", "checkpoint", "Write the state of the newest checkpoint, not the current one."),
        Option("", "no-cache", "Read from the backing store, past the content cache."),
        Option("", "ignore-failed-read", "Leave out what cannot be read."),
        Option("", "sd-notify", "Report progress to systemd."),
        Option("", "maxreqs", "Have N requests under way at a time (default 2).", "N"),
    ],
    "OUTFILE",
    (1, 1),
    builtin=True,
    description="Writes all keys of the primary namespace, or of that in $FLUX_KVS_NAMESPACE, to a tar archive, for "
    "flux restore or for tar. The archive is compressed as its name says: .tgz, .tar.gz, .tar.bz2, .tar.xz. "
    "OUTFILE - is standard output.",
    examples=(
        ("flux dump state.tgz", "Write what the KVS holds now."),
        ("flux dump - | tar tf -", "List it."),
    ),
    see_also=("restore", "kvs", "shutdown"),
)

_COMPRESSIONS = {
    ".tgz": "gz",
    ".gz": "gz",
    ".tbz": "bz2",
    ".tbz2": "bz2",
    ".bz2": "bz2",
    ".txz": "xz",
    ".xz": "xz",
}
_NOT_HERE = (".zip", ".7z", ".zst", ".tzst", ".lz4", ".lzo", ".Z", ".cpio", ".iso")

#: Entries that wait for one before them whose blobs are on their way.
_AHEAD = 64


class _Entry:
    """A key on its way into the archive: what it is, and the blobs that have been asked for."""

    def __init__(self, key: str, obj: dict[str, Any], blobs: list[RpcState]) -> None:
        self.key = key
        self.obj = obj
        self.blobs = blobs


class _Dump:
    """The walk through a tree, and the archive that it fills."""

    def __init__(self, ctx: FluxT, parsed: Parsed, archive: tarfile.TarFile, mtime: float) -> None:
        self._limit = maxreqs(parsed, 2)
        self._ctx = ctx
        self._archive = archive
        self._mtime = int(mtime)
        self._backing = parsed.has("no-cache")
        self._ignore = parsed.has("ignore-failed-read")
        self._verbose = parsed.has("verbose")
        self._progress = ProgressLine("flux-dump", parsed, "archived {} keys", ctx)

    def _load(self, blobref: str) -> RpcState:
        return content_rpc.load(self._ctx, blobref, self._backing)

    def run(self, rootref: str) -> None:
        """Writes the tree of a root. Raises Failure."""
        # Entries are asked for in order, a few ahead of the one that is written.
        window: deque[_Entry] = deque()
        under_way = 0
        for key, obj in self._walk(rootref):
            blobs = [self._load(ref) for ref in obj["data"]] if obj["type"] == "valref" else []
            window.append(_Entry(key, obj, blobs))
            under_way += len(blobs)
            while under_way >= self._limit or len(window) > _AHEAD or (window and not window[0].blobs):
                entry = window.popleft()
                under_way -= len(entry.blobs)
                self._write(entry)
        for entry in window:
            self._write(entry)
        self._progress.end()

    def _walk(self, rootref: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(key, tree object) of all that gets an entry. Not recursive: a tree may be deeper than Python's stack."""
        root = self._directory("", rootref)
        pending: list[tuple[str, Iterator[tuple[str, dict[str, Any]]]]] = []
        if root is not None:
            pending.append(("", _in_order(root)))
        while pending:
            path, entries = pending[-1]
            for name, obj in entries:
                key = f"{path}.{name}" if path else name
                if obj["type"] not in ("dir", "dirref"):
                    yield key, obj
                    continue
                found = obj["data"] if obj["type"] == "dir" else self._directory(key, obj["data"][0])
                if found:
                    pending.append((key, _in_order(found)))
                    break
                if found is not None:
                    yield key, treeobj.directory({})
            else:
                pending.pop()

    def _directory(self, key: str, blobref: str) -> dict[str, dict[str, Any]] | None:
        """The entries of a directory; None if it cannot be read and that is to be ignored."""
        try:
            return directory_of(content_rpc.blob(self._load(blobref)))
        except OSError as exc:
            self._failed(key or ".", exc)
            return None

    def _failed(self, key: str, error: OSError) -> None:
        text = f"{key}: {text_of(error)}"
        if not self._ignore:
            raise Failure(text)
        self._progress.message(text)

    def _write(self, entry: _Entry) -> None:
        import tarfile

        info = tarfile.TarInfo(entry.key.replace(".", "/"))
        info.mode = 0o644
        kind, data = entry.obj["type"], b""
        if kind == "symlink":
            info.type = tarfile.SYMTYPE
            namespace, target = entry.obj["data"].get("namespace"), entry.obj["data"]["target"]
            info.linkname = target if namespace is None else f"{namespace}::{target}"
        elif kind == "dir":
            info.type = tarfile.DIRTYPE
            info.mode = 0o755
        else:
            try:
                if kind == "val":
                    data = treeobj.data_of(entry.obj)
                else:
                    data = b"".join([content_rpc.blob(state) for state in entry.blobs])
                    info.mtime, info.uid, info.gid = self._mtime, os.getuid(), os.getgid()
            except OSError as exc:
                self._failed(entry.key, exc)
                return
            info.size = len(data)
        self._archive.addfile(info, io.BytesIO(data))
        self._archive.members.clear()  # type: ignore[attr-defined]  # it would remember them all
        if self._verbose:
            print(entry.key, file=sys.stderr)
        self._progress.advance()


def _in_order(entries: dict[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is in a directory: first what need not be asked for."""
    order = {"val": 0, "symlink": 0, "valref": 1}
    return iter(sorted(entries.items(), key=lambda item: (order.get(item[1]["type"], 2), item[0])))


def _open(path: str, out: BinaryIO) -> tarfile.TarFile:
    import tarfile

    suffix = os.path.splitext(path)[1]
    mode = "" if path == "-" else _COMPRESSIONS.get(suffix, "")
    # PAX, which looks like plain tar as long as names and sizes fit into that.
    return tarfile.open(fileobj=out, mode=f"w|{mode}", format=tarfile.PAX_FORMAT)  # type: ignore[call-overload,no-any-return]


def _root(ctx: FluxT, parsed: Parsed) -> tuple[str, float]:
    """The root to write, and the time it is of."""
    if parsed.has("checkpoint"):
        try:
            checkpoint = content_rpc.newest(content_rpc.checkpoint_get(ctx))
        except OSError as exc:
            raise Failure(f"error fetching checkpoint: {text_of(exc)}") from None
        return checkpoint["rootref"], float(checkpoint.get("timestamp", 0.0))
    try:
        return kvs_rpc.root_reference(kvs_rpc.getroot(ctx, None)), time.time()
    except OSError as exc:
        raise Failure(f"error fetching KVS root: {text_of(exc)}") from None


def _body(parsed: Parsed) -> int:
    (path,) = parsed.words
    if path.endswith(_NOT_HERE):
        raise Failure(f"cannot write '{path}': use a name that ends in .tar, .tgz, .tar.gz, .tar.bz2 or .tar.xz")
    with connect(COMMAND) as handle:
        rootref, mtime = _root(handle.core, parsed)
        try:
            out: BinaryIO = sys.stdout.buffer if path == "-" else open(path, "wb")  # noqa: SIM115  # closed below
        except OSError as exc:
            raise Failure(f"Failed to open '{path}'", None, (text_of(exc),)) from None
        complete = False
        try:
            with _open(path, out) as archive:
                dump = _Dump(handle.core, parsed, archive, mtime)
                dump.run(rootref)
            out.flush()
            complete = True
        finally:
            if path != "-":
                out.close()
                if not complete:
                    # Half of an archive is taken for a whole one, sooner or later.
                    with suppress(OSError):
                        os.unlink(path)
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
