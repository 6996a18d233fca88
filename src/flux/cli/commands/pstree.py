"""flux pstree — jobs, and the jobs of the instances among them, as a tree (spec 08, 10.5)."""

from __future__ import annotations

import argparse
import logging
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.cli.jobid import jobid_argument
from flux.util import CLIMain, FilterActionSetUpdate, FilterTrueAction, YesNoAction

if TYPE_CHECKING:
    from flux.util import Tree

LOGGER = logging.getLogger("flux-pstree")

#: For the manual.
EXAMPLES = (
    ("flux pstree", "The jobs that run, and those that run in them."),
    ("flux pstree -a -p", "All jobs with how they do, and the ids of those that are instances."),
    ("flux pstree -d progress", "How far each instance is, beside the tree."),
    ("flux pstree ƒ2oRvKCz", "Only one job, and what is in it."),
)
SEE_ALSO = ("jobs", "top", "pgrep")

_DETAILS = {
    "default": (
        "{id.f58:>12} {username:<8.8} {status_abbrev:>2.2} {ntasks:>6h} {nnodes:>6h} {runtime!F:>8h}",
        "Default details format string",
    ),
    "resources": (
        "{id.f58:>12} {instance.resources.all.nnodes:>5} {instance.resources.allocated.nnodes:>5} "
        "{instance.resources.all.ncores:>5} {instance.resources.allocated.ncores:>5} "
        "{instance.resources.all.ngpus:>5} {instance.resources.allocated.ngpus:>5}",
        "Resources of instances, and how much of them is in use",
    ),
    "progress": (
        "{id.f58:>12} {ntasks:>6h} {instance.stats.total:>6} {instance.progress!P:>5} "
        "{instance.utilization!P:>5} {instance.gpu_utilization!P:>5} {runtime!H:>10}",
        "How much of the work of instances is done",
    ),
    "stats": ("{id.f58:>12} {instance.stats:^25} {runtime!H:>10}", "Counts of the jobs of instances"),
}


def parser() -> FluxArgumentParser:
    """The options."""
    result = FluxArgumentParser(prog="flux-pstree", description="Show jobs, and the jobs in them, as a tree")
    add = result.add_argument
    add("-a", "--all", action=FilterTrueAction, help="Include jobs in all states")
    add("-c", "--count", type=int, metavar="N", default=1000, help="Limit to N jobs of each instance")
    add(
        "-f",
        "--filter",
        action=FilterActionSetUpdate,
        metavar="STATE|RESULT",
        default=set(),
        help="Include jobs with specific job states or results (default: running)",
    )
    add("-x", "--extended", action="store_true", help="Show details of jobs before the tree")
    add("-l", "--long", action="store_false", dest="truncate", help="Do not cut long lines to the terminal's width")
    add("-L", "--level", type=int, metavar="N", default=9999, help="Only descend N levels")
    add("-p", "--parent-ids", action="store_true", help="Show the ids of jobs that are instances")
    add("-n", "--no-header", action="store_true", help="Suppress printing of header line, with details")
    add("-X", "--no-combine", action="store_false", dest="combine", help="Print equal jobs one by one")
    add("-o", "--label", metavar="FORMAT", help="Format of a job's label")
    add("--parent-label", metavar="FORMAT", help="Format of the label of a job that is an instance")
    add("--detail-format", metavar="FORMAT", help="Format of the details (implies --extended)")
    add(
        "-d",
        "--details",
        metavar="NAME",
        help=f"Named format of the details (implies --extended): {', '.join(_DETAILS)}",
    )
    style = result.add_mutually_exclusive_group()
    style.add_argument(
        "-C", "--compact", action="store_const", dest="style", const="compact", default="box", help="Use less width"
    )
    style.add_argument("--ascii", action="store_const", dest="style", const="ascii", help="Use ASCII characters only")
    add(
        "--skip-root",
        action=YesNoAction,
        help="Leave out the instance itself (default: no, but yes with details or with JOBIDs)",
    )
    add("JOBID", type=jobid_argument, nargs="*", help="Only show these jobs")
    result.set_defaults(filtered=False)
    return result


def _details(args: argparse.Namespace) -> str | None:
    """The format of what stands before the tree; None: nothing does."""
    if args.detail_format:
        return str(args.detail_format)
    if args.details:
        if args.details not in _DETAILS:
            raise ValueError(f"Unknown --details format '{args.details}'")
        return _DETAILS[args.details][0]
    return _DETAILS["default"][0] if args.extended else None


def _run(argv: list[str]) -> None:
    args = parser().parse_args(argv)
    details = _details(args)
    if args.all and args.filter:
        LOGGER.warning("Both -a and --filter specified, ignoring -a")
    if args.skip_root is None:
        args.skip_root = bool(details or args.JOBID)

    from flux.cli.job_tree import JobTree
    from flux.core.handle import Flux

    tree = JobTree(
        label=args.label or ("{name}:{status_abbrev}" if args.all else "{name}"),
        parent_label=("{id.f58} " if args.parent_ids else "") + (args.parent_label or args.label or "{name}"),
        details=details,
        filters=args.filter or ({"pending", "running", "inactive"} if args.all else {"running"}),
        count=args.count,
        combine=args.combine,
    )
    with Flux() as handle:
        root = tree.root(handle, "." if not args.parent_ids else ". .") if not args.skip_root else tree.node("")
        tree.fill(root, handle, args.level, args.JOBID)
    for error in tree.errors:
        LOGGER.error(error)
    _print(tree.header() if not args.no_header else "", root, args)
    if args.JOBID and not root.children:
        raise SystemExit(1)


def _print(header: str, root: Tree, args: argparse.Namespace) -> None:
    if header:
        print(header)
    root.render(style=args.style, skip_root=args.skip_root, truncate=args.truncate)


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
