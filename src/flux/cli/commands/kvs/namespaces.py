"""flux kvs namespace: create, remove, list."""

from __future__ import annotations

from flux.cli.commands.kvs.common import connect, failure, line
from flux.cli.options import Parsed
from flux.cli.tool import Failure
from flux.core import kvs_rpc

#: Stands for the userid of the instance owner.
_NOBODY_ELSE = -1


def create_command(parsed: Parsed) -> int:
    """Makes namespaces."""
    owner = _NOBODY_ELSE
    given = parsed.value("owner")
    if given is not None:
        if not (given.isascii() and given.isdigit()) or int(given) > 0xFFFFFFFF:
            raise Failure("--owner requires an unsigned integer argument")
        owner = int(given)
    with connect() as handle:
        root = parsed.value("rootref")
        for name in parsed.words:
            try:
                rootref = kvs_rpc.empty_root(handle.attr_get("content.hash")) if root is None else root
                kvs_rpc.wait(kvs_rpc.namespace_create(handle.core, name, rootref, owner, 0))
            except OSError as exc:
                raise failure(name, exc) from None
    return 0


def remove_command(parsed: Parsed) -> int:
    """Removes namespaces."""
    with connect() as handle:
        for name in parsed.words:
            try:
                kvs_rpc.wait(kvs_rpc.namespace_remove(handle.core, name))
            except OSError as exc:
                raise failure(name, exc) from None
    return 0


def list_command(parsed: Parsed) -> int:
    """Lists the namespaces that are known on this rank."""
    with connect() as handle:
        try:
            found = kvs_rpc.namespaces(kvs_rpc.namespace_list(handle.core))
        except OSError as exc:
            raise failure("kvs.namespace-list", exc) from None
    line(f"{'NAMESPACE':<36} {'OWNER':>10} {'FLAGS':>10}")
    for entry in sorted(found, key=lambda entry: str(entry["namespace"])):
        line(f"{entry['namespace']:<36} {entry['owner'] & 0xFFFFFFFF:>10} 0x{entry['flags'] & 0xFFFFFFFF:08X}")
    return 0
