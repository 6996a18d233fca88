"""Transaction: operations applied to a tree, all of them or none (spec 05, 6.4 and 4.3). Pure.

Rules:

- What is there does not change: directories are copied when they are first touched. Who gives a transaction up forgets
  it.
- A directory that is not in memory is asked for: the generators yield its blobref and are sent the Directory. They
  yield None where others may have their turn.
- Directories are encoded once, at the end, however many operations there were.
"""

from __future__ import annotations

import errno
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeAlias

import msgspec

from flux.constants import FLUX_KVS_APPEND
from fluxlet.modules.kvs import treeobj
from fluxlet.modules.kvs.directories import Directories
from fluxlet.modules.kvs.directory import Directory
from fluxlet.modules.kvs.keys import Trail, components, normalize
from fluxlet.modules.kvs.operation import Op, Value

#: What the generators yield and are sent.
Steps: TypeAlias = Generator[bytes | None, Directory | None, None]

#: Operations, or directories, between two pauses.
_PAUSE = 500
#: A value with more bytes is longer as base64 text than an inline one may be.
_MAX_INLINE_DATA = treeobj.MAX_INLINE // 4 * 3
#: Bytes that are decoded or encoded between two pauses.
_PAUSE_BYTES = 1 << 20


class Transaction:
    """See the module.

    Args:
        rootref: of the tree that it starts from.
        namespace: whose tree that is: links into others cannot be written through.
        directories: those in memory.
        blobref: gives the blobref of a blob.

    Attributes:
        blobs: what is to be stored, by blobref.
        keys: the normalised keys of the operations.
    """

    def __init__(
        self, rootref: bytes, namespace: str, directories: Directories, blobref: Callable[[bytes], bytes]
    ) -> None:
        self.rootref = rootref
        self.namespace = namespace
        self.blobs: dict[bytes, bytes] = {}
        self.keys: dict[str, None] = {}
        self._directories = directories
        self._blobref = blobref
        self._root: Directory | None = None
        self._parents: dict[str, Directory] = {}  # by the keys of directories that have been touched
        self._made: list[tuple[bytes, Directory]] = []
        self._copied: list[bytes] = []
        self._decoded = 0  # bytes since the last pause
        # What our directories are marked with: not ourselves, for they stay when we go.
        self._mark = object()

    def run(self, operations: Iterable[Any]) -> Steps:
        """Applies the operations, and encodes: then `rootref` is that of the new tree. Raises OSError."""
        for count, operation in enumerate(operations, 1):
            if operation.__class__ is Op:
                # One of ours: nothing to check.
                key, flags, dirent = operation.key, operation.flags, operation.dirent
                self.keys[key] = None
                above, _, name = key.rpartition(".")
            else:
                above, name, flags, dirent = self._parse(operation)
            parent = self._parents.get(above)
            if parent is None:
                parent = yield from self._parent(above, dirent is None)
                if parent is None:
                    continue  # nothing to unlink
            if dirent is None:
                self._clear(parent, name)
                parent.remove(name)
            elif dirent.__class__ is Value:
                if flags & FLUX_KVS_APPEND and self._is_there(parent, name):
                    self._extend(parent, name, dirent.data)
                else:
                    self._set(parent, name, self._value(dirent.data))
            elif dirent.__class__ is msgspec.Raw:
                self._set(parent, name, bytes(dirent))
            elif flags & FLUX_KVS_APPEND:
                self._append(parent, name, dirent)
            else:
                kind = treeobj.kind_of(dirent)
                if kind == "dir":
                    yield from self._put_directory(parent, name, treeobj.checked_dir(dirent))
                else:
                    self._put(parent, name, kind, dirent)
            if count % _PAUSE == 0 or self._decoded > _PAUSE_BYTES:
                self._decoded = 0
                yield None
        if self._root is not None:
            yield from self._encode(self._root)

    def keep(self) -> None:
        """The new tree is the current one: its directories are kept in memory, and the old ones need not be."""
        directories = self._directories
        for ref in self._copied:
            directories.replaced(ref)
        for ref, directory in self._made:
            directories.add(ref, directory)

    # One operation.

    def _parse(self, operation: Any) -> tuple[str, str, int, Any]:
        """The key of the directory, the name in it, flags and treeobj. Raises OSError."""
        try:
            key, flags, dirent = operation["key"], operation["flags"], operation["dirent"]
        except (KeyError, TypeError):
            raise OSError(errno.EPROTO, "an operation has the members key, flags and dirent") from None
        if len(operation) != 3 or type(key) is not str or type(flags) is not int:
            raise OSError(errno.EPROTO, "an operation has the members key, flags and dirent, and no others")
        key = normalize(key)
        if key == "." or not key or "\0" in key:
            text = "the root directory cannot be written" if key == "." else "a key is empty, or has a NUL in it"
            raise OSError(errno.EINVAL, text)
        self.keys[key] = None
        above, _, name = key.rpartition(".")
        return above, name, flags, dirent

    def _parent(self, key: str, unlinking: bool) -> Generator[bytes | None, Directory | None, Directory | None]:
        """The directory for a key, as one of ours. None: there is none, and nothing is to be made."""
        if self._root is None:
            self._root = yield from self._copy(self.rootref)
            self._parents[""] = self._root
        if not key:
            return self._root
        return (yield from self._descend(key, unlinking))

    def _clear(self, parent: Directory, name: str) -> None:
        """Whatever is there under this name is about to go."""
        if parent.children.pop(name, None) is not None:
            self._parents = {"": self._root} if self._root is not None else {}

    def _descend(self, key: str, unlinking: bool) -> Generator[bytes | None, Directory | None, Directory | None]:
        """The directory for a key, as one of ours; what is missing on the way is made. None: there is none."""
        root = self._root
        assert root is not None
        trail = Trail(components(key))
        parts = trail.parts
        direct = True  # no link on the way
        parent = root
        while parts:
            name = parts.pop()
            child = parent.children.get(name)
            if child is None:
                text = parent.get(name)
                if text is not None and text.endswith(treeobj.SYMLINK_TAIL):
                    target, namespace = treeobj.link_of(text)
                    if namespace is not None and namespace != self.namespace:
                        raise OSError(errno.EINVAL, "a link into another namespace cannot be written through")
                    trail.follow(target)
                    parent = root
                    direct = False
                    continue
                if text is not None and text.endswith(treeobj.DIRREF_TAIL):
                    child = yield from self._copy(treeobj.dirref_of(text))
                elif unlinking:
                    return None
                else:
                    child = Directory(self._mark)
                parent.children[name] = child
            parent = child
        if direct:
            self._parents[key] = parent
        return parent

    def _copy(self, ref: bytes) -> Generator[bytes | None, Directory | None, Directory]:
        """The directory of a blobref, as one of ours."""
        found = self._directories.get(ref)
        if found is None:
            found = yield ref
            assert found is not None
        self._copied.append(ref)
        copied = found.copy(self._mark)
        if copied.irregular:
            copied.irregular = False
            for name, text in list(found.items()):
                if text.endswith(treeobj.DIR_TAIL):
                    yield from self._put_directory(copied, name, msgspec.json.decode(text))
                elif len(text) > treeobj.MAX_INLINE_TEXT and text.endswith(treeobj.VAL_TAIL):
                    copied.set(name, treeobj.valref(self._store(treeobj.data_of(text))))
        return copied

    def _put(self, parent: Directory, name: str, kind: str, dirent: Any) -> None:
        """Puts what is no directory."""
        data = dirent["data"]
        if kind == "val" and isinstance(data, str):
            text = treeobj.val(data) if len(data) <= treeobj.MAX_INLINE else treeobj.valref(self._store(data))
        else:
            text = treeobj.encode(dirent)
        self._set(parent, name, text)

    def _set(self, parent: Directory, name: str, text: bytes) -> None:
        """Puts a tree object's canonical text."""
        if parent.children:
            self._clear(parent, name)
        parent.set(name, text)

    def _value(self, data: bytes) -> bytes:
        """The text of a value, which is stored if it is too long to be there itself."""
        if len(data) <= _MAX_INLINE_DATA:
            return b"%b%b%b" % (treeobj.VAL_HEAD, b2a_base64(data, newline=False), treeobj.VAL_TAIL)
        return treeobj.valref(self._keep(data))

    def _put_directory(self, parent: Directory, name: str, dirent: Any) -> Steps:
        """Puts a directory that a client has sent inline."""
        directory = Directory(self._mark)
        for count, (below, entry) in enumerate(dirent["data"].items(), 1):
            if entry["type"] == "dir":
                yield from self._put_directory(directory, below, entry)
            else:
                self._put(directory, below, entry["type"], entry)
            if count % _PAUSE == 0:
                yield None
        self._clear(parent, name)
        parent.children[name] = directory

    def _append(self, parent: Directory, name: str, dirent: Any) -> None:
        try:
            kind = treeobj.kind_of(dirent)
        except OSError as exc:
            raise OSError(errno.EPROTO, exc.strerror) from None
        if kind != "val" or not isinstance(dirent["data"], str):
            raise OSError(errno.EPROTO, "only a val can be appended")
        if self._is_there(parent, name):
            self._extend(parent, name, _decoded(dirent["data"]))
        else:
            self._put(parent, name, kind, dirent)

    @staticmethod
    def _is_there(parent: Directory, name: str) -> bool:
        return name in parent.children or parent.get(name) is not None

    def _extend(self, parent: Directory, name: str, data: bytes) -> None:
        """Appends to what is there."""
        text = parent.get(name)
        if text is None or name in parent.children:
            raise OSError(errno.EISDIR, None)
        if text.endswith(treeobj.VALREF_TAIL):
            new = self._keep(data)
            parent.set(name, b'%b","%b%b' % (text[: -len(treeobj.VALREF_TAIL)], new, treeobj.VALREF_TAIL))
        elif text.endswith(treeobj.VAL_TAIL):
            parent.set(name, treeobj.valref(self._store(treeobj.data_of(text)), self._keep(data)))
        elif text.endswith(treeobj.SYMLINK_TAIL):
            raise OSError(errno.EOPNOTSUPP, None)
        else:
            raise OSError(errno.EISDIR, None)

    def _store(self, data: str | bytes) -> bytes:
        """Has the value with this base64 text stored; returns its blobref."""
        return self._keep(_decoded(data))

    def _keep(self, blob: bytes) -> bytes:
        """Has a blob stored; returns its blobref."""
        ref = self._blobref(blob)
        self.blobs[ref] = blob
        self._decoded += len(blob)
        return ref

    # The end.

    def _encode(self, root: Directory) -> Steps:
        """Encodes what has been touched, the innermost first."""
        order: list[tuple[Directory | None, str, Directory]] = [(None, "", root)]
        at = 0
        while at < len(order):
            directory = order[at][2]
            at += 1
            for name, child in directory.children.items():
                order.append((directory, name, child))
        size = 0
        for count, (parent, name, directory) in enumerate(reversed(order), 1):
            blob = directory.encode()
            ref = self._blobref(blob)
            self.blobs[ref] = blob
            self._made.append((ref, directory))
            directory.children = _NONE
            if parent is None:
                self.rootref = ref
            else:
                parent.set(name, treeobj.dirref(ref))
            size += len(blob)
            if size > _PAUSE_BYTES or count % _PAUSE == 0:
                size = 0
                yield None


def _decoded(data: str | bytes) -> bytes:
    """What base64 text stands for. Raises OSError(EPROTO)."""
    try:
        if isinstance(data, str):
            try:
                return msgspec.convert(data, bytes)  # twice as fast, but not as good at telling what is wrong
            except msgspec.ValidationError:
                pass
        return a2b_base64(data, strict_mode=True)
    except (Base64Error, ValueError) as exc:
        raise OSError(errno.EPROTO, f"the data of a val is not base64: {exc}") from None


#: Of directories that do not change any more: nobody adds to it.
_NONE: dict[str, Directory] = {}
