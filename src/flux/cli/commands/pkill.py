"""flux pkill — cancel jobs by name or id (spec 08, 10.4)."""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import Any, NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.cli.jobmatch import add_options, matching
from flux.util import CLIMain

LOGGER = logging.getLogger("flux-pkill")

#: For the manual.
EXAMPLES = (("flux pkill --wait '^sim'", "Cancels your jobs whose names begin with sim, and waits for their end."),)
SEE_ALSO = ("cancel", "pgrep")


def parser() -> FluxArgumentParser:
    """The options."""
    result = FluxArgumentParser(prog="flux-pkill", description="Cancel jobs by name or id")
    add_options(result)
    result.add_argument("--wait", action="store_true", help="Wait until the jobs have ended")
    return result


def _pkill(args: Any) -> int:
    """Cancels the jobs that match; the exit code."""
    from flux.core.handle import Flux
    from flux.job.kill import cancel_async
    from flux.job.wait import result_async

    with Flux() as handle:
        jobs = matching(handle, args, (), LOGGER)
        # Ends are waited for from before the start, so that none is missed.
        ends = [result_async(handle, job.id) for job in jobs] if args.wait else []
        canceled = 0
        for job, future in [(job, cancel_async(handle, job.id)) for job in jobs]:
            try:
                future.get()
                canceled += 1
            except OSError as exc:
                LOGGER.error(f"{job.id.f58}: cancel: {exc.strerror}")
        if canceled:
            LOGGER.info(f"Canceled {canceled} job{'' if canceled == 1 else 's'}")
        if canceled == len(jobs):
            for end in ends:
                end.get()
    return 0 if canceled == len(jobs) else 1


def _run(argv: list[str]) -> None:
    sys.exit(_pkill(parser().parse_args(argv)))


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
