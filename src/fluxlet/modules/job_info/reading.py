"""Reading the KVS for `job-info`: what is followed, and what came of it (spec 05, section 9)."""

from __future__ import annotations

import errno
from typing import NamedTuple

import msgspec

from flux.constants import FLUX_NODEID_ANY, FLUX_RPC_STREAMING
from flux.core import kvs_rpc
from flux.core.future_state import RpcState
from flux.core.handle import Flux

quoted = msgspec.json.Encoder().encode
"""The JSON text of a str."""


class Outcome(NamedTuple):
    """A value, or why there is none. `sentinel`: there is none, for all that was there at first has come."""

    value: bytes
    errnum: int = 0
    text: str | None = None
    sentinel: bool = False


def outcome(state: RpcState) -> Outcome:
    """What a response of the KVS says."""
    if state.errnum:
        return Outcome(b"", state.errnum, state.errtext)
    if state.value.raw is None:
        return Outcome(b"", sentinel=True)
    try:
        return Outcome(kvs_rpc.value(state))
    except OSError as exc:
        return Outcome(b"", exc.errno or errno.EPROTO, exc.strerror)


def lookup_payload(key: str, flags: int = 0) -> bytes:
    """The payload of a kvs.lookup in the primary namespace."""
    return b'{"key":%b,"namespace":"primary","flags":%d}\0' % (quoted(key), flags)


def namespace_payload(namespace: str) -> bytes:
    """The payload of a kvs.getroot."""
    return b'{"namespace":%b}\0' % quoted(namespace)


def follow(handle: Flux, namespace: str, key: str, flags: int, refs: bool = False) -> RpcState:
    """Sends kvs-watch.lookup. `refs`: blobs are told by their references."""
    more = b',"refs":true' if refs else b""
    raw = b'{"key":%b,"namespace":%b,"flags":%d%b}\0' % (quoted(key), quoted(namespace), flags, more)
    return handle.core.rpc(b"kvs-watch.lookup", raw, FLUX_NODEID_ANY, FLUX_RPC_STREAMING)


class Lines:
    """Bytes that come in pieces, as lines."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []

    def add(self, data: bytes) -> list[bytes]:
        """The lines that are complete by now, with their newlines."""
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._rest:
            lines[0] = b"".join(self._rest) + lines[0]
            self._rest = []
        if rest:
            self._rest.append(rest)
        return [line + b"\n" for line in lines]
