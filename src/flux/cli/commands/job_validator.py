"""flux job-validator — validators of jobs on the command line, as job-ingest runs them (spec 06, 4.4 and 15.12)."""

from __future__ import annotations

from flux.cli.argparse import FluxArgumentParser
from flux.cli.job_stage import main_of, stage_parser

#: For the manual.
EXAMPLES = (
    ("flux run --dry-run true | flux job-validator --jobspec-only", "Whether a job may be submitted."),
    ("flux job-validator --jobspec-only --plugins=jobspec,./bank.py < jobspec.json", "What a validator of ours says."),
    ("flux job-validator --list-plugins", "The validators that there are."),
)
SEE_ALSO = ("job-frobnicator", "submit")


def parser() -> FluxArgumentParser:
    """The options; plugins add theirs."""
    return stage_parser("validator")


#: Runs the command.
main = main_of("validator")
