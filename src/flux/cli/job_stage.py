"""What ``flux job-validator`` and ``flux job-frobnicator`` are: a stage of the ingestion of jobs, on standard input.

A line is a job in JSON: ``{"jobspec", "userid", "urgency", "flags"}``, or with ``--jobspec-only`` the jobspec alone. A
line of output is what the plugins say of it: ``{"errnum": 0}``; with ``errstr`` if it is refused; and with ``data``,
the jobspec, if frobnicators have let it pass.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.util import CLIMain


def stage_parser(stage: str) -> FluxArgumentParser:
    """The options of both, without those of plugins."""
    from flux.job._plugins import add_option

    result = FluxArgumentParser(
        prog=f"flux-job-{stage}",
        description=f"Run {stage}s on jobs: JSON on standard input, one a line",
        add_help=False,
    )
    result.add_argument("-h", "--help", action="store_true", help="show this help message and exit")
    result.add_argument("--jobspec-only", action="store_true", help="the input is jobspecs only")
    result.add_argument("--list-plugins", action="store_true", help="list the plugins that there are, and exit")
    add_option(result)
    return result


def _list_plugins(stage: str) -> None:
    from flux.importer import import_plugins

    for name, module in sorted(import_plugins(f"flux.job.{stage}.plugins").items()):
        if hasattr(module, stage.capitalize()):
            # The first line of ours says "The validator `x`: what it does (where that is specified)."
            text = (module.__doc__ or "").strip().partition("\n")[0]
            print(f"{name:<20} {text.removeprefix(f'The {stage} `{name}`: ').partition(' (spec')[0]}".rstrip())


def _jobs(jobspec_only: bool) -> Callable[[str], dict[str, object]]:
    """How lines are read."""

    def read(line: str) -> dict[str, object]:
        try:
            job = json.loads(line)
        except ValueError as exc:
            raise ValueError(f"invalid JSON on standard input: {exc}") from None
        if jobspec_only:
            return {"jobspec": job, "userid": os.getuid(), "urgency": 16, "flags": 0}
        missing = [
            key for key in ("jobspec", "userid", "urgency", "flags") if not isinstance(job, dict) or key not in job
        ]
        if missing:
            raise ValueError(f"no {missing[0]} in a line of standard input (is it a jobspec? then --jobspec-only)")
        return dict(job)

    return read


def _run(stage: str, argv: list[str]) -> None:
    from flux.job.validator.worker import STAGES

    parser = stage_parser(stage)
    args, _ = parser.parse_known_args(argv)
    if args.list_plugins:
        _list_plugins(stage)
        return
    serve = STAGES[stage](argv, parser)
    if args.help:
        parser.print_help()
        return
    read = _jobs(args.jobspec_only)
    for line in sys.stdin:
        if line.strip():
            print(json.dumps(serve(read(line))), flush=True)


def main_of(stage: str) -> Callable[[list[str]], NoReturn]:
    """The main function of a stage."""

    def main(argv: list[str]) -> NoReturn:
        CLIMain(logging.getLogger(f"flux-job-{stage}"))(partial(_run, stage, argv))

    return main
