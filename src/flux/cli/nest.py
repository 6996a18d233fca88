"""What ``flux alloc`` and ``flux batch`` have in common: jobs that are instances (spec 08, section 6; spec 07, 7.1).

Such a job asks for slots rather than tasks: what runs is one broker on each node, and what is done with the slots is up
to the instance. Everything of it, its configuration too, is in the jobspec: no service knows of these jobs.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from flux.cli.base import MiniCmd, whole

if TYPE_CHECKING:
    from flux.job.Jobspec import JobspecV1

#: Where ``--dump`` without a name writes; the broker knows its id.
_DUMP = "flux-{{jobid}}-dump.tgz"


class ConfAction(argparse.Action):
    """``--conf=CONF``: adds to the instance's configuration."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Adds what `values` says. Raises ValueError, which says --conf."""
        from flux.job._utils import BatchConfig

        if getattr(namespace, self.dest, None) is None:
            setattr(namespace, self.dest, BatchConfig())
        try:
            getattr(namespace, self.dest).update(values)
        except OSError as exc:
            raise ValueError(f"--conf: {exc}") from exc


class BatchAllocCmd(MiniCmd):
    """A command that submits instances. Arguments as of MiniCmd."""

    def __init__(
        self, prog: str, usage: str | None = None, description: str | None = None, exclude_io: bool = True
    ) -> None:
        super().__init__(prog, usage, description, exclude_io)
        add = self.parser.add_argument
        add("--add-brokers", metavar="ADD_BROKERS", help=argparse.SUPPRESS)
        add(
            "--conf",
            action=ConfAction,
            metavar="CONF",
            help="Configure the instance: KEY=VALUE, FILE.toml, FILE.json, lines of TOML or JSON, or the name of one "
            "of the files in ~/.config/flux/config (may be repeated)",
        )
        add(
            "--broker-opts",
            action="append",
            metavar="OPTS",
            hidden_aliases=("--broker-opt",),
            help="Pass comma separated options to the brokers",
        )
        add("--dump", nargs="?", const=_DUMP, metavar="FILE", help="Write an archive of the KVS at the end")
        group = self.parser.add_argument_group("Options for resources")
        add = group.add_argument
        add("-n", "--nslots", metavar="N", help="Number of resource slots; with -N, spread over the nodes")
        add("-c", "--cores-per-slot", metavar="N", default="1", help="Number of cores to allocate per slot")
        add("-g", "--gpus-per-slot", metavar="N", help="Number of GPUs to allocate per slot")
        add("-N", "--nodes", metavar="N", help="Number of nodes; without -n, all of each")
        add("-x", "--exclusive", action="store_true", help="With -N, --nodes, allocate nodes exclusively")

    # What `init_jobspec` of the commands begins and ends with.

    def init_common(self, args: Any) -> None:
        """Makes of the options what the jobspec is to be of. Raises ValueError."""
        from flux.job._utils import list_split

        args.nodes = whole("--nodes", args.nodes)
        args.nslots = whole("--nslots", args.nslots)
        args.cores_per_slot = whole("--cores-per-slot", args.cores_per_slot)
        args.gpus_per_slot = whole("--gpus-per-slot", args.gpus_per_slot)
        args.add_brokers = whole("--add-brokers", args.add_brokers) or 0
        if not args.nslots:
            if not args.nodes:
                raise ValueError("Number of slots to allocate must be specified")
            args.nslots, args.exclusive = args.nodes, True
        args.broker_opts = list_split(args.broker_opts)
        if args.dump:
            args.broker_opts.append(f"-Scontent.dump={args.dump}")
        if args.add_brokers > 0:
            if not args.nodes:
                raise ValueError("--add-brokers may only be specified with -N, --nnodes")
            self._exclude(args)

    @staticmethod
    def _exclude(args: Any) -> None:
        """Brokers that are added have no resources of their own."""
        from flux.job._utils import BatchConfig

        added = "1" if args.add_brokers == 1 else f"1-{args.add_brokers}"
        if args.conf is None:
            args.conf = BatchConfig()
        if args.conf.get("resource.exclude") is None:
            args.conf.update(f'resource.exclude="{added}"')

    def layout(self, args: Any) -> dict[str, Any]:
        """The arguments that the builders of `JobspecV1` take from the options, after `init_common`."""
        return {
            "num_slots": args.nslots,
            "cores_per_slot": args.cores_per_slot,
            "gpus_per_slot": args.gpus_per_slot,
            "num_nodes": args.nodes,
            "broker_opts": args.broker_opts,
            "exclusive": args.exclusive,
            "conf": args.conf,
            "cwd": os.getcwd() if args.cwd is None else args.cwd,
            "environment": {},  # `apply_options` makes one
        }

    def update_jobspec_common(self, args: Any, jobspec: JobspecV1) -> None:
        """Changes what the builders cannot be told: brokers that are added, all of them on the first node."""
        if args.add_brokers > 0:
            nodes, added = args.nodes, args.add_brokers
            blocks = [[0, 1, 1 + added, 1]] if nodes == 1 else [[0, 1, 1 + added, 1], [1, nodes - 1, 1, 1]]
            del jobspec.getattr("shell.options")["per-resource"]
            value = str(blocks).replace(" ", "")
            jobspec.setattr_shell_option("taskmap", {"scheme": "manual", "value": value})
            jobspec.tasks[0]["count"] = {"total": nodes + added}
