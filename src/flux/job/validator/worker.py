"""A process that validates or frobnicates for job-ingest: plugins of users do not run in the broker (spec 06, 4.3).

Lines of JSON come in, one for each job, and one goes out for each:
``{"jobspec", "userid", "rolemask", "urgency", "flags"}`` -> ``{"errnum", "errstr"?, "data"?}``.

    python -m flux.job.validator.worker validator|frobnicator [--plugins=...] [ARGS...]
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any


def _validator(argv: list[str], parser: argparse.ArgumentParser | None = None) -> Any:
    from flux.job.validator import JobValidator

    validator = JobValidator(argv, parser=parser)
    validator.start()
    return lambda job: json.loads(str(validator.validate(job)))


def _frobnicator(argv: list[str], parser: argparse.ArgumentParser | None = None) -> Any:
    from flux.job.frobnicator import JobFrobnicator
    from flux.job.Jobspec import Jobspec

    frobnicator = JobFrobnicator(argv, parser=parser)
    frobnicator.start()

    def frob(job: dict[str, Any]) -> dict[str, Any]:
        try:
            jobspec = Jobspec(**job["jobspec"])
        except (ValueError, TypeError) as exc:
            return {"errnum": 1, "errstr": f"invalid jobspec: {exc}"}
        try:
            frobnicator.frob(jobspec, job["userid"], job["flags"], job["urgency"])
        except OSError as exc:
            return {"errnum": 1, "errstr": exc.strerror or str(exc)}
        except (ValueError, TypeError, KeyError, AttributeError) as exc:
            return {"errnum": 1, "errstr": str(exc) or type(exc).__name__}
        return {"errnum": 0, "data": jobspec.jobspec}

    return frob


#: What makes the function that serves, of the command line and the parser for it.
STAGES = {"validator": _validator, "frobnicator": _frobnicator}


def main(argv: list[str]) -> int:
    """Serves until its input ends. Returns the exit code; what is wrong with the plugins goes to stderr."""
    stage, *rest = argv
    try:
        serve = STAGES[stage](rest)
    except (ValueError, OSError, ImportError) as exc:
        print(f"job-{stage}: {exc}", file=sys.stderr)
        return 1
    for line in sys.stdin:
        print(json.dumps(serve(json.loads(line))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
