"""What the commands that submit jobs have in common: their options, and the jobspec these make (spec 08, section 6).

    MiniCmd -> SubmitBaseCmd -> RunCmd (flux run), SubmitBulkCmd -> SubmitCmd (flux submit)
            -> BatchAllocCmd -> AllocCmd (flux alloc), BatchCmd (flux batch)

Numbers among the options stay text until they are needed: with ``--cc`` they may have ``{cc}`` in them.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flux.cli.argparse import FluxArgumentParser
from flux.cli.option_actions import BeginTimeAction, EnvFileAction, EnvFilterAction, HelpAction, begin_time

if TYPE_CHECKING:
    from flux.cli.plugin import CLIPluginRegistry
    from flux.core.handle import Flux
    from flux.job.Jobspec import Jobspec, JobspecV1
    from flux.job.submit import SubmitFuture

__all__ = [
    "BeginTimeAction",
    "EnvFileAction",
    "EnvFilterAction",
    "MiniCmd",
    "SubmitBaseCmd",
]

_URGENCIES = {"default": 16, "hold": 0, "expedite": 31}
_FLAGS = ("debug", "waitable", "novalidate")


def whole(option: str, value: Any) -> int | None:
    """The number of an option, None if it was not given. Raises ValueError with the option's name."""
    if value is None:
        return None
    try:
        return int(value)
    except ValueError:
        raise ValueError(f"{option}: invalid int value '{value}'") from None


