"""flux watch — show what jobs write, and wait for them (spec 08, 10.2)."""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.cli.jobid import jobid_argument
from flux.cli.since import joined
from flux.util import CLIMain, FilterAction, FilterActionSetUpdate, FilterTrueAction

if TYPE_CHECKING:
    from flux.core.handle import Flux
    from flux.job.info import JobInfo

LOGGER = logging.getLogger("flux-watch")

#: For the manual.
EXAMPLES = (
    ("flux watch --all", "What all your jobs have written, and will write until they end."),
    ("flux watch --active --progress", "How far the jobs are, on the last line of the terminal."),
    ("flux watch -f failed --since=-1h", "What those jobs wrote that failed in the last hour."),
)
SEE_ALSO = ("submit", "bulksubmit", "jobs", "job")

#: The exit code for options that cannot be.
_USAGE = 2


def parser() -> FluxArgumentParser:
    """The options."""
    result = FluxArgumentParser(prog="flux-watch", description="Show what jobs write, and wait for them to end")
    add = result.add_argument
    add("-a", "--active", action=FilterTrueAction, help="Watch all active jobs")
    add("-A", "--all", action=FilterTrueAction, help="Watch all jobs, active and inactive")
    add("-c", "--count", type=int, metavar="N", default=1000, help="Limit to N jobs (default 1000, 0: all)")
    add(
        "-f",
        "--filter",
        action=FilterActionSetUpdate,
        metavar="STATE|RESULT",
        default=set(),
        help="Watch jobs with specific job states or results",
    )
    add("--since", action=FilterAction, metavar="WHEN", help="Watch jobs that were active since WHEN")
    add("--progress", action="store_true", help="Show a progress bar")
    add("--jps", action="store_true", help="With --progress, show jobs per second")
    add("-l", "--label-io", action="store_true", help="Begin lines with job and task")
    add("-v", "--verbose", action="count", default=0, help="Show how jobs end; -vv: all their events")
    add("JOBID", type=jobid_argument, nargs="*", help="Jobs to watch")
    result.set_defaults(filtered=False)
    return result


def _since(text: str | None) -> float:
    from flux.cli.since import FutureError, since

    try:
        return 0.0 if text is None else since(text)
    except FutureError as exc:
        LOGGER.error(str(exc))
    except ValueError:
        LOGGER.error(f"--since: invalid value '{text}'")
    sys.exit(_USAGE)


def _jobs(handle: Flux, args: Any) -> list[JobInfo]:
    """The jobs to watch, in the order of submission."""
    from flux.job.list import JobList

    filters = set(args.filter)
    if args.all or (args.since is not None and not (filters or args.active)):
        filters |= {"pending", "running", "inactive"}
    if args.active:
        filters |= {"pending", "running"}
    found = JobList(
        handle,
        ids=args.JOBID,
        filters=sorted(filters),
        attrs=["state", "result", "t_submit"],
        max_entries=max(args.count, 0),
        since=_since(args.since),
    )
    jobs: list[JobInfo] = found.jobs()
    for error in found.errors:
        LOGGER.error(error)
    return sorted(jobs, key=lambda job: (job.t_submit, job.id))


def _watch(args: Any) -> int:
    """Watches the jobs; the exit code."""
    from flux.core.handle import Flux
    from flux.job.watcher import JobWatcher

    with Flux() as handle:
        jobs = _jobs(handle, args)
        if not jobs:
            LOGGER.info("No matching jobs")
            return 0
        if args.verbose:
            LOGGER.info(f"Watching {len(jobs)} jobs")
        if args.progress and not sys.stdout.isatty():
            LOGGER.warning("stdout is not a tty. Ignoring --progress option")
            args.progress = False
        begun = float(handle.attr_get("broker.starttime")) if args.all else jobs[0].t_submit
        watcher = JobWatcher(
            handle,
            jobs=jobs,
            progress=args.progress,
            jps=args.jps,
            log_events=args.verbose > 1,
            log_status=args.verbose > 0,
            labelio=args.label_io,
            starttime=begun,
        ).start()
        handle.reactor_run()
        watcher.stop()
        return watcher.exitcode


def _run(argv: list[str]) -> None:
    args = parser().parse_args(joined(argv))
    if not args.JOBID and not args.filtered:
        LOGGER.error("At least one job selection option is required")
        print("Try 'flux watch --help' for more information.", file=sys.stderr)
        sys.exit(1)
    sys.exit(_watch(args))


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
