"""flux kvs version, wait, getroot and sync: roots and what they are called."""

from __future__ import annotations

from flux.cli.commands.kvs.common import commit, connect, failure, line, root_text
from flux.cli.options import Parsed
from flux.cli.tool import Failure
from flux.constants import FLUX_KVS_SYNC
from flux.core import kvs_rpc
from flux.core.kvs_txn import Txn


def version_command(parsed: Parsed) -> int:
    """Prints the sequence number of the root."""
    with connect() as handle:
        try:
            line(str(kvs_rpc.root_sequence(kvs_rpc.getroot(handle.core, parsed.value("namespace"), None))))
        except OSError as exc:
            raise failure("flux_kvs_get_version", exc) from None
    return 0


def wait_command(parsed: Parsed) -> int:
    """Waits for a sequence number."""
    (version,) = parsed.words
    if not (version.isascii() and version.isdigit()):
        raise Failure(f"invalid version '{version}': it must be a whole number")
    with connect() as handle:
        try:
            kvs_rpc.wait(kvs_rpc.wait_version(handle.core, parsed.value("namespace"), int(version)))
        except OSError as exc:
            raise failure("flux_kvs_wait_version", exc) from None
    return 0


def getroot_command(parsed: Parsed) -> int:
    """Prints the root, by default as a tree object."""
    part = next((name for name in ("sequence", "owner", "blobref") if parsed.has(name)), "treeobj")
    with connect() as handle:
        state = kvs_rpc.getroot(handle.core, parsed.value("namespace"))
        try:
            if part == "sequence":
                line(str(kvs_rpc.root_sequence(state)))
            elif part == "owner":
                line(str(kvs_rpc.answer(state, ("owner", int))["owner"] & 0xFFFFFFFF))
            elif part == "blobref":
                line(kvs_rpc.root_reference(state))
            else:
                line(root_text(state))
        except OSError as exc:
            raise failure(f"flux_kvs_getroot_get_{part}", exc) from None
    return 0


def sync_command(parsed: Parsed) -> int:
    """Has the current state written so that it would survive a crash."""
    with connect() as handle:
        commit(handle, parsed, Txn(), FLUX_KVS_SYNC)
    return 0
