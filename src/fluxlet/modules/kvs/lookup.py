"""The walk from a root to a key, and what a lookup answers for what is there (spec 05, 6.3). Pure.

A walk is a generator: where it needs a directory that is not in memory, it yields the blobref and is sent the
Directory; where a link leads into a namespace, it yields the name and is sent the blobref of its root.
"""

from __future__ import annotations

import errno
from collections.abc import Generator
from typing import Any, NamedTuple, TypeAlias

from flux.constants import FLUX_KVS_READDIR, FLUX_KVS_READLINK, FLUX_KVS_TREEOBJ
from fluxlet.modules.kvs import treeobj
from fluxlet.modules.kvs.directories import Directories
from fluxlet.modules.kvs.directory import Directory
from fluxlet.modules.kvs.keys import Trail, components, normalize

_NOFOLLOW = FLUX_KVS_TREEOBJ | FLUX_KVS_READLINK
#: Directories that are walked through between two pauses.
_PAUSE = 2000


class Value(NamedTuple):
    """What is at the key is in blobs: the answer is what they hold, one after the other."""

    refs: list[bytes]


#: A tree object as text; or the blobs of a value.
Found: TypeAlias = bytes | Value
Walk: TypeAlias = Generator[bytes | str | None, Any, Found]


def walk(root: bytes, key: str, flags: int, directories: Directories) -> Walk:
    """Looks a key up.

    Args:
        root: the blobref of the root directory.
        key: as the client sent it.
        flags: FLUX_KVS_*.
        directories: those in memory.

    Raises OSError as spec 05, 6.3 has it.
    """
    trail = Trail(components(normalize(key)))
    parts = trail.parts
    nofollow = flags & _NOFOLLOW
    top = at = root
    steps = 0
    while parts:
        directory: Directory | None = directories.get(at)
        if directory is None:
            directory = yield at
            assert directory is not None
        steps += 1
        if steps % _PAUSE == 0:
            yield None
        text = directory.get(parts.pop())
        if text is None:
            raise OSError(errno.ENOENT, None)
        if text.endswith(treeobj.DIRREF_TAIL):
            if parts:
                at = treeobj.dirref_of(text)
            elif flags & FLUX_KVS_TREEOBJ:
                return text
            else:
                return (yield from _directory(treeobj.dirref_of(text), flags, directories, False))
        elif text.endswith(treeobj.SYMLINK_TAIL) and (parts or not nofollow):
            target, namespace = treeobj.link_of(text)
            trail.follow(target)
            if namespace is not None:
                top = yield namespace
            at = top
        elif parts:
            if not text.endswith(treeobj.DIR_TAIL):
                raise OSError(errno.ENOENT, None)
            raise OSError(errno.ENOTRECOVERABLE, "a directory within another one's blob cannot be walked through")
        else:
            return _entry(text, flags)
    return (yield from _directory(at, flags, directories, at == root and normalize(key) == "."))


def at_hand(root: bytes, key: str, directories: Directories) -> Value | None:
    """The value at a normalised key, the shortest way; None if it is anything but blobs below plain directories in
    memory."""
    at = root
    *above, name = key.split(".")
    for part in above:
        directory = directories.get(at)
        text = None if directory is None else directory.get(part)
        if text is None or not text.endswith(treeobj.DIRREF_TAIL):
            return None
        at = treeobj.dirref_of(text)
    directory = directories.get(at)
    text = None if directory is None else directory.get(name)
    if text is None or not text.endswith(treeobj.VALREF_TAIL):
        return None
    return Value(treeobj.refs_of(text))


def _entry(text: bytes, flags: int) -> Found:
    """The answer for what is no directory."""
    if flags & FLUX_KVS_TREEOBJ:
        return text
    if text.endswith(treeobj.SYMLINK_TAIL):
        if flags & FLUX_KVS_READDIR:
            raise OSError(errno.ENOTDIR, None)
        return text
    if flags & FLUX_KVS_READLINK:
        raise OSError(errno.EINVAL, None)
    if text.endswith(treeobj.DIR_TAIL):
        if flags & FLUX_KVS_READDIR:
            return text
        raise OSError(errno.EISDIR, None)
    if flags & FLUX_KVS_READDIR:
        raise OSError(errno.ENOTDIR, None)
    return Value(treeobj.refs_of(text)) if text.endswith(treeobj.VALREF_TAIL) else text


def _directory(
    ref: bytes, flags: int, directories: Directories, is_root: bool
) -> Generator[bytes | str | None, Any, Found]:
    """The answer for a directory."""
    if flags & FLUX_KVS_TREEOBJ:
        return treeobj.dirref(ref)
    if flags & FLUX_KVS_READLINK:
        raise OSError(errno.EISDIR if is_root else errno.EINVAL, None)
    if not flags & FLUX_KVS_READDIR:
        raise OSError(errno.EISDIR, None)
    directory = directories.get(ref)
    if directory is None:
        directory = yield ref
    encoded: bytes = directory.encode()
    return encoded
