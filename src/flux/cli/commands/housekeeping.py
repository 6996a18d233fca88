"""flux housekeeping — what cleans up behind jobs before others get their resources (spec 06, section 12)."""

from __future__ import annotations

import argparse
import logging
import signal
import time
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from flux.cli.argparse import FluxArgumentParser
from flux.cli.jobid import jobid_argument
from flux.util import CLIMain

if TYPE_CHECKING:
    from flux.core.handle import Flux
    from flux.idset import IDset
    from flux.resource.ResourceSet import ResourceSet

LOGGER = logging.getLogger("flux-housekeeping")

#: For the manual.
EXAMPLES = (
    ("flux housekeeping list", "The jobs that are cleaned up behind, and for how long that has taken."),
    ("flux housekeeping list -no '{id} {pending.nodelist}'", "Only where it goes on."),
    ("flux housekeeping kill --jobid=ƒ2oRvKCz", "End it for one job."),
    ("flux housekeeping kill --targets=node[3-4] --signal=KILL", "End all of it on some hosts."),
)
SEE_ALSO = ("jobs", "resource", "admin")

_IDS = ("dec", "hex", "dothex", "kvs", "words", "f58", "f58plain", "emoji")
_HEADINGS = {
    "id": "JOBID",
    **{f"id.{form}": "JOBID" for form in _IDS},
    "t_start": "T_START",
    "runtime": "RUNTIME",
    "nnodes": "NNODES",
    "ranks": "RANKS",
    "nodelist": "NODELIST",
    **{
        f"{which}.{what}": f"{which.upper()}{suffix}"
        for which in ("allocated", "pending")
        for what, suffix in (("nnodes", ""), ("ranks", ":RANKS"), ("nodelist", ":NODELIST"))
    },
}
_FORMATS = {
    "default": {
        "description": "Default flux-housekeeping list format string",
        "format": "{id.f58:>12} {nnodes:>6} {pending.nnodes:>7} {runtime!F:>8} {nodelist}",
    }
}


def parser() -> FluxArgumentParser:
    """The options."""
    result = FluxArgumentParser(prog="flux-housekeeping", description="List and end the housekeeping of jobs")
    commands = result.add_subparsers(title="subcommands", dest="subcommand", required=True)

    def command(name: str, text: str) -> Any:
        return commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}")

    listed = command("list", "list the jobs whose housekeeping runs")
    listed.add_argument("-i", "--include", metavar="HOSTS|RANKS", help="only jobs on these hosts or ranks")
    listed.add_argument("-n", "--no-header", action="store_true", help="print no heading")
    listed.add_argument("-o", "--format", metavar="FORMAT", default="default", help="what to show; help: the names")
    kill = command("kill", "end housekeeping")
    kill.add_argument("-s", "--signal", metavar="SIGNUM", default="SIGTERM", help="send this signal (default: SIGTERM)")
    kill.add_argument("-t", "--targets", metavar="RANKS|HOSTS", help="only on these ranks or hosts")
    kill.add_argument("-j", "--jobid", type=jobid_argument, metavar="JOBID", help="only of this job")
    kill.add_argument("--all", action="store_true", help="of all jobs, everywhere")
    return result


class _Part:
    """Some of a job's nodes: `ranks`, `nodelist`, `nnodes`."""

    def __init__(self, ranks: IDset, resources: ResourceSet) -> None:
        self.ranks = ranks
        self._resources = resources

    @property
    def nnodes(self) -> int:
        return len(self.ranks)

    @property
    def nodelist(self) -> Any:
        return self._resources.copy_ranks(self.ranks).nodelist if len(self.ranks) else ""


class _House(_Part):
    """The housekeeping of a job; what the part of no name is: the nodes whose resources are not free yet."""

    def __init__(self, jobid: Any, entry: dict[str, Any], resources: ResourceSet) -> None:
        from flux.idset import IDset

        self.id = jobid
        self.t_start = entry["t_start"]
        self.runtime = max(0.0, time.time() - self.t_start)
        self.allocated = _Part(IDset(entry["allocated"]), resources)
        self.pending = _Part(IDset(entry["pending"]), resources)
        super().__init__(self.allocated.ranks, resources)


def _targets(text: str, resources: ResourceSet) -> IDset:
    """The ranks that a text means. Raises ValueError for a host that there is not."""
    from flux.idset import IDset

    try:
        return IDset(text)
    except ValueError:
        return IDset(resources.host_ranks(text))


def _list(handle: Flux, args: argparse.Namespace, resources: ResourceSet) -> None:
    from flux.job.JobID import JobID
    from flux.resource.list import included
    from flux.util import OutputFormat, UtilConfig

    config = UtilConfig("flux-housekeeping", subcommand="list", initial_dict={"list": {"formats": dict(_FORMATS)}})
    table = OutputFormat(config.load().get_format_string(args.format), headings=_HEADINGS)
    running = handle.rpc("job-manager.stats-get").get()["housekeeping"]["running"]
    houses = [_House(JobID(jobid), entry, resources) for jobid, entry in running.items()]
    if args.include is not None:
        wanted = included(resources, args.include)
        houses = [house for house in houses if len(house.ranks & wanted)]
    table.print_items(houses, no_header=args.no_header)


def _signum(text: str) -> int:
    if text.isdecimal():
        return int(text)
    name = text.upper()
    try:
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except KeyError:
        raise ValueError(f"Invalid signal {text}") from None


def _kill(handle: Flux, args: argparse.Namespace, resources: ResourceSet) -> None:
    if args.all and (args.jobid is not None or args.targets is not None):
        raise ValueError("do not specify --jobid or --targets with --all")
    if not args.all and args.jobid is None and args.targets is None:
        raise ValueError("specify at least one of --all, --jobid or --targets")
    request: dict[str, Any] = {"signum": _signum(args.signal)}
    if args.jobid is not None:
        request["jobid"] = int(args.jobid)
    if args.targets is not None:
        request["ranks"] = str(_targets(args.targets, resources))
    handle.rpc("job-manager.housekeeping-kill", request).get()


def _run(argv: list[str]) -> None:
    args = parser().parse_args(argv)
    from flux.core.handle import Flux
    from flux.resource.list import resource_list

    with Flux() as handle:
        (_list if args.subcommand == "list" else _kill)(handle, args, resource_list(handle).get().all)


def main(argv: list[str]) -> NoReturn:
    """Runs the command, and ends the program with its exit code."""
    CLIMain(LOGGER)(partial(_run, argv))
