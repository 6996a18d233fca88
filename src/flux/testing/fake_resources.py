"""Nodes that there are not, for tests of scheduling: what the table `[fake-resources]` of a configuration makes.

Such an instance schedules jobs for thousands of nodes and runs none of them: they are simulated.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib import import_module
from typing import Any

from flux.core.handle import Flux

__all__ = ["FakeResources", "InjectFakeResources", "build_R_encode_args", "load_amender", "saturation_count"]

#: Takes R, and the XML of the topology that the nodes pretend to have, or None; returns another R.
Amender = Callable[[dict[str, Any], str | None], dict[str, Any]]


def saturation_count(
    nodes: int, cores_per_node: int, gpus_per_node: int, slot_cores: int = 1, slot_gpus: int = 0
) -> int:
    """How many jobs of one slot fit, none of which spans nodes. Raises ValueError for a slot of nothing."""
    if slot_cores < 0 or slot_gpus < 0 or not slot_cores + slot_gpus:
        raise ValueError("a slot must have cores or gpus")
    fit = [have // want for have, want in ((cores_per_node, slot_cores), (gpus_per_node, slot_gpus)) if want]
    return nodes * min(fit)


def load_amender(spec: str) -> Amender:
    """The function that `spec` names: ``module:function``, or the path of a Python file with a function `amend`.

    Raises ImportError, OSError, AttributeError; ValueError for what names neither, and what cannot be called.
    """
    place, colon, name = spec.rpartition(":")
    if colon and "/" not in name:
        amender = getattr(import_module(place), name)
    elif spec.endswith(".py"):
        from flux.importer import import_path

        amender = import_path(spec).amend
    else:
        raise ValueError(f"{spec}: neither module:function nor the path of a Python file")
    if not callable(amender):
        raise ValueError(f"{spec}: cannot be called")
    return amender  # type: ignore[no-any-return]  # what it returns is seen when it does


class FakeResources(ABC):
    """So many nodes, all alike.

    Args:
        nodes, cores_per_node, gpus_per_node: how many.
        host_prefix: what hosts are called, before their numbers.
        amender: changes R before it is used; its name (`load_amender`), or itself.

    Raises ValueError for no nodes, no cores, or a negative number of gpus; and what `load_amender` raises.
    """

    def __init__(
        self,
        nodes: int,
        cores_per_node: int = 1,
        gpus_per_node: int = 0,
        host_prefix: str = "fake",
        amender: str | Amender | None = None,
    ) -> None:
        if nodes < 1 or cores_per_node < 1 or gpus_per_node < 0:
            raise ValueError("there must be a node, with a core")
        self.nodes = nodes
        self.cores_per_node = cores_per_node
        self.gpus_per_node = gpus_per_node
        self.host_prefix = host_prefix
        self.amender = load_amender(amender) if isinstance(amender, str) else amender

    @property
    def total_cores(self) -> int:
        """The cores of all nodes."""
        return self.nodes * self.cores_per_node

    @property
    def total_gpus(self) -> int:
        """The gpus of all nodes."""
        return self.nodes * self.gpus_per_node

    @abstractmethod
    def install(self) -> Any:
        """Makes them those of an instance."""

    def saturation_count(self, slot_cores: int = 1, slot_gpus: int = 0) -> int:
        """`saturation_count` of these nodes."""
        return saturation_count(self.nodes, self.cores_per_node, self.gpus_per_node, slot_cores, slot_gpus)

    def amend_R(self, R: dict[str, Any], hwloc_xml: str | None = None) -> dict[str, Any]:
        """What the amender makes of R; R itself without one."""
        return R if self.amender is None else self.amender(copy.deepcopy(R), hwloc_xml)


def build_R_encode_args(fr: FakeResources) -> list[str]:
    """The options of ``flux R encode`` that make R of the nodes."""
    last = fr.nodes - 1
    hosts = f"{fr.host_prefix}[0-{last}]" if last else f"{fr.host_prefix}0"
    args = [f"--ranks=0-{last}" if last else "--ranks=0", f"--hosts={hosts}"]
    xml = getattr(fr, "hwloc_xml_path", None)
    if xml is not None:
        return [*args, f"--xml={xml}"]
    for option, count in (("cores", fr.cores_per_node), ("gpus", fr.gpus_per_node)):
        if count:
            args.append(f"--{option}=0-{count - 1}" if count > 1 else f"--{option}=0")
    return args


class InjectFakeResources(FakeResources):
    """Writes R into the KVS, where the resource module finds it when it is loaded again.

    That has to be told not to compare it with what there is: ``flux module load resource noverify monitor-force-up``.

    Args:
        hwloc_xml_path: a file of hwloc with what each node has, instead of the numbers.
        verbose: say what is done.
        log: says it, instead of a line on standard error.
        nodes, cores_per_node, gpus_per_node, host_prefix, amender: as of FakeResources.
    """

    def __init__(
        self,
        nodes: int,
        cores_per_node: int = 1,
        gpus_per_node: int = 0,
        host_prefix: str = "fake",
        hwloc_xml_path: str | None = None,
        verbose: bool = False,
        log: Callable[[str], Any] | None = None,
        amender: str | Amender | None = None,
    ) -> None:
        super().__init__(nodes, cores_per_node, gpus_per_node, host_prefix, amender)
        self.hwloc_xml_path = hwloc_xml_path
        self.verbose = verbose
        self.log = log

    def install(self, handle: Flux | None = None) -> dict[str, Any]:
        """Writes R to the key `resource.R`, and returns it.

        Args:
            handle: on the instance; by default one on that of the environment.

        Raises OSError, and RuntimeError with what ``flux R encode`` says if it fails.
        """
        import flux.kvs

        words = ["flux", "R", "encode", *build_R_encode_args(self)]
        made = subprocess.run(words, capture_output=True, text=True)
        if made.returncode:
            raise RuntimeError(made.stderr.strip())
        xml = None
        if self.hwloc_xml_path is not None:
            with open(self.hwloc_xml_path) as file:
                xml = file.read()
        R = self.amend_R(json.loads(made.stdout), xml)
        handle = Flux() if handle is None else handle
        flux.kvs.put(handle, "resource.R", R)
        flux.kvs.commit(handle)
        if self.verbose:
            text = f"{self.nodes} nodes: {self.total_cores} cores, {self.total_gpus} gpus"
            if self.log is None:
                print(text, file=sys.stderr)
            else:
                self.log(text)
        return R
