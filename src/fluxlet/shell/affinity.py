"""Which cores and gpus a task may use (spec 07, 5.7).

Core ids in R are logical: `threads` maps them to hardware threads, by the numbering that discovery uses as well.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from flux.idset import IDset

_SYSTEM = Path("/sys/devices/system/cpu")


class AffinityError(ValueError):
    """Cores cannot be bound to; the job goes on without."""


def discover(root: Path = _SYSTEM) -> list[frozenset[int]]:
    """The hardware threads of each core, by its logical id: by package, then by the lowest thread (spec 07, 2.1).

    Where the system does not say, each processor that this process may use is a core.
    """
    cores: dict[frozenset[int], int] = {}
    for directory in root.glob("cpu[0-9]*"):
        try:
            siblings = (directory / "topology/thread_siblings_list").read_text().strip()
            package = int((directory / "topology/physical_package_id").read_text())
            cores[frozenset(IDset(siblings))] = package
        except (OSError, ValueError):
            continue  # a processor that is off line has no topology
    if not cores:
        return [frozenset((number,)) for number in sorted(_allowed())]
    return sorted(cores, key=lambda threads: (cores[threads], min(threads)))


def _allowed() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def threads(cores: Sequence[int], topology: Sequence[frozenset[int]]) -> frozenset[int]:
    """The hardware threads of some cores. Raises AffinityError for one that the node has not."""
    found: set[int] = set()
    for core in cores:
        if core >= len(topology):
            raise AffinityError(
                f"failed to get cpuset for cores: {IDset(list(cores))}: core {core} not found in node topology"
            )
        found |= topology[core]
    return frozenset(found)


def share(items: Sequence[int], task: int, ntasks: int) -> list[int]:
    """The part of `items` for one of `ntasks` tasks: contiguous, nearly equal; with more tasks than items, one."""
    if not items:
        return []
    if ntasks > len(items):
        return [items[task * len(items) // ntasks]]
    each, more = divmod(len(items), ntasks)
    first = task * each + min(task, more)
    return list(items[first : first + each + (task < more)])


def parse_map(text: str) -> list[list[int]]:
    """The lists of a `map:` option, one a task: idsets, hexadecimal masks. Raises ValueError."""
    found = []
    for part in text.split(";"):
        part = part.strip()
        if part.lower().startswith("0x"):
            mask = int(part.replace(",", ""), 16)
            found.append([bit for bit in range(mask.bit_length()) if mask >> bit & 1])
        else:
            found.append(_list(part))
        if not found[-1]:
            raise ValueError(f"invalid list '{part}'")
    return found


def _list(text: str) -> list[int]:
    """A list as of taskset: numbers and ranges, with a stride if need be (``0-6:2``)."""
    numbers: list[int] = []
    for item in text.split(","):
        span, _, stride = item.strip().partition(":")
        low, dash, high = span.partition("-")
        if not low.isdigit() or (dash and not high.isdigit()) or (stride and not stride.isdigit()):
            raise ValueError(f"invalid list '{text}'")
        numbers += range(int(low), int(high if dash else low) + 1, int(stride or 1) or 1)
    return numbers


class CpuAffinity:
    """The option `cpu-affinity` for the tasks of a job on one node.

    Args:
        option: its value.
        cores: those of the job on this node.
        topology: the node's threads by core.
        ntasks: tasks of the job on this node.

    Raises AffinityError if it cannot be done, ValueError for a map that is none.
    """

    def __init__(self, option: object, cores: Sequence[int], topology: Sequence[frozenset[int]], ntasks: int) -> None:
        words = str(option).split(",") if isinstance(option, str) else ["on"]
        self.verbose = "verbose" in words or "dry-run" in words
        self.dry_run = "dry-run" in words
        while words and words[0] in ("verbose", "dry-run"):
            words.pop(0)
        mode = ",".join(words)
        self._sets: list[frozenset[int]] = []
        if mode == "off":
            return
        if mode.startswith("map:"):
            everything = frozenset().union(*topology)
            for numbers in parse_map(mode[4:]):
                chosen = frozenset(numbers) & everything
                if not chosen:
                    raise ValueError(f"cpu-affinity: {IDset(sorted(numbers))} names no processor of this node")
                self._sets.append(chosen)
            return
        all_cores = threads(cores, topology)
        if mode == "per-task":
            self._sets = [threads(share(cores, task, ntasks), topology) for task in range(ntasks)]
        elif all_cores:
            self._sets = [all_cores]

    def of_task(self, index: int) -> frozenset[int] | None:
        """The threads that the task with this local id is bound to; None for no binding."""
        return self._sets[index % len(self._sets)] if self._sets else None


def visible_gpus(option: object, gpus: Sequence[int], index: int, ntasks: int) -> str | None:
    """CUDA_VISIBLE_DEVICES of the task with this local id; None to leave it alone. Raises ValueError for a bad map."""
    if option == "off":
        return None
    if isinstance(option, str) and option.startswith("map:"):
        lists = parse_map(option[4:])
        return ",".join(str(gpu) for gpu in lists[index % len(lists)])
    if not gpus:
        return "-1"
    if option == "per-task":
        each = len(gpus) // ntasks
        gpus = gpus[index * each : (index + 1) * each] if each else [gpus[index % len(gpus)]]
    return ",".join(str(gpu) for gpu in gpus)
