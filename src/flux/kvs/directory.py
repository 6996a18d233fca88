"""KVSDir: a directory of the KVS as a mapping; `walk` (spec 05, 12.1 and 12.4).

Two views meet in it: names (iteration, `len`) are those of the listing made when it was constructed; values are
looked up when they are asked for. What is set or deleted is staged, and committed by `commit` or at the end of a
`with` block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any, Self

from flux.core.ffi import CType
from flux.core.handle import Flux
from flux.core.inner import ffi, lib
from flux.core.kvs_dir import DirCursor, DirState, join_key
from flux.future import Future
from flux.kvs import lookups
from flux.kvs.transactions import KVSTxn
from flux.kvs.values import key_text
from flux.wrapper import Wrapper, WrapperPimpl


class KVSDir(WrapperPimpl, MutableMapping[str, Any]):
    """A directory: names to values, or to the `KVSDir` of a subdirectory.

    Args:
        flux_handle: the handle to read and commit over.
        path: the directory's key.
        handle: a listing (opaque), instead of having one made; its key is the path then.
        namespace: the namespace it is in.
        _kvstxn: the transaction to stage in, instead of its own; keys in it are absolute.

    Raises ValueError without any handle, OSError ENOENT, ENOTDIR, ... for what is no directory.
    As a context manager it commits when the block ends: after an exception, too.
    """

    class InnerWrapper(Wrapper):
        """The functions `flux_kvsdir_*` with the listing implied."""

        def __init__(
            self,
            flux_handle: Flux | None = None,
            path: str | bytes = ".",
            handle: DirState | None = None,
            namespace: str | None = None,
        ) -> None:
            if handle is None:
                if flux_handle is None:
                    raise ValueError("flux_handle must be a valid Flux object or handle must be a valid kvsdir cdata")
                handle = lookups.read_directory(flux_handle, path, namespace)
            super().__init__(ffi, lib, handle, CType("flux_kvsdir_t *"), prefixes=("flux_kvsdir_",))

    class KVSDirIterator(Iterator[str]):
        """Goes through the names of a listing."""

        def __init__(self, kvsdir: KVSDir) -> None:
            self._cursor = DirCursor(kvsdir.handle)

        def __next__(self) -> str:
            name = self._cursor.next()
            if name is None:
                raise StopIteration
            return name

    def __init__(
        self,
        flux_handle: Flux | None = None,
        path: str | bytes = ".",
        handle: DirState | None = None,
        namespace: str | None = None,
        _kvstxn: KVSTxn | None = None,
    ) -> None:
        super().__init__()
        self._pimpl = self.InnerWrapper(flux_handle, path, handle, namespace)
        self._flux = Flux(handle=self._pimpl.handle.ctx.incref()) if flux_handle is None else flux_handle
        self.path = key_text(path) if handle is None else handle.key
        self.namespace = namespace
        self.kvstxn = KVSTxn(self._flux, namespace=namespace) if _kvstxn is None else _kvstxn

    @property
    def fhdl(self) -> Flux:
        """The handle it is read and committed over."""
        return self._flux

    @property
    def pimpl(self) -> Wrapper:
        """The listing, with the C functions about it."""
        return self._pimpl

    # Staging and committing.

    def commit(self, flags: int = 0) -> None:
        """Commits what is staged, and waits; see `KVSTxn.commit`."""
        self.kvstxn.commit(flags)

    def commit_async(self, flags: int = 0) -> Future:
        """Sends what is staged; see `KVSTxn.commit_async`."""
        return self.kvstxn.commit_async(flags)

    def __setitem__(self, key: str, value: Any) -> None:
        self.kvstxn.put(self.key_at(key), value)

    def __delitem__(self, key: str) -> None:
        self.kvstxn.unlink(self.key_at(key))

    def fill(self, contents: Mapping[str, Any] | None) -> None:
        """Stages each pair, and commits. Raises ValueError for None."""
        if contents is None:
            raise ValueError("contents must be non-None")
        with self:
            for key, value in contents.items():
                self[key] = value

    def mkdir(self, key: str, contents: Mapping[str, Any] | None = None) -> None:
        """Makes an empty directory of what is at `key`, and fills it with `contents`; both committed."""
        path = self.key_at(key)
        self.kvstxn.mkdir(path)
        self.commit()
        if contents is not None:
            KVSDir(self.fhdl, path, namespace=self.namespace).fill(contents)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, type_arg: object, value: object, tb: object) -> None:
        self.commit()

    # Reading.

    def key_at(self, key: str) -> str:
        """The key of an entry from the root on."""
        text = key_text(key)
        return join_key(self.path, text) if text else ""

    def exists(self, name: str) -> bool:
        """True if there is such an entry now."""
        return lookups.exists(self.fhdl, self.key_at(name), namespace=self.namespace)

    def __getitem__(self, key: str) -> Any:
        try:
            return lookups.get(self.fhdl, self.key_at(key), namespace=self.namespace, _kvstxn=self.kvstxn)
        except OSError as exc:
            raise KeyError(f"{key} not found under directory {self.path}.") from exc

    def __iter__(self) -> Iterator[str]:
        return self.KVSDirIterator(self)

    def __len__(self) -> int:
        listing: DirState = self.handle
        return len(listing.entries)

    def files(self) -> Iterator[str]:
        """The names in the listing that are no directories: values and links."""
        listing: DirState = self.handle
        return (name for name in listing.names() if not listing.is_dir(name))

    def directories(self) -> Iterator[str]:
        """The names of directories in the listing."""
        listing: DirState = self.handle
        return (name for name in listing.names() if listing.is_dir(name))

    def list_all(self) -> tuple[list[str], list[str]]:
        """(files, directories) of the listing."""
        return list(self.files()), list(self.directories())

    def __repr__(self) -> str:
        return f"<KVSDir {self.path!r}>"


def walk(
    directory: KVSDir | str,
    topdown: bool = False,
    flux_handle: Flux | None = None,
    namespace: str | None = None,
) -> Iterator[tuple[str, Iterator[str], Iterator[str]]]:
    """A directory and all below it, as `os.walk`: ``(path, directories, files)`` of each.

    Args:
        directory: a KVSDir, or a key, which needs a handle.
        topdown: a directory before those in it.

    Paths are relative to where it begins, "" for that. Raises ValueError for a key without a handle.
    """
    if not isinstance(directory, KVSDir):
        if flux_handle is None:
            raise ValueError("If directory is a key, flux_handle must be specified")
        directory = KVSDir(flux_handle, directory, namespace=namespace)
    return _walk(directory, topdown)


def _walk(start: KVSDir, topdown: bool) -> Iterator[tuple[str, Iterator[str], Iterator[str]]]:
    # Not recursive: a tree may be deeper than Python's stack. A directory's first turn is to be read; without
    # `topdown` it has a second, behind those in it.
    pending: list[tuple[str, KVSDir | None, bool]] = [("", start, False)]
    while pending:
        path, directory, is_second = pending.pop()
        if directory is None:
            directory = KVSDir(start.fhdl, start.key_at(path), namespace=start.namespace)
        if topdown or is_second:
            yield path, directory.directories(), directory.files()
        if not is_second:
            if not topdown:
                pending.append((path, directory, True))
            pending += [(lookups.join(path, name), None, False) for name in reversed([*directory.directories()])]
