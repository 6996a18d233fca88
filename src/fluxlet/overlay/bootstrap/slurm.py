"""Bootstrap under Slurm's srun: who we are is in the environment, cards go through a directory (spec 04, 3.8).

Without a library of Slurm's there is no PMI to talk to, unless srun is told to offer it (`--mpi=pmi2`). The directory
is in the user's home, or where FLUXLET_EXCHANGE_DIR says: somewhere that all nodes see.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from fluxlet.overlay.bootstrap.boot import BootError
from fluxlet.overlay.bootstrap.directory import DirectoryClient

#: What only the processes of a step have: a batch script is no launch.
REQUIRED = ("SLURM_PROCID", "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS", "SLURM_JOB_ID")

_per_node = re.compile(r"(\d+)(?:\(x(\d+)\))?").fullmatch


def client(environ: Mapping[str, str]) -> DirectoryClient | None:
    """What stands for a PMI client under srun; None if this is none of its processes. Raises BootError."""
    if not set(REQUIRED) <= environ.keys():
        return None
    numbers = {name: environ[name] for name in REQUIRED[:3]}
    for name, text in numbers.items():
        if not text.isascii() or not text.isdigit():
            raise BootError(f"bootstrap: slurm: {name}={text} is not a number")
    rank, size = int(numbers["SLURM_PROCID"]), int(numbers["SLURM_STEP_NUM_TASKS"])
    if rank >= size:
        raise BootError(f"bootstrap: slurm: SLURM_PROCID={rank} is not below SLURM_STEP_NUM_TASKS={size}")
    words = [environ.get("SLURM_CLUSTER_NAME", "slurm"), environ["SLURM_JOB_ID"], environ["SLURM_STEP_ID"]]
    name = "-".join([*words, environ.get("SLURM_RESTART_COUNT", "0")]).replace("/", "_")
    parent = environ.get("FLUXLET_EXCHANGE_DIR") or os.path.join(environ.get("HOME", "/"), ".fluxlet", "exchange")
    known = {}
    mapping = process_mapping(environ.get("SLURM_STEP_TASKS_PER_NODE", ""), environ.get("SLURM_DISTRIBUTION", "block"))
    if mapping is not None:
        known["PMI_process_mapping"] = mapping
    return DirectoryClient(os.path.join(parent, name), rank, size, name, known)


def process_mapping(per_node: str, distribution: str) -> str | None:
    """PMI's form of Slurm's layout (`2(x3),1`); None where it is not plain blocks of tasks."""
    if not distribution.startswith("block"):
        return None
    blocks = []
    node = 0
    for word in per_node.split(","):
        found = _per_node(word)
        if found is None:
            return None
        tasks, nodes = int(found[1]), int(found[2] or 1)
        blocks.append(f"({node},{nodes},{tasks})")
        node += nodes
    return "(vector," + ",".join(blocks) + ")"
