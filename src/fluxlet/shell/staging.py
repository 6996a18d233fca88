"""The files of attributes.system.files, written into the job's temporary directory (RFC 37; spec 07, 5.13); then, if
options say so, those of archives (`fluxlet.shell.stagein`) and the topology (`fluxlet.shell.hwloc`).

Large ones may be in the content store; they are fetched first, and the tasks wait for them. The shell may read any
blob, and a job can name any: those of guests do not come here, job-exec refuses them.
"""

from __future__ import annotations

import binascii
import json
import os
import stat
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from flux.core.treeobj import is_blobref
from fluxlet.shell import options
from fluxlet.shell.options import ShellError

if TYPE_CHECKING:
    from flux.core.future_state import RpcState
    from fluxlet.shell.job import Job


def stage(job: Job, then: Callable[[], None]) -> None:
    """Writes a job's files, and calls `then`; what is wrong later is the end of the job. Raises ShellError."""
    if options.flag(job.options, "hwloc.xmlfile"):
        from fluxlet.shell.hwloc import write_topology

        then = partial(write_topology, job, then)
    if "stage-in" in job.options:
        from fluxlet.shell.stagein import stage_in

        then = partial(_or_fail, job, stage_in, then)
    files = job.plan.files
    left = blobrefs(files)
    if not left:
        write_files(files, job.tmpdir)
        then()
        return
    found: dict[str, bytes] = {}

    def ask(ref: str) -> None:
        def answered(state: RpcState) -> None:
            if job.failed or job.ended:
                return
            if state.errnum:
                job.fail(ShellError(f"files: {ref}: {state.error_text()}"))
                return
            found[ref] = state.value.raw or b""
            if len(found) == len(left):
                try:
                    write_files(files, job.tmpdir, found)
                except ShellError as exc:
                    job.fail(exc)
                else:
                    then()

        job.server.connection.ask(b"content.load", bytes.fromhex(ref.partition("-")[2]), answered)

    for ref in left:
        ask(ref)


def _or_fail(job: Job, step: Callable[[Job, Callable[[], None]], None], then: Callable[[], None]) -> None:
    """Takes a step that others may have been waited for before."""
    try:
        step(job, then)
    except ShellError as exc:
        job.fail(exc)


def blobrefs(files: dict[str, Any]) -> set[str]:
    """The blobs that some of the files consist of. Raises ShellError for an entry that is none."""
    found: set[str] = set()
    for name, entry in files.items():
        if isinstance(entry, dict) and entry.get("encoding") == "blobvec":
            found.update(ref for _, _, ref in _blobvec(name, entry))
    return found


def _blobvec(name: str, entry: dict[str, Any]) -> list[tuple[int, int, str]]:
    """The (offset, size, blobref) of a file's pieces."""
    pieces = entry.get("data")
    if isinstance(pieces, list) and all(isinstance(piece, list) and len(piece) == 3 for piece in pieces):
        found = [(offset, size, ref) for offset, size, ref in pieces]
        if all(
            _is_count(offset) and _is_count(size) and isinstance(ref, str) and is_blobref(ref)
            for offset, size, ref in found
        ):
            return found
    raise ShellError(f"files: invalid entry for {name}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 62


def write_files(files: dict[str, Any], directory: str, blobs: Mapping[str, bytes] = {}) -> None:
    """Writes them. Raises ShellError for an entry that is none, or a file that cannot be written.

    Args:
        blobs: what `blobrefs` names.
    """
    for name, entry in files.items():
        mode, pieces, size = _content(name, entry, blobs)
        path = os.path.normpath(os.path.join(directory, name))
        if os.path.isabs(name) or not path.startswith(directory + os.sep):
            raise ShellError(f"files: {name} is not inside the job's temporary directory")
        try:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            if stat.S_ISLNK(mode):
                os.symlink(pieces[0][1].decode(), path)
                continue
            if stat.S_ISDIR(mode):
                os.makedirs(path, stat.S_IMODE(mode), exist_ok=True)
                continue
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as file:
                for offset, data in pieces:
                    file.seek(offset)
                    file.write(data)
                if size is not None:
                    file.truncate(size)
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
        except OSError as exc:
            raise ShellError(f"files: {name}: {exc.strerror}") from None


def _content(name: str, entry: Any, blobs: Mapping[str, bytes]) -> tuple[int, list[tuple[int, bytes]], int | None]:
    """The mode of a file, its pieces and their offsets, and its size if it has one besides."""
    if not isinstance(entry, dict) or entry.get("encoding") != "blobvec":
        mode, data = _inline(name, entry)
        return mode, [(0, data)], None
    mode, size, pieces = entry.get("mode", 0o100600), entry.get("size"), _blobvec(name, entry)
    if type(mode) is not int or stat.S_IFMT(mode) not in (0, stat.S_IFREG) or not (size is None or _is_count(size)):
        raise ShellError(f"files: invalid entry for {name}")
    for _, length, ref in pieces:
        if len(blobs[ref]) != length:
            raise ShellError(f"files: {name}: {ref} has not the size that it should have")
    return mode, [(offset, blobs[ref]) for offset, _, ref in pieces], size


def _inline(name: str, entry: Any) -> tuple[int, bytes]:
    if isinstance(entry, str):
        return 0o100600, entry.encode("utf-8", "surrogateescape")
    if not isinstance(entry, dict) or type(entry.get("mode", 0)) is not int:
        raise ShellError(f"files: invalid entry for {name}")
    mode = entry.get("mode", 0o100600)
    data = entry.get("data", "")
    if not isinstance(data, str):
        return mode, json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogateescape")
    encoding = entry.get("encoding", "utf-8")
    if encoding == "utf-8":
        return mode, data.encode("utf-8", "surrogateescape")
    if encoding == "base64":
        try:
            return mode, binascii.a2b_base64(data)
        except binascii.Error as exc:
            raise ShellError(f"files: {name}: {exc}") from None
    raise ShellError(f"files: {name}: unknown encoding {encoding}")
