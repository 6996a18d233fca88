"""Files whose pieces can be loaded as blobs, without being stored: `content.mmap-add` (spec 05, 2.2).

Rules:

- A piece is read when it is asked for, and compared with its digest: what a file has become since is no blob of its.
  The files are not mapped, for whoever cuts a mapped file short ends the process that reads it.
- A file stays open until its tag is removed, so that its name may go.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from fluxlet.modules.content.digest import Hash

#: Bytes that are read and hashed between two pauses.
_STEP = 4 << 20


class MappedFile:
    """An open file. Raises OSError if it cannot be opened, or is no regular file."""

    def __init__(self, path: str, chunk_size: int) -> None:
        self.path = path
        self.chunk_size = chunk_size
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(self.fd)
            if not stat.S_ISREG(status.st_mode):
                raise OSError(errno.EINVAL, f"{path} is not a regular file")
        except BaseException:
            os.close(self.fd)
            raise
        self.size = status.st_size

    def close(self) -> None:
        """Closes it; idempotent."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def read(self, start: int, size: int) -> bytes:
        """`size` bytes; fewer where the file has become shorter."""
        pieces = []
        while size:
            piece = os.pread(self.fd, size, start)
            if not piece:
                break
            pieces.append(piece)
            start += len(piece)
            size -= len(piece)
        return b"".join(pieces)


class MappedFiles:
    """All of them, by their tags; and their pieces."""

    def __init__(self, hash: Hash) -> None:
        self._hash = hash
        self.tags: dict[str, list[MappedFile]] = {}
        self._pieces: dict[bytes, list[tuple[MappedFile, int, int]]] = {}

    def __len__(self) -> int:
        """The number of blobs."""
        return len(self._pieces)

    def add(self, path: str, chunk_size: int, tag: str) -> Iterator[None]:
        """Takes in a file, step by step; at the end it is there. Raises OSError.

        Args:
            path: of a regular file.
            chunk_size: bytes in a piece; 0: the file is one.
            tag: what it is removed by.
        """
        file = MappedFile(path, chunk_size)
        added = False
        try:
            pieces = []
            length = chunk_size or max(file.size, 1)
            since = 0
            for start in range(0, file.size, length):
                data = file.read(start, min(length, file.size - start))
                pieces.append((self._hash.digest(data), start, len(data)))
                since += len(data)
                if since >= _STEP:
                    since = 0
                    yield
            for digest, start, size in pieces:
                self._pieces.setdefault(digest, []).append((file, start, size))
            self.tags.setdefault(tag, []).append(file)
            added = True
        finally:
            if not added:
                file.close()

    def remove(self, tag: str) -> None:
        """Forgets the files with a tag; it is no error if there are none."""
        files = self.tags.pop(tag, [])
        if files:
            gone = set(files)
            for digest, places in list(self._pieces.items()):
                left = [place for place in places if place[0] not in gone]
                if left:
                    self._pieces[digest] = left
                else:
                    del self._pieces[digest]
        for file in files:
            file.close()

    def load(self, digest: bytes) -> bytes | None:
        """A blob; None if no file has it, or has it any longer."""
        for file, start, size in self._pieces.get(digest, ()):
            try:
                data = file.read(start, size)
            except OSError:
                continue  # of no use, whatever it is: another may have it, or the backing store
            if self._hash.digest(data) == digest:
                return data
        return None

    def close(self) -> None:
        """Forgets all."""
        for tag in list(self.tags):
            self.remove(tag)
