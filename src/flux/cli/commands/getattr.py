"""flux getattr — the value of a broker attribute (spec 03, 14.1)."""

from __future__ import annotations

from flux.cli.options import Command, Parsed
from flux.cli.tool import call, connect, run, show

COMMAND = Command(
    "getattr",
    "Get a broker attribute",
    arguments="name",
    words=(1, 1),
    builtin=True,
    complete=("@attribute",),
    description="Prints the value of an attribute of the broker that FLUX_URI names: a text, such as the size of the "
    "instance or the path of its run directory.",
    examples=(
        ("flux getattr size", "The number of brokers."),
        ("flux getattr local-uri", "The URI of the instance, for FLUX_URI elsewhere on this machine."),
    ),
    see_also=("setattr", "lsattr", "start"),
)


def _body(parsed: Parsed) -> int:
    name = parsed.words[0]
    with connect(COMMAND) as handle:
        show(call(handle, "attr.get", {"name": name}, context=name)["value"])
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
