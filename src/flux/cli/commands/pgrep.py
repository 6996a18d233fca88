"""flux pgrep — find jobs by name or id (spec 08, 10.4)."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.cli.jobmatch import add_options, matching
from flux.util import CLIMain

LOGGER = logging.getLogger("flux-pgrep")

#: For the manual.
EXAMPLES = (
    ("flux pgrep '^sim'", "The ids of your jobs whose names begin with sim."),
    ("flux pgrep -a -o full .", "All your jobs, as flux jobs shows them."),
)
SEE_ALSO = ("jobs", "pkill")


def parser() -> FluxArgumentParser:
    """The options."""
    result = FluxArgumentParser(prog="flux-pgrep", description="Find jobs by name or id")
    add_options(result, "Target jobs in all states")
    add = result.add_argument
    add("-n", "--no-header", action="store_true", help="Suppress printing of header line")
    add("-o", "--format", metavar="FORMAT", default="default", help="Output format, or its name; help: the names")
    return result


def _format(name: str) -> tuple[str, bool]:
    """The format that an argument means, and whether it has a header."""
    from flux.cli.commands.jobs.formats import FORMATS, JobsConfig

    ids = "{id.f58}"
    config = JobsConfig("flux-pgrep")
    config.config["formats"] = {
        "default": {"description": "Default flux-pgrep format string", "format": ids},
        "full": {"description": "full flux-pgrep format string", "format": FORMATS["default"]["format"]},
        "long": FORMATS["long"],
        "deps": FORMATS["deps"],
    }
    fmt = config.load().get_format_string(name)
    return fmt, fmt != ids or name != "default"


def _pgrep(args: Any) -> None:
    from flux.core.handle import Flux
    from flux.job.info import JobInfoFormat, job_fields_to_attrs

    fmt, headed = _format(args.format)
    try:
        table = JobInfoFormat(fmt)
    except ValueError as exc:
        raise ValueError(f"Error in user format: {exc}") from None
    with Flux() as handle:
        jobs = matching(handle, args, job_fields_to_attrs(table.fields), LOGGER)
    table.print_items(jobs, no_header=args.no_header or not headed)


def _run(argv: list[str]) -> None:
    _pgrep(parser().parse_args(argv))


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
