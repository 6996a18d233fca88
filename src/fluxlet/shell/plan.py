"""Plan: what follows from a jobspec and the shape of its resources alone, worked out once for all jobs alike.

Who submits a thousand jobs submits the same one a thousand times: read, laid out and checked, it is the same each time.

Rules:
- A part is worked out when it is first asked for, and kept. What is wrong with it is raised then, each time.
- A plan knows nothing of the job itself: not its id, its times, or its directory. It is shared, and not changed.
"""

from __future__ import annotations

from binascii import a2b_base64
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fluxlet.shell import allocation, environment, events, jobspec, layout, options, output
from fluxlet.shell.affinity import CpuAffinity
from fluxlet.shell.options import ShellError
from fluxlet.shell.rlimits import wanted

if TYPE_CHECKING:
    from fluxlet.shell.server import ShellServer

#: How many plans are kept, and the longest J that is: one may have whole files in it.
_MOST = 64
_LONGEST = 64 << 10


class Plan:
    """Of all jobs with this J and R, on one rank. Its parts raise ShellError, or ValueError with a text for the user.

    Args:
        signed: J, in base64.
        execution: of R.
    """

    def __init__(self, server: ShellServer, signed: str, execution: allocation.Execution) -> None:
        self._server = server
        self._execution = execution
        self.jobspec = jobspec.parse(jobspec.unwrap(a2b_base64(signed)))
        self.system = self.jobspec.attributes.system
        self.options = self.system.shell.options
        self.command = self.jobspec.tasks[0].command
        self.files = self.system.files
        if self.system.batch is not None:
            self._be_batch(self.system.batch)
        self.argv = None if any("{{" in word for word in self.command) else self.command
        """The words of its command, if they are the same for all tasks."""

    def _be_batch(self, batch: dict[str, Any]) -> None:
        """Batch jobs as they once were: the script is in the jobspec, its broker is started here."""
        script, given = batch.get("script"), batch.get("broker-opts", [])
        if (
            not isinstance(script, str)
            or not isinstance(given, list)
            or not all(isinstance(word, str) for word in given)
        ):
            raise ValueError(
                "error parsing jobspec: attributes.system.batch: a script and words for the broker are expected"
            )
        self.command = ["flux", "broker", *given, "{{tmpdir}}/script"]
        self.files = {**self.files, "script": {"mode": 0o100700, "data": script}}

    @cached_property
    def nodes(self) -> list[allocation.Node]:
        """Those of the job."""
        return allocation.nodes(self._execution)

    @cached_property
    def rank(self) -> int:
        """Of this shell."""
        for rank, node in enumerate(self.nodes):
            if node.rank == self._server.rank:
                return rank
        raise ShellError(f"rank {self._server.rank} is not in the job's R")

    @cached_property
    def verbose(self) -> int:
        """The option of that name."""
        return options.integer(self.options, "verbose", 0)

    @cached_property
    def layout(self) -> layout.Layout:
        """The tasks of its nodes."""
        return layout.make(self.jobspec, self._execution, self.nodes)

    @cached_property
    def taskmap(self) -> str:
        """The context of shell.start."""
        return events.compact({"taskmap": {"version": 1, "map": self.layout.map}})

    @cached_property
    def simple(self) -> bool:
        """True for a job of one task without options: its leader has no other duties."""
        return len(self.nodes) == 1 and self.layout.ntasks == 1 and not self.options.keys() - {"rlimit"}

    @cached_property
    def environment(self) -> dict[str, str]:
        """What its tasks have in common, whichever job they are of."""
        ntasks, nnodes = self.layout.ntasks, len(self.nodes)
        return environment.of_jobs(self.system.environment, self._server.place, ntasks, nnodes)

    @cached_property
    def mpi(self) -> bool:
        """Whether MPI libraries are told something."""
        return bool(options.get(self.options, "mpi") != "none")

    @cached_property
    def pmi(self) -> bool:
        """Whether tasks have PMI."""
        return bool(options.get(self.options, "pmi", "simple") != "off")

    @cached_property
    def own_groups(self) -> bool:
        """Whether each task has a process group of its own."""
        return not options.flag(self.options, "nosetpgrp")

    @cached_property
    def output_delay(self) -> float | None:
        """Seconds that output waits for more; None: as little as is good for all."""
        delay = options.seconds(self.options, "output.batch-timeout", None)
        return delay if delay is not None and delay > 0.05 else None

    @cached_property
    def targets(self) -> output.Targets:
        """Where its output goes."""
        return output.targets(self.options, self._server.output_limit)

    @cached_property
    def limits(self) -> tuple[list[tuple[int, int]], list[str]]:
        """(resource, soft limit) of the tasks, where they differ from this process's, and warnings."""
        rlimit = options.get(self.options, "rlimit")
        return wanted(rlimit, self._server.rlimits) if rlimit is not None else ([], [])

    @cached_property
    def affinity(self) -> CpuAffinity:
        """The processors of each task. Raises AffinityError, too."""
        option, node = self.options.get("cpu-affinity", "on"), self.layout.nodes[self.rank]
        return CpuAffinity(option, node.cores, self._server.topology, len(self.layout.tasks[self.rank]))

    @cached_property
    def templates(self) -> dict[str, Any]:
        """Variables from templates."""
        found = self.options.get("env-expand", {})
        if not isinstance(found, dict):
            raise ShellError("invalid value for option env-expand: an object is expected")
        return found

    @cached_property
    def oom_adjust(self) -> Any:
        """The option oom.adjust; None if it is not given."""
        return options.get(self.options, "oom.adjust")

    @cached_property
    def input_is_file(self) -> bool:
        """Whether stdin is a file."""
        return bool(options.get(self.options, "input.stdin.type") == "file")


class Plans:
    """The plans of a server."""

    def __init__(self, server: ShellServer) -> None:
        self._server = server
        self._known: dict[tuple[Any, ...], Plan] = {}

    def of(self, signed: str, execution: allocation.Execution) -> Plan:
        """The plan for J (in base64) and R. Raises ValueError for a jobspec that is none."""
        key: tuple[Any, ...] = (signed, execution.nslots, *execution.nodelist)
        for group in execution.R_lite:
            key += (group.rank, group.children.core, group.children.gpu)
        plan = self._known.get(key)
        if plan is None:
            plan = Plan(self._server, signed, execution)
            # What a file says may be something else the next time.
            if len(signed) <= _LONGEST and options.get(plan.options, "taskmap.scheme") != "hostfile":
                if len(self._known) >= _MOST:
                    self._known.clear()
                self._known[key] = plan
        return plan
