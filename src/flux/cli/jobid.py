"""Job ids on command lines."""

from __future__ import annotations

import argparse
from typing import Any


def jobid_argument(text: str) -> Any:
    """The job id that a text is: the type of an argument."""
    from flux.job.JobID import JobID

    try:
        return JobID(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"invalid JobID value: '{text}'") from None