class MiniCmd:
    """A command that submits jobs.

    Args:
        prog: the command's name, without ``flux``.
        usage, description: for its help.
        exclude_io: options for standard streams are not shown.
    """

    def __init__(
        self, prog: str, usage: str | None = None, description: str | None = None, exclude_io: bool = False
    ) -> None:
        self.flux_handle: Flux | None = None
        self.exitcode = 0
        self.progname = prog
        self.logger = logging.getLogger(f"flux-{prog}")
        self.parser: FluxArgumentParser = self.create_parser(prog, usage, description, exclude_io)
        self._plugins: CLIPluginRegistry | None = None

    @staticmethod
    def create_parser(
        prog: str,
        usage: str | None = None,
        description: str | None = None,
        exclude_io: bool = False,
        add_help: bool = True,
    ) -> FluxArgumentParser:
        """The options that all of these commands have."""
        parser = FluxArgumentParser(
            prog=f"flux {prog}",
            usage=usage,
            description=description,
            add_help=False,
            posix=True,
        )
        add = parser.add_argument
        if add_help:
            add("--help", action=HelpAction, nargs="?", metavar="TOPIC", help="Show this help, or that of an option")
        add("-B", "--bank", metavar="BANK", help="Submit a job to a specific named bank")
        add("-q", "--queue", metavar="NAME", help="Submit a job to a specific named queue")
        add("-t", "--time-limit", metavar="MIN|FSD", help="Time limit in minutes when no units provided, else FSD")
        add("--urgency", metavar="N", default="16", help="Set job urgency (0-31), hold=0, default=16, expedite=31")
        add("--job-name", metavar="NAME", help="Set an optional name for job to NAME")
        add("-o", "--setopt", action="append", metavar="OPT", help="Set shell option OPT, or OPT=VAL")
        add("-S", "--setattr", action="append", metavar="ATTR", help="Set job attribute ATTR, or ATTR=VAL")
        add("--add-file", action="append", metavar="[NAME=]PATH", help="Add a file to the job")
        add("--dependency", action="append", metavar="URI", help="Set an RFC 26 dependency URI for this job")
        add(
            "--requires",
            action="append",
            metavar="CONSTRAINT",
            hidden_aliases=("--require",),
            help="Set job constraints, as properties or hosts",
        )
        add("--begin-time", action=BeginTimeAction, metavar="+FSD|TIME", help="Set minimum begin time for job")
        add("--env", action="append", metavar="RULE", help="Control how environment variables are exported")
        add("--env-remove", action=EnvFilterAction, metavar="PATTERN", help="Remove environment variables")
        add("--env-file", action=EnvFileAction, metavar="FILE", help="Read a set of environment rules from FILE")
        add("--rlimit", action="append", metavar="RULE", help="Control how resource limits are propagated")
        streams = {
            "--input": ("FILENAME", "Redirect job stdin from FILENAME, bypassing the KVS"),
            "--output": ("FILENAME", "Redirect job stdout to FILENAME, bypassing the KVS"),
            "--error": ("FILENAME", "Redirect job stderr to FILENAME, bypassing the KVS"),
        }
        for name, (metavar, text) in streams.items():
            add(name, metavar=metavar, help=argparse.SUPPRESS if exclude_io else text)
        add("-u", "--unbuffered", action="store_true", help="Disable buffering of input and output")
        add(
            "-l",
            "--label-io",
            action="store_true",
            help=argparse.SUPPRESS if exclude_io else "Add rank labels to stdout, stderr lines",
        )
        add("--cwd", metavar="DIRECTORY", help="Set job working directory")
        add("--flags", action="append", metavar="FLAGS", help="Set comma separated list of job submission flags")
        add("--signal", metavar="[SIG][@TIME]", help="Schedule delivery of signal SIG at a time before the time limit")
        add("--dry-run", action="store_true", hidden_aliases=("--dry",), help="Print jobspec and exit")
        add("--quiet", action="store_true", help="Do not print jobid to stdout on submission")
        add("--list-plugins", action="store_true", help="List the plugins of this command")
        add("--debug-emulate", action="store_true", help=argparse.SUPPRESS)
        return parser

    def get_parser(self) -> FluxArgumentParser:
        """The options, with those of plugins."""
        if self._plugins is None:
            from flux.cli.plugin import CLIPluginRegistry

            # Only now: no plugin may have an option that a command has.
            self._plugins = CLIPluginRegistry(self.progname)
            self._plugins.add_to(self.parser)
        return self.parser

    @property
    def plugins(self) -> CLIPluginRegistry:
        """The plugins of this command. Raises ImportError for one that cannot be loaded."""
        self.get_parser()
        assert self._plugins is not None
        return self._plugins

    def parse(self, argv: Sequence[str]) -> Any:
        """The options of a command line."""
        args = self.get_parser().parse_args(list(argv))
        if getattr(args, "help", None) is not None:
            self.plugins.print_help(args.help)
            sys.exit(0)
        if any(uri.startswith("after:") for uri in args.dependency or ()):
            print("dependency scheme 'after' is deprecated, use 'afterstart'", file=sys.stderr)
        if args.list_plugins:
            self.plugins.print_plugins()
            sys.exit(0)
        return args

    def handle(self) -> Flux:
        """A connection; opened when it is first wanted."""
        if self.flux_handle is None:
            from flux.core.handle import Flux

            self.flux_handle = Flux()
        return self.flux_handle

    def run_command(self) -> list[str]:
        """The command's own name and words."""
        return ["flux", self.progname, *sys.argv[1:]]

    # The jobspec.

    def init_jobspec(self, args: Any) -> JobspecV1:
        """The resources and the command."""
        raise TypeError(f"{type(self).__name__} does not say what its options for resources are")

    def jobspec_create(self, args: Any) -> JobspecV1:
        """The jobspec that the options stand for. Raises ValueError, with the option's name."""
        self.plugins.preinit(args)
        jobspec = self.init_jobspec(args)
        jobspec.cwd = args.cwd if args.cwd is not None else os.getcwd()
        if args.time_limit is not None:
            jobspec.duration = _time_limit(args.time_limit)
        for name, value in (("job.name", args.job_name), ("queue", args.queue), ("bank", args.bank)):
            if value is not None:
                jobspec.setattr(f"system.{name}", value)
        self._streams(args, jobspec)
        options = _OnlyThese(args)
        if args.begin_time is not None:
            when = args.begin_time if isinstance(args.begin_time, float) else begin_time(args.begin_time)
            options.dependency = [*(options.dependency or ()), f"begin-time:{when}"]
        jobspec.apply_options(options)
        self.plugins.modify_jobspec(args, jobspec)
        self.plugins.validate(jobspec)
        return jobspec

    def _streams(self, args: Any, jobspec: JobspecV1) -> None:
        labelled = []
        if args.input is not None:
            jobspec.stdin = args.input
        for name, value in (("stdout", args.output), ("stderr", args.error)):
            if value is not None and value not in ("none", "kvs"):
                setattr(jobspec, name, value)
                labelled.append(name)
        if args.label_io:
            for name in labelled:
                jobspec.setattr_shell_option(f"output.{name}.label", True)
        if args.unbuffered:
            jobspec.unbuffered = True

    # Submitting.

    def submit_async(self, args: Any, jobspec: Jobspec | None = None) -> SubmitFuture | None:
        """Submits the job that the options stand for; with ``--dry-run``, prints it, and ends the program."""
        from flux.job.submit import submit_async

        flags = _flags(args.flags)
        urgency = _URGENCIES.get(args.urgency)
        urgency = int(args.urgency) if urgency is None else urgency
        if jobspec is None:
            jobspec = self.jobspec_create(args)
        if args.dry_run:
            print(jobspec.dumps())
            sys.exit(0)
        return submit_async(
            self.handle(),
            jobspec,
            urgency=urgency,
            waitable="waitable" in flags,
            debug="debug" in flags,
            novalidate="novalidate" in flags,
        )

    def submit(self, args: Any, jobspec: Jobspec | None = None) -> Any:
        """As `submit_async`, and waits; the id."""
        future = self.submit_async(args, jobspec)
        return None if future is None else future.get_id()


def _flags(given: Sequence[str] | None) -> set[str]:
    flags = {word for words in given or () for word in words.split(",")}
    for word in sorted(flags):
        if word not in _FLAGS:
            raise ValueError(f"--flags: Unknown flag {word}")
    return flags


def _time_limit(text: str) -> Any:
    """Seconds: a plain number is minutes."""
    try:
        return float(text) * 60.0
    except ValueError:
        return text


