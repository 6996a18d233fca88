"""flux lsattr — the names of the broker attributes (spec 03, 14.1)."""

from __future__ import annotations

import errno

from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import Failure, call, connect, run, show, text_of
from flux.rpc import RPC

COMMAND = Command(
    "lsattr",
    "List broker attributes",
    [Option("v", "values", "List values too.")],
    builtin=True,
    description="Prints the names of the broker's attributes, sorted.",
    examples=(("flux lsattr -v", "Names and values; - is an attribute without a value."),),
    see_also=("getattr", "setattr"),
)


def _value(name: str, request: RPC) -> str:
    try:
        return str(request.get()["value"])
    except OSError as exc:
        if exc.errno == errno.ENOENT:
            return "-"  # listed, and without a value
        raise Failure(f"{name}: {text_of(exc)}") from None


def _body(parsed: Parsed) -> int:
    with connect(COMMAND) as handle:
        names = sorted(call(handle, "attr.list", context="attr.list")["names"])
        if not parsed.has("values"):
            show("\n".join(names))
            return 0
        # All at once: over a long line the answers then cost one round trip.
        requests = [(name, handle.rpc("attr.get", {"name": name})) for name in names]
        for name, request in requests:
            show(f"{name:<40}{_value(name, request)}")
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
