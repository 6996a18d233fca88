"""Txn: the operations of a KVS transaction, staged (the reference's flux_kvs_txn_t; spec 05, 6.4).

Rules:

- An operation is encoded once, when it is staged: `(key, flags, dirent)`, key and dirent as JSON text in UTF-8.
  A transaction of thousands of puts is then joined, not serialized.
- What is wrong with an operation is said when it is staged, with EINVAL, before anything is sent.
- A transaction may be committed again: sending does not change it.
"""

from __future__ import annotations

import errno
import json
from binascii import a2b_base64, b2a_base64

from flux.constants import FLUX_KVS_APPEND, FLUX_KVS_TXN_COMPACT
from flux.core import treeobj
from flux.wrapper import local_error

_quote = json.encoder.encode_basestring


def quoted_key(key: str) -> bytes:
    """A key as JSON. Raises OSError(EINVAL) for an empty one, or with a NUL in it."""
    if not key or "\0" in key:
        raise local_error(errno.EINVAL)
    return _quote(key).encode("utf-8", "surrogateescape")


def quoted(text: str) -> bytes:
    """Any text as JSON."""
    return _quote(text).encode("utf-8", "surrogateescape")


class Txn:
    """Staged operations, in order."""

    __slots__ = ("__weakref__", "ops")

    def __init__(self) -> None:
        self.ops: list[tuple[bytes, int, bytes]] = []

    def put(self, key: str, data: bytes, flags: int = 0) -> None:
        """Stages a value; with FLUX_KVS_APPEND, what is added to the one that is there."""
        if flags and flags != FLUX_KVS_APPEND:
            raise local_error(errno.EINVAL)
        dirent = b'{"ver":1,"type":"val","data":"%b"}' % b2a_base64(data, newline=False)
        self.ops.append((quoted_key(key), flags, dirent))

    def put_treeobj(self, key: str, text: str | bytes, flags: int = 0) -> None:
        """Stages any tree object, given as JSON. Raises OSError(EPROTO) for what is none."""
        if flags:
            raise local_error(errno.EINVAL)
        dirent = treeobj.encode_bytes(treeobj.decode(text))
        self.ops.append((quoted_key(key), 0, dirent))

    def mkdir(self, key: str, flags: int = 0) -> None:
        """Stages an empty directory."""
        if flags:
            raise local_error(errno.EINVAL)
        self.ops.append((quoted_key(key), 0, b'{"ver":1,"type":"dir","data":{}}'))

    def unlink(self, key: str, flags: int = 0) -> None:
        """Stages the removal of a key and what is below it."""
        if flags:
            raise local_error(errno.EINVAL)
        self.ops.append((quoted_key(key), 0, b"null"))

    def symlink(self, key: str, namespace: str | None, target: str, flags: int = 0) -> None:
        """Stages a link at `key` to `target`, of another namespace if one is given."""
        if flags or not target:
            raise local_error(errno.EINVAL)
        data = b'"target":%b' % quoted_key(target)
        if namespace is not None:
            data = b'"namespace":%b,%b' % (quoted(namespace), data)
        self.ops.append((quoted_key(key), 0, b'{"ver":1,"type":"symlink","data":{%b}}' % data))

    def clear(self) -> None:
        """Forgets what is staged."""
        self.ops.clear()

    def __len__(self) -> int:
        return len(self.ops)

    def __bool__(self) -> bool:
        return True  # an empty transaction is still one

    def encode(self, namespace: str, flags: int) -> bytes:
        """The payload of kvs.commit, its NUL included. FLUX_KVS_TXN_COMPACT is done here, and not sent.

        Raises OSError(EINVAL) if compaction meets an operation on a key that was appended to before.
        """
        ops = compacted(self.ops) if flags & FLUX_KVS_TXN_COMPACT and len(self.ops) > 1 else self.ops
        return b'{"namespace":%b,"flags":%d,"ops":[%b]}\0' % (
            quoted(namespace),
            flags & ~FLUX_KVS_TXN_COMPACT,
            b",".join([b'{"key":%b,"flags":%d,"dirent":%b}' % op for op in ops]),
        )


def compacted(ops: list[tuple[bytes, int, bytes]]) -> list[tuple[bytes, int, bytes]]:
    """The operations with all appends to one key in the first of them. Raises OSError(EINVAL): see `Txn.encode`."""
    parts: dict[bytes, list[bytes]] = {}
    result: list[tuple[bytes, int, bytes]] = []
    for op in ops:
        key, flags, dirent = op
        if flags & FLUX_KVS_APPEND:
            data = a2b_base64(json.loads(dirent)["data"])
            if key in parts:
                parts[key].append(data)
                continue
            parts[key] = [data]
        elif key in parts:
            raise local_error(errno.EINVAL)
        result.append(op)
    return [
        (key, flags, treeobj.encode_bytes(treeobj.val(b"".join(parts[key])))) if flags & FLUX_KVS_APPEND else op
        for op in result
        for key, flags, _ in (op,)
    ]
