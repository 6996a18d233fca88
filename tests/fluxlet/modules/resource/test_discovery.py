"""What a node has, as sysfs and the drivers tell (spec 07, 2.1 and 2.2)."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fluxlet.modules.resource.discovery import (
    Core,
    count_gpus,
    discover,
    local_topology,
    machine_cpus,
    ours,
    read_cores,
    read_topology,
    topology_xml,
)


def sysfs(root: Path, siblings: list[tuple[str, int]]) -> str:
    """A machine: for each thread its siblings and its package."""
    for cpu, (threads, package) in enumerate(siblings):
        directory = root / f"cpu{cpu}" / "topology"
        directory.mkdir(parents=True)
        (directory / "thread_siblings_list").write_text(f"{threads}\n")
        (directory / "physical_package_id").write_text(f"{package}\n")
    (root / "online").write_text(f"0-{len(siblings) - 1}\n")
    return str(root)


def test_two_threads_are_one_core_and_cores_are_ordered_by_package(tmp_path: Path) -> None:
    root = sysfs(tmp_path, [("0,4", 1), ("1,5", 0), ("2,6", 1), ("3,7", 0)] * 2)
    cores = read_cores(machine_cpus(root), root)
    assert cores == [Core(0, (1, 5)), Core(0, (3, 7)), Core(1, (0, 4)), Core(1, (2, 6))]
    assert ours(cores, {0, 5}) == 0b0101


def test_without_sysfs_each_thread_is_a_core(tmp_path: Path) -> None:
    assert read_cores({3, 5}, str(tmp_path)) == [Core(0, (3,)), Core(0, (5,))]
    assert machine_cpus(str(tmp_path)) == set(os.sched_getaffinity(0))


def test_gpus_are_what_the_drivers_show(tmp_path: Path) -> None:
    nvidia, amd = tmp_path / "nvidia", tmp_path / "amd"
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (nvidia / name).mkdir(parents=True)
    for name, units in (("0", "0"), ("1", "120"), ("2", None)):
        (amd / name).mkdir(parents=True)
        if units is not None:
            (amd / name / "properties").write_text(f"cpu_cores_count 0\nsimd_count {units}\n")
    assert count_gpus(str(nvidia), str(amd)) == 3
    assert count_gpus(str(tmp_path / "none"), str(tmp_path / "none")) == 0


def test_this_machine_has_cores() -> None:
    cores, _ = discover(restrict=True)
    everything, _ = discover(restrict=False)
    assert cores
    assert not cores & ~everything


def test_topology_has_cores_with_their_threads() -> None:
    cores = [Core(0, (0, 40)), Core(0, (1, 41)), Core(1, (2, 42))]
    xml = topology_xml('a<&"b', cores, {0, 1, 40, 41}, 1 << 30)
    root = ElementTree.fromstring(xml)
    assert xml.startswith('<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE topology SYSTEM "hwloc2.dtd">\n')
    machine = root.find("object")
    assert machine is not None
    assert machine.get("cpuset") == "0x00000300,0x00000003"
    assert [pu.get("os_index") for pu in root.findall(".//object[@type='PU']")] == ["0", "40", "1", "41"]
    assert len({thing.get("gp_index") for thing in root.iter("object")}) == len(list(root.iter("object")))
    assert read_topology(xml, "x") == ('a<&"b', 0b11, 0)


def test_topology_of_hwloc_with_gpus() -> None:
    device = '<object type="OSDev" name="{}"/>'
    inner = "".join(device.format(name) for name in ("cuda0", "cuda1", "opencl0d0", "eth0"))
    xml = f'<topology><object type="Machine"><object type="PU"/><object type="PU"/>{inner}</object></topology>'
    assert read_topology(xml, "host") == ("host", 0b11, 0b11)


@pytest.mark.parametrize("xml", ["", "<a", "<topology/>", '<!DOCTYPE x [<!ENTITY a "b">]><topology/>'])
def test_what_is_no_topology(xml: str) -> None:
    with pytest.raises(ValueError, match="topology"):
        read_topology(xml, "host")


def test_topology_of_this_machine() -> None:
    host, cores, _ = read_topology(local_topology("here", True), "x")
    assert (host, cores.bit_count()) == ("here", discover(True)[0].bit_count())
