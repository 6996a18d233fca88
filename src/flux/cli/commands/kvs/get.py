"""flux kvs get: values as they are, as they change, or piece by piece."""

from __future__ import annotations

import errno

from flux.cli.commands.kvs.common import connect, failure, line, number, write
from flux.cli.options import Parsed
from flux.constants import (
    FLUX_KVS_STREAM,
    FLUX_KVS_TREEOBJ,
    FLUX_KVS_WAITCREATE,
    FLUX_KVS_WATCH,
    FLUX_KVS_WATCH_APPEND,
    FLUX_KVS_WATCH_FULL,
    FLUX_KVS_WATCH_UNIQ,
)
from flux.core import kvs_rpc, treeobj
from flux.core.future_state import RpcState
from flux.core.handle import Flux

_FLAGS = {
    "treeobj": FLUX_KVS_TREEOBJ,
    "waitcreate": FLUX_KVS_WAITCREATE,
    "watch": FLUX_KVS_WATCH,
    "uniq": FLUX_KVS_WATCH_UNIQ,
    "append": FLUX_KVS_WATCH_APPEND,
    "full": FLUX_KVS_WATCH_FULL,
    "stream": FLUX_KVS_STREAM,
}


def get_command(parsed: Parsed) -> int:
    """Prints the values of keys, in the order they are named; several that are watched, as they change."""
    count = number(parsed, "count")
    with connect() as handle:
        lookups = [_ask(handle, parsed, key) for key in parsed.words]
        if len(lookups) > 1 and parsed.has("watch"):
            for lookup in lookups:
                _Watch(parsed, lookup, count).start()
            handle.reactor_run()
        else:
            for lookup in lookups:
                _print_all(parsed, lookup, count)
    return 0


def _ask(handle: Flux, parsed: Parsed, key: str) -> RpcState:
    flags = sum(bit for name, bit in _FLAGS.items() if parsed.has(name))
    at = parsed.value("at")
    try:
        if at is not None:
            return kvs_rpc.lookup_at(handle.core, flags, key, at)
        return kvs_rpc.lookup(handle.core, parsed.value("namespace"), flags, key)
    except OSError as exc:
        raise failure(key, exc) from None


def _print(parsed: Parsed, lookup: RpcState, flush: bool) -> None:
    """Prints what a lookup has found; raises its error."""
    kvs_rpc.wait(lookup)
    label = f"{lookup.aux}=" if parsed.has("label") else ""
    if parsed.has("treeobj"):
        line(label + treeobj.encode(kvs_rpc.tree_object(lookup)), flush)
        return
    data = kvs_rpc.value(lookup)
    if not parsed.has("raw"):
        data = data.partition(b"\0")[0]
        if data and not parsed.has("stream"):
            data += b"\n"
    if data:
        write(label.encode("utf-8", "surrogateescape") + data, flush)


def _print_all(parsed: Parsed, lookup: RpcState, count: int) -> None:
    """Prints the values of one key to the end. Raises Failure."""
    watch, stream = parsed.has("watch"), parsed.has("stream")
    while True:
        try:
            _print(parsed, lookup, watch or stream)
        except OSError as exc:
            if exc.errno == errno.ENODATA and (watch or stream):
                break
            raise failure(lookup.aux, exc) from None
        count -= 1
        if not (watch or stream):
            return
        if watch and count == 0:
            kvs_rpc.cancel_lookup(lookup)
            return
        lookup.reset()
    if stream and not parsed.has("raw"):
        write(b"\n")


class _Watch:
    """One of several keys that are followed at the same time."""

    def __init__(self, parsed: Parsed, lookup: RpcState, count: int) -> None:
        self._parsed = parsed
        self._lookup = lookup
        self._left = count

    def start(self) -> None:
        """Begins to print."""
        self._lookup.then(self._changed, -1.0)

    def _changed(self) -> None:
        lookup = self._lookup
        try:
            _print(self._parsed, lookup, True)
        except OSError as exc:
            if exc.errno == errno.ENODATA:
                return
            raise failure(lookup.aux, exc) from None
        self._left -= 1
        if self._left == 0:
            kvs_rpc.cancel_lookup(lookup)
            lookup.stop()
        else:
            lookup.reset()
