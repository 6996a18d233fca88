"""flux setattr — sets a broker attribute (spec 03, 14.1)."""

from __future__ import annotations

from typing import Any

from flux.cli.options import Command, Option, Parsed
from flux.cli.tool import call, connect, run

COMMAND = Command(
    "setattr",
    "Set a broker attribute",
    [Option("f", "force", "Set the attribute even if it is not meant to be updated at runtime.")],
    arguments="name value",
    words=(2, 2),
    builtin=True,
    complete=("@attribute", ""),
    description="Sets an attribute of the broker. Most say what is so and cannot be set; those that can take effect at "
    "once. Attributes that only matter at the start are set with flux start -S.",
    examples=(("flux setattr log-stderr-level 7", "Show all log messages on the broker's stderr."),),
    see_also=("getattr", "lsattr", "start"),
)


def _body(parsed: Parsed) -> int:
    name, value = parsed.words
    payload: dict[str, Any] = {"name": name, "value": value}
    if parsed.has("force"):
        payload["force"] = True
    with connect(COMMAND) as handle:
        call(handle, "attr.set", payload, context=name)
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
