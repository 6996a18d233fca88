"""flux cgroup — the control group that this program is in (Linux)."""

from __future__ import annotations

from flux.cli.options import Command, Parsed
from flux.cli.tool import Failure, run, show

COMMAND = Command(
    "cgroup",
    "Tell about the control group that this program is in",
    subcommands=[Command("cgroup path", "Print where its directory is")],
    builtin=True,
    examples=(("flux run flux cgroup path", "The control group of a job's tasks: here that of the broker."),),
)


def cgroup_path(groups: str, mounts: str) -> str:
    """Where the directory of the group of version 2 is. Raises Failure if there is none.

    Args:
        groups, mounts: as of /proc/self/cgroup and /proc/self/mounts.
    """
    group = next((line[3:] for line in groups.splitlines() if line.startswith("0::")), None)
    points = [words[1] for line in mounts.splitlines() if len(words := line.split()) > 2 and words[2] == "cgroup2"]
    if group is None or not points:
        raise Failure("this system has no control groups of version 2")
    return points[0].rstrip("/") + group.rstrip("/") or "/"


def _body(parsed: Parsed) -> int:
    try:
        with open("/proc/self/cgroup") as file, open("/proc/self/mounts") as table:
            show(cgroup_path(file.read(), table.read()))
    except FileNotFoundError:
        raise Failure("this system has no control groups") from None
    return 0


def main(argv: list[str]) -> int:
    """Runs the command."""
    return run(COMMAND, argv, _body)
