"""Payloads of the kvs methods, and what guests may commit (spec 05, 6.2 and 8)."""

from __future__ import annotations

import errno
from typing import Any

import msgspec


class GetrootRequest(msgspec.Struct):
    """Payload of kvs.getroot, kvs.setroot-pause and kvs.setroot-unpause."""

    namespace: str


class LookupRequest(msgspec.Struct):
    """Payload of kvs.lookup and kvs.lookup-plus."""

    key: str
    flags: int
    namespace: str | None = None
    rootdir: Any = None
    rootseq: int = 0


class CommitRequest(msgspec.Struct):
    """Payload of kvs.commit. `ops` that is no array counts as none, as for the reference."""

    namespace: str
    flags: int
    ops: Any


class RelayRequest(msgspec.Struct):
    """Payload of kvs.relaycommit."""

    namespace: str
    flags: int
    ops: Any
    name: str


class WaitVersionRequest(msgspec.Struct):
    """Payload of kvs.wait-version."""

    namespace: str
    rootseq: int


class NamespaceCreateRequest(msgspec.Struct):
    """Payload of kvs.namespace-create."""

    namespace: str
    rootref: str
    owner: int
    flags: int


class NamespaceRemoveRequest(msgspec.Struct):
    """Payload of kvs.namespace-remove."""

    namespace: str


class GetrootResponse(msgspec.Struct):
    """Payload of a kvs.getroot response."""

    namespace: str
    owner: int
    rootseq: int
    rootref: str
    flags: int = 0


class SetrootEvent(msgspec.Struct):
    """Payload of kvs.namespace-NS-setroot."""

    namespace: str
    rootseq: int
    rootref: str
    owner: int
    names: list[str]
    keys: dict[str, None]


class ErrorEvent(msgspec.Struct):
    """Payload of kvs.namespace-NS-error."""

    namespace: str
    names: list[str]
    errnum: int


class RemovedEvent(msgspec.Struct):
    """Payload of kvs.namespace-NS-removed."""

    namespace: str


def check_guest(operations: list[Any]) -> None:
    """Raises OSError for operations that a guest may not commit."""
    for operation in operations:
        if not isinstance(operation, dict) or operation.keys() != {"key", "flags", "dirent"}:
            raise OSError(errno.EPROTO, "could not decode commit operation")
        if type(operation["key"]) is not str or type(operation["flags"]) is not int:
            raise OSError(errno.EPROTO, "could not decode commit operation")
        dirent = operation["dirent"]
        if dirent is None:
            continue
        kind = _kind(dirent)
        if kind == "val" or (kind == "dir" and not dirent["data"]):
            continue
        raise OSError(errno.EPERM, f"guests may not commit {'non-empty dir' if kind == 'dir' else kind} objects")


def _kind(dirent: Any) -> str:
    if isinstance(dirent, dict) and dirent.keys() == {"data", "type", "ver"}:
        kind = dirent["type"]
        if kind in ("val", "valref", "dir", "dirref", "symlink"):
            return str(kind)
    return "???"
