"""The requests of the subprocess server, and what is said of those that will not do (spec 04, 5.2 to 5.5).

The reference tells its client what is wrong in the words of its JSON unpacker, so that is what we do.
"""

from __future__ import annotations

import errno
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from flux.message import Message
from fluxlet.config_table import type_name
from fluxlet.payload import decode, read_object

T = TypeVar("T", bound="Request")


class Request(msgspec.Struct):
    """What all requests may have: a signature, which nobody here can check."""

    signature: Any = UNSET


class ExecRequest(Request, kw_only=True):
    """Payload of rexec.exec. `flags`: FORWARD_* and others of `server`; `local_flags`: those of `launch`."""

    cmd: Any
    flags: int
    local_flags: int = 0


class TargetRequest(Request, kw_only=True):
    """Payload of rexec.wait; and what those of kill and attach have in common. A label goes over the pid."""

    pid: int
    label: str | UnsetType = UNSET


class KillRequest(TargetRequest, kw_only=True):
    """Payload of rexec.kill."""

    signum: int


class AttachRequest(TargetRequest, kw_only=True):
    """Payload of rexec.attach. `flags`: FORWARD_* of `server`."""

    flags: int


class IO(msgspec.Struct):
    """A piece of a stream.

    Args:
        stream: its name.
        rank: of the server, as text.
        data: text; or bytes, if `encoding` is "base64".
        eof: nothing comes after it.
    """

    stream: str
    rank: str
    data: str | UnsetType = UNSET
    encoding: str | UnsetType = UNSET
    eof: bool = False


class WriteRequest(Request, kw_only=True):
    """Payload of rexec.write: for the process that the sender's exec request of this matchtag has started."""

    matchtag: int
    io: IO


def unpack(message: Message, kind: type[T]) -> T:
    """A request's payload. Raises OSError(EPROTO) saying what is wrong; EPERM for one that is signed."""
    try:
        request = decode(message, kind)
    except OSError as exc:
        raise OSError(errno.EPROTO, f"invalid request payload: {_reason(message, kind, exc)}") from None
    if request.signature is not UNSET:
        raise OSError(errno.EPERM, "flux-security support not available")
    return request


def _reason(message: Message, kind: type[Request], error: OSError) -> str:
    """What is wrong with a payload that does not decode, in the words of the reference."""
    try:
        payload = read_object(message)
    except OSError as exc:
        return str(exc.strerror)
    for field in msgspec.structs.fields(kind):
        if field.name not in payload:
            if field.required:
                return f"Object item not found: {field.name}"
            continue
        value = payload[field.name]
        wanted = {int: "integer", str: "string", str | UnsetType: "string"}.get(field.type)
        if wanted is not None and type_name(value) != wanted:
            return f"Expected {wanted}, got {type_name(value)}"
    return str(error.strerror)
