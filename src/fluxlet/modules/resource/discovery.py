"""What this node has: cores and gpus, and their topology as hwloc would tell (spec 07, 2.1 and 2.2).

A core is one, however many hardware threads it has. Cores are numbered as hwloc does, by package and then by their
first thread, over the whole machine; those that this process may run on are ours. hwloc itself is not needed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

from flux.idset import IDset

_CPUS = "/sys/devices/system/cpu"
_NVIDIA = "/proc/driver/nvidia/gpus"
_AMD = "/sys/class/kfd/kfd/topology/nodes"


class Core(NamedTuple):
    """A core: its package, and the numbers of its hardware threads."""

    package: int
    threads: tuple[int, ...]


def read_cores(cpus: Iterable[int], root: str = _CPUS) -> list[Core]:
    """The cores of hardware threads, in order. Where sysfs does not tell, a thread is a core."""
    found = []
    seen: set[int] = set()
    for cpu in sorted(cpus):
        if cpu in seen:
            continue
        try:
            siblings = tuple(IDset(_read(f"{root}/cpu{cpu}/topology/thread_siblings_list")))
            package = int(_read(f"{root}/cpu{cpu}/topology/physical_package_id"))
        except (OSError, ValueError):
            siblings, package = (cpu,), 0
        seen.update(siblings)
        found.append(Core(package, siblings))
    return sorted(found, key=lambda core: (core.package, core.threads))


def machine_cpus(root: str = _CPUS) -> set[int]:
    """The hardware threads that are online; those of our affinity if sysfs does not tell."""
    try:
        return set(IDset(_read(f"{root}/online")))
    except (OSError, ValueError):
        return set(os.sched_getaffinity(0))


def _read(path: str) -> str:
    # As fast as it gets: there are two of these for each core of the machine.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 4096).decode().strip()
    finally:
        os.close(fd)


def ours(cores: list[Core], affinity: set[int]) -> int:
    """Which of the cores, as bits by their place in the list, have a thread that we may run on."""
    return sum(1 << place for place, core in enumerate(cores) if not affinity.isdisjoint(core.threads))


def count_gpus(nvidia: str = _NVIDIA, amd: str = _AMD) -> int:
    """The gpus whose drivers say so in the file system: those of NVIDIA and AMD."""
    return _entries(nvidia, lambda path: True) + _entries(amd, _computes)


def _entries(directory: str, counts: Callable[[str], bool]) -> int:
    try:
        names = os.listdir(directory)
    except OSError:
        return 0
    return sum(counts(f"{directory}/{name}") for name in names)


def _computes(path: str) -> bool:
    """Whether a node of the AMD driver is a gpu: one without SIMD units is a cpu."""
    try:
        words = _read(f"{path}/properties").split()
    except OSError:
        return False
    return "simd_count" in words and words[words.index("simd_count") + 1 :][:1] != ["0"]


def discover(restrict: bool) -> tuple[int, int]:
    """Cores and gpus of this node, as bits.

    Args:
        restrict: only the cores that this process may run on.
    """
    affinity = set(os.sched_getaffinity(0))
    cores = read_cores(machine_cpus() | affinity)
    return ours(cores, affinity if restrict else machine_cpus() | affinity), (1 << count_gpus()) - 1


def topology_xml(host: str, cores: list[Core], affinity: set[int], memory: int) -> str:
    """The least topology that flux-shell and other users of hwloc accept: a machine, its memory, its cores.

    Args:
        host: name of the machine.
        cores: all of them.
        affinity: the threads that are ours; others are left out.
        memory: in bytes.
    """
    threads = [thread for core in cores for thread in core.threads if thread in affinity]
    sets = _sets(threads)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<!DOCTYPE topology SYSTEM "hwloc2.dtd">',
        '<topology version="2.0">',
        f'  <object type="Machine" os_index="0" {sets} allowed_cpuset="{_hex(threads)}" nodeset="0x00000001" '
        'complete_nodeset="0x00000001" allowed_nodeset="0x00000001" gp_index="1">',
        f'    <info name="HostName" value="{_escaped(host)}"/>',
        f'    <object type="NUMANode" os_index="0" {sets} nodeset="0x00000001" complete_nodeset="0x00000001" '
        f'gp_index="2" local_memory="{memory}"/>',
    ]
    index = 3
    for place, core in enumerate(cores):
        own = [thread for thread in core.threads if thread in affinity]
        if not own:
            continue
        nodes = 'nodeset="0x00000001" complete_nodeset="0x00000001"'
        lines.append(f'    <object type="Core" os_index="{place}" {_sets(own)} {nodes} gp_index="{index}">')
        index += 1
        for thread in own:
            lines.append(f'      <object type="PU" os_index="{thread}" {_sets([thread])} {nodes} gp_index="{index}"/>')
            index += 1
        lines.append("    </object>")
    lines += ["  </object>", "</topology>", ""]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    for character, entity in (("&", "&amp;"), ("<", "&lt;"), ('"', "&quot;")):
        text = text.replace(character, entity)
    return text


def _sets(threads: list[int]) -> str:
    return f'cpuset="{_hex(threads)}" complete_cpuset="{_hex(threads)}"'


def _hex(threads: list[int]) -> str:
    """A set in hwloc's notation: groups of 32 bits, the highest first."""
    bits = sum(1 << thread for thread in threads)
    groups: list[str] = []
    while bits or not groups:
        groups.append(f"0x{bits & 0xFFFFFFFF:08x}")
        bits >>= 32
    return ",".join(reversed(groups))


def local_topology(host: str, restrict: bool) -> str:
    """The topology of this node; `restrict`: of what this process may use."""
    cpus = machine_cpus() | os.sched_getaffinity(0)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return topology_xml(host, read_cores(cpus), set(os.sched_getaffinity(0)) if restrict else cpus, memory)


def read_topology(xml: str, host: str) -> tuple[str, int, int]:
    """(hostname, cores, gpus) of a topology that hwloc has written. Raises ValueError."""
    from xml.etree import ElementTree  # rare

    if "<!ENTITY" in xml:
        raise ValueError("a topology has no need of entities")
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError as exc:
        raise ValueError(f"not a topology: {exc}") from None
    cores = len(root.findall(".//object[@type='Core']")) or len(root.findall(".//object[@type='PU']"))
    if not cores:
        raise ValueError("not a topology: it has no cores")
    gpus: set[str] = set()
    for device in root.findall(".//object[@type='OSDev']"):
        name = device.get("name", "")
        if name.startswith(("cuda", "rsmi", "opencl")):
            gpus.add(name)
    kinds = [sum(name.startswith(kind) for name in gpus) for kind in ("cuda", "rsmi", "opencl")]
    found = root.find(".//info[@name='HostName']")
    return (found.get("value", host) if found is not None else host), (1 << cores) - 1, (1 << max(kinds)) - 1
