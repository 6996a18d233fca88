"""What ``flux jobs`` does: asks for jobs, prints them, and goes on with the instances among them (spec 08, 9.1)."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable
from typing import Any

from flux.cli.commands.jobs.formats import JobsConfig
from flux.cli.since import since
from flux.core.handle import Flux
from flux.job._names import INACTIVE
from flux.job.info import JobInfo, JobInfoFormat, job_fields_to_attrs
from flux.job.list import JobList
from flux.job.stats import JobStats

LOGGER = logging.getLogger("flux-jobs")

_RUN = 16
_ACTIVE = "pending,running"
_COLORS = {
    "COMPLETED": "\033[01;32m",
    "FAILED": "\033[01;31m",
    "TIMEOUT": "\033[01;31m",
    "CANCELED": "\033[37m",
}
_INSTANCE_COLOR = "\033[01;34m"
_RESET = "\033[0;0m"


def listing(args: Any) -> None:
    """The command. Ends the program where its exit code is not 0."""
    if args.json and (args.stats or args.stats_only):
        raise ValueError("--json incompatible with --stats or --stats-only")
    if args.recurse_all:
        args.recursive = True
    if args.JOBID and args.filtered and not args.recursive:
        LOGGER.warning("Filtering options ignored with jobid list")
    if args.a and args.filter:
        LOGGER.warning("Both -a and --filter specified, ignoring -a")
    args.since = since(args.since) if args.since else 0.0
    table = _table(args)
    if args.from_stdin:
        jobs, truncated = _from_stdin(), False
        handle = None
    else:
        handle = Flux()
        if args.stats or args.stats_only:
            _print_stats(handle, args)
        jobs, truncated = _fetch(handle, args, table)
    if args.json:
        _print_json(jobs, args)
        return
    _add_instances(jobs, table)
    _print(jobs, args, table)
    if truncated and not args.no_header:
        print(f"warning: output truncated at {args.count} jobs.", file=sys.stderr)
        print("Use --count to increase returned results or use filters to alter results.", file=sys.stderr)
    if args.recursive:
        _descend(jobs, args, table, "", args.level)


def _table(args: Any) -> JobInfoFormat:
    fmt = JobsConfig().load().get_format_string(args.format)
    try:
        table = JobInfoFormat(fmt)
    except ValueError as exc:
        raise ValueError(f"Error in user format: {exc}") from None
    if args.sort:
        table.set_sort_keys(args.sort)
    return table


# Asking.


def _attributes(args: Any, table: JobInfoFormat) -> set[str]:
    if args.json:
        return {"all"}
    attrs = job_fields_to_attrs(table.fields)
    if args.color.enabled:
        attrs |= {"result", "annotations"}
    if args.recursive:
        attrs |= {"annotations", "state", "result", "userid"}
    return attrs


def _constraint(include: str | None) -> dict[str, Any] | None:
    if include is None:
        return None
    from flux.hostlist import Hostlist
    from flux.idset import IDset

    try:
        return {"ranks": [str(IDset(include))]}
    except ValueError:
        pass
    try:
        return {"hostlist": [Hostlist(include).encode()]}
    except (ValueError, OSError):
        raise ValueError(f"-i/--include: invalid targets: {include}") from None


def _fetch(handle: Flux, args: Any, table: JobInfoFormat) -> tuple[list[JobInfo], bool]:
    """The jobs, and whether there are more of them."""
    filters = args.filter or ({"pending", "running", "inactive"} if args.a or args.since > 0 else {_ACTIVE})
    everybody = args.A or (args.include is not None and not args.filtereduser)
    jobs = JobList(
        handle,
        attrs=sorted(_attributes(args, table)),
        filters=sorted(filters),
        ids=args.JOBID,
        user="all" if everybody else args.user,
        # One more than asked for tells whether there are more.
        max_entries=args.count + 1 if args.count > 0 else args.count,
        since=args.since,
        name=args.name,
        queue=sorted(args.queue) or None,
        constraint=_constraint(args.include),
    )
    found = jobs.jobs()
    for error in jobs.errors:
        print(error, file=sys.stderr)
    if args.JOBID and not found:
        sys.exit(1)
    truncated = 0 < args.count < len(found) and not args.JOBID
    return (found[: args.count] if truncated else found), truncated


def _from_stdin() -> list[JobInfo]:
    jobs = []
    for number, line in enumerate(sys.stdin, 1):
        try:
            jobs.append(JobInfo(json.loads(line)))
        except ValueError as exc:
            raise ValueError(f"JSON input error: line {number}: {exc}") from None
    return jobs


def _stats_line(handle: Flux, args: Any, purged: bool = True) -> tuple[str, JobStats]:
    try:
        stats = JobStats(handle, sorted(args.queue) or None).update_sync()
    except ValueError as exc:
        raise ValueError(f"error retrieving job stats: {exc}") from None
    line = f"{stats.running} running, {stats.successful} completed, {stats.failed} failed, {stats.pending} pending"
    return (f"{line}, {stats.inactive_purged} inactive purged" if purged else line), stats


def _print_stats(handle: Flux, args: Any) -> None:
    line, stats = _stats_line(handle, args)
    print(line)
    if args.stats_only:
        sys.exit(0 if stats.active else 1)


# Printing.


def _add_instances(jobs: Iterable[JobInfo], table: JobInfoFormat) -> None:
    """Asks the instances among the jobs, if the format shows something of them."""
    if any(field.removeprefix("0.").startswith("instance.") for field in table.fields):
        for job in jobs:
            job.get_instance_info()


def _print(jobs: list[JobInfo], args: Any, table: JobInfoFormat) -> None:
    if not args.color.enabled:
        table.print_items(jobs, no_header=args.no_header, width=args.width)
        return

    def begin(job: JobInfo) -> None:
        color = _COLORS.get(job.result, "") if job.result else _INSTANCE_COLOR if job.uri else ""
        sys.stdout.write(color)

    def end(job: JobInfo) -> None:
        if job.result or job.uri:
            sys.stdout.write(_RESET)

    table.print_items(jobs, no_header=args.no_header, width=args.width, pre=begin, post=end)


def _as_dict(job: JobInfo, args: Any, level: int) -> dict[str, Any]:
    found = job.to_dict()
    if args.recursive and level > 0 and (inner := _inside(job, args, JobInfoFormat("{id}"))) is not None:
        found["jobs"] = [_as_dict(one, args, level - 1) for one in inner[0]]
    return found


def _print_json(jobs: list[JobInfo], args: Any) -> None:
    found = [_as_dict(job, args, args.level) for job in jobs]
    if len(args.JOBID) == 1 and found:
        print(json.dumps(found[0]))
    else:
        print(json.dumps({"jobs": found}))


# The instances among the jobs.


def _inside(job: JobInfo, args: Any, table: JobInfoFormat) -> tuple[list[JobInfo], str | None] | None:
    """The jobs of the instance that a job is, and its counts; None if it is none of ours that runs."""
    import os

    from flux.job._infoparts import _reachable

    if job.state_id == INACTIVE or job.state_id != _RUN or job.uri is None:
        return None
    if not args.recurse_all and job.userid != os.getuid():
        return None
    mine = type(args)(**vars(args))
    mine.JOBID = []
    try:
        with Flux(_reachable(job.uri)) as handle:
            stats = _stats_line(handle, args, purged=False)[0] if args.stats else None
            return _fetch(handle, mine, table)[0], stats
    except OSError:
        return [], None  # it is not to be reached, or has just ended


def _descend(jobs: list[JobInfo], args: Any, table: JobInfoFormat, path: str, level: int) -> None:
    if level <= 0:
        return
    for job in jobs:
        inner = _inside(job, args, table)
        if inner is None:
            continue
        where = f"{path}/{job.id.f58}" if path else job.id.f58
        print(f"\n{where}:")
        found, stats = inner
        if stats is not None:
            print(stats)
        _add_instances(found, table)
        mine = type(args)(**vars(args))
        mine.no_header = True
        _print(found, mine, table)
        _descend(found, args, table, where, level - 1)
