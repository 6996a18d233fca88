"""flux post-job-event — post an event to the eventlog of a job (spec 08, 10.7)."""

from __future__ import annotations

import errno
import logging
from functools import partial
from typing import Any, NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.cli.jobid import jobid_argument
from flux.util import CLIMain, TreedictAction

LOGGER = logging.getLogger("flux-job-post-event")

#: For the manual.
EXAMPLES = (("flux post-job-event ƒ2oRvKCz checkpoint step=4", "Notes in the eventlog that step 4 is on disk."),)
SEE_ALSO = ("job",)


def parser() -> FluxArgumentParser:
    """The options."""
    result = FluxArgumentParser(prog="flux-post-job-event", description="Post an event to the eventlog of a job")
    result.add_argument("id", type=jobid_argument, help="The job")
    result.add_argument("name", help="Name of the event")
    result.add_argument("context", nargs="...", action=TreedictAction, metavar="KEY=VALUE", help="What the event tells")
    return result


def _post(args: Any, word: str) -> None:
    from flux.core.handle import Flux

    request = {"id": args.id, "name": args.name}
    if args.context:
        request["context"] = args.context
    with Flux() as handle:
        try:
            handle.rpc("job-manager.post-event.post", request).get()
        except OSError as exc:
            if exc.errno == errno.ENOENT:
                raise ValueError(f"No such job {word}") from None
            raise


def _run(argv: list[str]) -> None:
    args = parser().parse_args(argv)
    _post(args, args.id.orig)


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
