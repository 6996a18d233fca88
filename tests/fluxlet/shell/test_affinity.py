"""Which cores and gpus a task may use."""

from __future__ import annotations

from pathlib import Path

import pytest

from fluxlet.shell import affinity
from fluxlet.shell.affinity import AffinityError, CpuAffinity, visible_gpus

#: Four cores with two threads each.
TOPOLOGY = [frozenset((core, core + 4)) for core in range(4)]


def test_the_topology_of_a_node_is_read(tmp_path: Path) -> None:
    for cpu, (package, siblings) in {0: (1, "0,2"), 1: (0, "1,3"), 2: (1, "0,2"), 3: (0, "1,3")}.items():
        directory = tmp_path / f"cpu{cpu}" / "topology"
        directory.mkdir(parents=True)
        (directory / "thread_siblings_list").write_text(f"{siblings}\n")
        (directory / "physical_package_id").write_text(f"{package}\n")
    (tmp_path / "cpufreq").mkdir()
    assert affinity.discover(tmp_path) == [frozenset((1, 3)), frozenset((0, 2))]
    assert affinity.discover(tmp_path / "nosuch")


def test_tasks_are_bound_to_the_cores_of_the_job() -> None:
    found = CpuAffinity("on", (0, 1), TOPOLOGY, 2)
    assert found.of_task(0) == found.of_task(1) == {0, 4, 1, 5}
    assert CpuAffinity("whatever", (0,), TOPOLOGY, 1).of_task(0) == {0, 4}
    assert CpuAffinity("off", (0,), TOPOLOGY, 1).of_task(0) is None
    assert CpuAffinity("dry-run,per-task", (0,), TOPOLOGY, 1).dry_run


def test_cores_are_divided() -> None:
    found = CpuAffinity("per-task", (0, 1, 2), TOPOLOGY, 2)
    assert [found.of_task(index) for index in range(2)] == [{0, 4, 1, 5}, {2, 6}]
    assert [affinity.share([0, 1], task, 4) for task in range(4)] == [[0], [0], [1], [1]]


def test_a_map_is_used_in_turn() -> None:
    found = CpuAffinity("map:0-1;0xc;6", (0,), TOPOLOGY, 4)
    assert [found.of_task(index) for index in range(4)] == [{0, 1}, {2, 3}, {6}, {0, 1}]
    assert affinity.parse_map("0-6:2") == [[0, 2, 4, 6]]
    for bad in ("map:", "map:x", "map:1;;2", "map:99"):
        with pytest.raises(ValueError, match=r"invalid list|names no processor"):
            CpuAffinity(bad, (0,), TOPOLOGY, 1)


def test_cores_that_the_node_has_not() -> None:
    with pytest.raises(AffinityError) as error:
        CpuAffinity("on", (0, 1, 2, 3), TOPOLOGY[:2], 1)
    assert str(error.value) == "failed to get cpuset for cores: 0-3: core 2 not found in node topology"


def test_gpus() -> None:
    assert visible_gpus(None, (), 0, 1) == "-1"
    assert visible_gpus("off", (0,), 0, 1) is None
    assert visible_gpus("on", (0, 3), 1, 2) == "0,3"
    assert [visible_gpus("per-task", (0, 1, 2, 3), index, 2) for index in range(2)] == ["0,1", "2,3"]
    assert visible_gpus("map:1;0", (0, 1), 1, 2) == "0"
