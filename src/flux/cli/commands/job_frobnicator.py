"""flux job-frobnicator — what changes jobs before they are validated, on the command line (spec 06, 4.4 and 15.12)."""

from __future__ import annotations

from flux.cli.argparse import FluxArgumentParser
from flux.cli.job_stage import main_of, stage_parser

#: For the manual.
EXAMPLES = (
    ("flux run --dry-run true | flux job-frobnicator --jobspec-only", "What the configuration makes of a job."),
    ("flux job-frobnicator --list-plugins", "The frobnicators that there are."),
)
SEE_ALSO = ("job-validator", "submit", "config")


def parser() -> FluxArgumentParser:
    """The options; plugins add theirs."""
    return stage_parser("frobnicator")


#: Runs the command.
main = main_of("frobnicator")
