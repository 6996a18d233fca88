"""flux version — the versions of tools, library and broker (spec 03, 2.4)."""

from __future__ import annotations

import os
import platform

from flux.cli.options import Command, Parsed
from flux.cli.tool import call, connect, run, show
from flux.version import CORE_VERSION, FLUXLET_VERSION

COMMAND = Command(
    "version",
    "Display flux version information",
    words=(0, None),
    builtin=True,
    description="Prints the version of flux-core that commands and library are compatible with, that of the broker if "
    "FLUX_URI names one, and that of Fluxlet.",
    examples=(("flux version", "The same as flux --version."),),
    see_also=("help",),
)


def _body(parsed: Parsed) -> int:
    show(f"commands:    \t\t{CORE_VERSION}")
    show(f"libflux-core:\t\t{CORE_VERSION}")
    uri = os.environ.get("FLUX_URI")
    if uri is not None:
        with connect(COMMAND) as handle:
            broker = call(handle, "attr.get", {"name": "version"}, context="error getting broker version")["value"]
        show(f"broker:  \t\t{broker}")
        show(f"FLUX_URI:\t\t{uri}")
    show(f"build-options:\t\t+python=={platform.python_version()}")
    show(f"fluxlet: \t\t{FLUXLET_VERSION}")
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
