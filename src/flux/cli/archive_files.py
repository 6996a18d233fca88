"""Files as objects of JSON (RFC 37): made from what is on disk, and written there again.

Rules:

- Nothing here talks to an instance: content of some size goes through a function that stores a blob, and is asked for
  by its blobref.
- A path in an archive is relative, and stays below where it is extracted: an archive may come from anybody.
- Holes of a sparse file are neither stored nor written.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import stat
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

#: A file, link or directory, as RFC 37 has it.
FileObject = dict[str, Any]


class ArchiveError(Exception):
    """What cannot be archived or extracted; the text begins with its path."""


def stored_name(path: str) -> str:
    """The path by which a file is archived. Raises ArchiveError for one that an archive cannot have."""
    name = os.path.normpath(path).lstrip("/")
    if name.split("/")[0] == "..":
        raise ArchiveError(f"{path}: a path in an archive cannot begin with ..")
    if not name.isprintable() and any("\udc80" <= letter <= "\udcff" for letter in name):
        raise ArchiveError(f"{path!a}: a path in an archive has to be UTF-8")
    return name


def walk(path: str) -> Iterator[str]:
    """A path, and if it is a directory what is in it, in the order of names."""
    yield path
    if os.path.isdir(path) and not os.path.islink(path):
        for name in sorted(os.listdir(path)):
            yield from walk(os.path.join(path, name))


def describe(
    path: str, store: Callable[[bytes], str], inline: int, chunk: int, mapped: Callable[[str], None] | None = None
) -> FileObject:
    """The object of what is at a path. Raises OSError; ArchiveError for what is no file, link or directory.

    Args:
        store: keeps content, and returns its blobref.
        inline: content of up to so many bytes is in the object.
        chunk: the largest blob.
        mapped: called with the path of a file whose content is in no object: `store` need not keep that, and the file
            is cut at multiples of `chunk`.
    """
    about = os.lstat(path)
    found: FileObject = {
        "path": stored_name(path),
        "mode": about.st_mode,
        "mtime": int(about.st_mtime),
        "ctime": int(about.st_ctime),
    }
    if stat.S_ISLNK(about.st_mode):
        found["data"] = os.readlink(path)
        stored_name(os.path.join("/", found["data"]))  # UTF-8, too
    elif stat.S_ISREG(about.st_mode):
        with open(path, "rb") as file:
            whole = mapped is not None and about.st_size > inline
            if mapped is not None and whole:
                mapped(path)
            found |= _content(file.fileno(), about.st_size, store, inline, chunk, whole)
    elif not stat.S_ISDIR(about.st_mode):
        raise ArchiveError(f"{path}: only files, directories and symbolic links can be archived")
    return found


def _content(fd: int, size: int, store: Callable[[bytes], str], inline: int, chunk: int, whole: bool) -> FileObject:
    if size <= inline:
        data = os.pread(fd, size, 0)
        if not data:
            return {"size": 0}
        try:
            return {"size": len(data), "encoding": "utf-8", "data": data.decode()}
        except UnicodeDecodeError:
            return {"size": len(data), "encoding": "base64", "data": base64.b64encode(data).decode()}
    pieces: list[list[Any]] = []
    for start, end in [(0, size)] if whole else _regions(fd, size):
        while start < end:
            data = os.pread(fd, min(chunk, end - start), start)
            if not data:
                break  # somebody has made the file shorter
            if not (whole and data.count(0) == len(data)):  # holes
                pieces.append([start, len(data), store(data)])
            start += len(data)
    return {"size": size, "encoding": "blobvec", "data": pieces} if pieces else {"size": size}


def _regions(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file has data."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole is left
            return
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end


def matching(objects: list[Any], pattern: str | None) -> list[FileObject]:
    """The objects whose paths match a glob pattern; all without one. Raises ArchiveError for what is no archive."""
    for one in objects:
        if not isinstance(one, dict) or not isinstance(one.get("path"), str) or type(one.get("mode")) is not int:
            raise ArchiveError("the value is no archive of files")
    return [one for one in objects if pattern is None or fnmatchcase(one["path"], pattern)]


def blobrefs(found: FileObject) -> list[str]:
    """The blobs that a file's content is in."""
    return [str(piece[2]) for piece in found.get("data", ())] if found.get("encoding") == "blobvec" else []


def long_form(found: FileObject) -> str:
    """An object as a line of a listing: its type, mode, size and path."""
    mode = found["mode"]
    kind = "d" if stat.S_ISDIR(mode) else "l" if stat.S_ISLNK(mode) else "f"
    target = f" -> {found.get('data')}" if kind == "l" else ""
    return f"{kind} 0{stat.S_IMODE(mode):o} {_size(found):>12} {found['path']}{target}"


def _size(found: FileObject) -> int:
    size = found.get("size", 0)
    return size if isinstance(size, int) else 0


def extract(found: FileObject, load: Callable[[str], bytes], overwrite: bool) -> None:
    """Writes what an object describes, below the present directory.

    Args:
        load: returns a blob.
        overwrite: replace what is there.

    Raises OSError, and ArchiveError for what is there already, and what is not right in the object.
    """
    path, mode = found["path"], found["mode"]
    here = os.path.realpath(".").rstrip("/") + "/"
    if ".." in path.split("/") or not f"{os.path.realpath(os.path.dirname(path))}/".startswith(here):
        raise ArchiveError(f"{path}: leads out of the directory")  # links that are there, or in the archive, included
    if stat.S_ISDIR(mode):
        os.makedirs(path, exist_ok=True)
        os.chmod(path, stat.S_IMODE(mode) | stat.S_IRWXU)
        return
    if os.path.lexists(path):
        if not overwrite:
            raise ArchiveError(f"{path}: write: Attempt to overwrite existing file")
        os.unlink(path)
    if parent := os.path.dirname(path):
        os.makedirs(parent, exist_ok=True)
    if stat.S_ISLNK(mode):
        os.symlink(found["data"], path)
        return
    with open(path, "xb") as file:
        try:
            _write(found, file.fileno(), load)
        except (TypeError, ValueError, KeyError, binascii.Error):
            raise ArchiveError(f"{path}: its content is not what RFC 37 allows") from None
        os.fchmod(file.fileno(), stat.S_IMODE(mode))
    if isinstance(mtime := found.get("mtime"), int):
        os.utime(path, (mtime, mtime))


def _write(found: FileObject, fd: int, load: Callable[[str], bytes]) -> None:
    encoding, data = found.get("encoding"), found.get("data")
    if encoding == "blobvec":
        for offset, size, ref in found["data"]:
            piece = load(ref)
            if len(piece) != size:
                raise ValueError(ref)
            _write_all(fd, piece, offset)
    elif encoding == "base64":
        _write_all(fd, binascii.a2b_base64(found["data"], strict_mode=True), 0)
    elif encoding == "utf-8":
        _write_all(fd, found["data"].encode(), 0)
    elif encoding is not None:
        raise ValueError(encoding)
    elif data is not None:
        _write_all(fd, json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode(), 0)
    if "size" in found:
        os.ftruncate(fd, found["size"])


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(fd, view, offset)
        view, offset = view[written:], offset + written