class _OnlyThese:
    """The options that `Jobspec.apply_options` is to see: the others have been dealt with."""

    _NAMES = ("env", "rlimit", "signal", "taskmap", "dependency", "requires", "setopt", "setattr", "add_file")

    dependency: list[str] | None

    def __init__(self, args: Any) -> None:
        for name in self._NAMES:
            setattr(self, name, getattr(args, name, None))


class SubmitBaseCmd(MiniCmd):
    """A command that submits jobs made of tasks. Arguments as of MiniCmd."""

    def __init__(self, prog: str, usage: str | None = None, description: str | None = None) -> None:
        super().__init__(prog, usage, description)
        add = self.parser.add_argument
        add("--taskmap", metavar="URI", help="Select the mapping of tasks to nodes")
        add("-N", "--nodes", metavar="N", help="Set the number of nodes to assign to the job")
        add("-x", "--exclusive", action="store_true", help="With -N, --nodes, allocate nodes exclusively")
        tasks = self.parser.add_argument_group("Per task options")
        tasks.add_argument("-n", "--ntasks", metavar="N", help="Number of tasks to start")
        tasks.add_argument("-c", "--cores-per-task", metavar="N", help="Number of cores to allocate per task")
        tasks.add_argument("-g", "--gpus-per-task", metavar="N", help="Number of GPUs to allocate per task")
        resources = self.parser.add_argument_group("Per resource options")
        resources.add_argument("--cores", metavar="N", help="Request a total number of cores")
        resources.add_argument("--tasks-per-node", metavar="N", help="Force number of tasks per node")
        resources.add_argument("--tasks-per-core", metavar="N", help="Force number of tasks per core")
        resources.add_argument("--gpus-per-node", metavar="N", help="Request a number of GPUs per node with --nodes")
        add("-v", "--verbose", action="count", default=0, help="Increase verbosity (may be repeated)")
        add("command", nargs=argparse.REMAINDER, help="Job command and arguments")

    def init_jobspec(self, args: Any) -> JobspecV1:
        """The resources and the command. Raises ValueError for options that do not go together."""
        from flux.job.Jobspec import JobspecV1

        if not args.command:
            raise ValueError("job command and arguments are missing")
        nodes = whole("--nodes", args.nodes)
        per_task = [
            whole(f"--{name.replace('_', '-')}", getattr(args, name))
            for name in ("ntasks", "cores_per_task", "gpus_per_task")
        ]
        per_resource = [
            whole(f"--{name.replace('_', '-')}", getattr(args, name))
            for name in ("cores", "tasks_per_node", "tasks_per_core", "gpus_per_node")
        ]
        if any(number is not None for number in per_resource):
            if any(per_task):
                raise ValueError("Per-resource options can't be used with per-task options. (See --help for details)")
            return self._by_resources(args, nodes, *per_resource)
        ntasks, cores, gpus = per_task
        exclusive = args.exclusive
        if nodes is not None and not ntasks:
            ntasks, exclusive = nodes, True
        jobspec: JobspecV1 = JobspecV1.from_command(
            args.command,
            num_tasks=ntasks or 1,
            cores_per_task=cores or 1,
            gpus_per_task=gpus,
            num_nodes=nodes,
            exclusive=exclusive,
            environment={},  # `apply_options` makes one
        )
        return jobspec

    def _by_resources(
        self,
        args: Any,
        nodes: int | None,
        cores: int | None,
        per_node: int | None,
        per_core: int | None,
        gpus: int | None,
    ) -> JobspecV1:
        from flux.job.Jobspec import JobspecV1

        if per_node is not None and per_core is not None:
            raise ValueError("Do not specify both the number of tasks per node and per core")
        for name, number in (("--tasks-per-node", per_node), ("--tasks-per-core", per_core)):
            if number is not None and number < 1:
                raise ValueError(f"{name} must be >= 1")
        if gpus is not None and nodes is None:
            raise ValueError("--gpus-per-node requires --nodes")
        kind = "node" if per_node is not None else "core" if per_core is not None else None
        jobspec: JobspecV1 = JobspecV1.per_resource(
            args.command,
            ncores=cores,
            nnodes=nodes,
            per_resource_type=kind,
            per_resource_count=per_node if per_node is not None else per_core,
            gpus_per_node=gpus,
            exclusive=args.exclusive or (nodes is not None and cores is None),
            environment={},
        )
        return jobspec

    def parse(self, argv: Sequence[str]) -> Any:
        """The options of a command line."""
        args = super().parse(argv)
        if args.command[:1] == ["--"]:
            args.command = args.command[1:]
        return args

    def run_and_exit(self) -> None:
        """Runs the reactor until nothing is left to wait for, and ends the program."""
        if self.flux_handle is not None:
            self.flux_handle.reactor_run()
        sys.exit(self.exitcode)


#: Subclasses of what is here, in modules of their own, which the other commands do without.
_ELSEWHERE = {
    "BatchAllocCmd": "flux.cli.nest",
    "ConfAction": "flux.cli.nest",
    "SubmitBulkCmd": "flux.cli.bulk",
    "Xcmd": "flux.cli.xcmd",
}


def __getattr__(name: str) -> object:
    if name in _ELSEWHERE:
        from importlib import import_module

        return getattr(import_module(_ELSEWHERE[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ELSEWHERE})
