"""flux kvs put: values into the store, in one transaction."""

from __future__ import annotations

import os
import sys

from flux.cli.commands.kvs.common import commit, connect, failure
from flux.cli.options import Parsed
from flux.cli.tool import Failure
from flux.constants import FLUX_KVS_APPEND, FLUX_KVS_NO_MERGE, FLUX_KVS_SYNC
from flux.core.kvs_txn import Txn


def put_command(parsed: Parsed) -> int:
    """Stores values literally, without quotes or newlines of its own."""
    txn = Txn()
    with connect() as handle:
        for word in parsed.words:
            _stage(parsed, txn, word)
        flags = FLUX_KVS_NO_MERGE if parsed.has("no-merge") else 0
        flags |= FLUX_KVS_SYNC if parsed.has("sync") else 0
        commit(handle, parsed, txn, flags)
    return 0


def _stage(parsed: Parsed, txn: Txn, word: str) -> None:
    key, equals, value = word.partition("=")
    if not equals:
        raise Failure("put: you must specify a value as key=value")
    flags = FLUX_KVS_APPEND if parsed.has("append") else 0
    is_treeobj = parsed.has("treeobj")
    data = os.fsencode(value)
    if value == "-" and (is_treeobj or parsed.has("raw")):
        data = sys.stdin.buffer.read()
    try:
        if is_treeobj:
            txn.put_treeobj(key, data, flags)
        else:
            txn.put(key, data, flags)
    except OSError as exc:
        raise failure(key, exc) from None
