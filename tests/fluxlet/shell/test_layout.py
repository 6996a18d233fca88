"""Which task runs where, and with what."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fluxlet.shell import allocation, layout
from fluxlet.shell.allocation import Execution, Node, RankGroup
from fluxlet.shell.jobspec import Jobspec, parse


def spec(slots: Any = 1, options: dict[str, Any] | None = None, total: int = 0, exclusive: bool = False) -> Jobspec:
    slot: dict[str, Any] = {"type": "slot", "count": slots, "label": "task", "with": [{"type": "core", "count": 1}]}
    if exclusive:
        slot["exclusive"] = True
    count = {"total": total} if total else {"per_slot": 1}
    text = json.dumps(
        {
            "version": 1,
            "resources": [slot],
            "tasks": [{"command": ["true"], "slot": "task", "count": count}],
            "attributes": {"system": {"duration": 0, "shell": {"options": options or {}}}},
        }
    )
    return parse(text.encode())


def nodes(*cores: int, gpus: int = 0) -> list[Node]:
    return [Node(rank, f"test{rank}", tuple(range(n)), tuple(range(gpus))) for rank, n in enumerate(cores)]


def made(jobspec: Jobspec, on: list[Node], nslots: int = 0) -> layout.Layout:
    return layout.make(jobspec, Execution([], nslots=nslots), on)


@pytest.mark.parametrize(
    ("cores", "per_slot", "ntasks", "counts"),
    [
        ([2], 1, 7, [7]),
        ([2, 2], 1, 3, [2, 1]),
        ([4, 2], 2, 3, [2, 1]),
        ([1, 2], 1, 3, [1, 2]),  # the largest first
        ([4, 4], 4, 5, [3, 2]),  # more tasks than there are cores for: over again
        ([2, 1], 2, 2, [1, 1]),  # the smallest node sets the number for all
        ([0, 2], 1, 2, [1, 1]),
    ],
)
def test_tasks_go_round_the_nodes(cores: list[int], per_slot: int, ntasks: int, counts: list[int]) -> None:
    assert layout.distribute(cores, per_slot, ntasks) == counts


def test_one_node_has_all_tasks() -> None:
    found = made(spec(3), nodes(2), 3)
    assert (found.ntasks, found.map, found.tasks, found.adjusted) == (3, [[0, 1, 3, 1]], [[0, 1, 2]], [])


def test_slots_come_from_r_or_else_from_the_jobspec() -> None:
    assert made(spec(4), nodes(8), 2).ntasks == 2
    assert made(spec(4), nodes(8)).ntasks == 4
    assert made(spec(2, total=5), nodes(8), 2).ntasks == 5
    on_nodes = spec(2)
    on_nodes.resources = [{"type": "node", "count": 2, "with": on_nodes.resources}]
    assert made(on_nodes, nodes(2, 2)).ntasks == 4


def test_more_than_one_task_a_slot_is_refused() -> None:
    jobspec = spec(1)
    jobspec.tasks[0].count.per_slot = 2
    with pytest.raises(ValueError, match=r"^per_slot count: expected 1 got 2$"):
        made(jobspec, nodes(2), 1)


def test_nodes_keep_what_their_tasks_need() -> None:
    # As recorded: -N2 -n3 on two nodes of two cores.
    found = made(spec(4, total=3), nodes(2, 2, gpus=2), 4)
    assert found.map == [[0, 1, 2, 1], [1, 1, 1, 1]]
    assert found.adjusted == [(1, "0-1", "0")]
    assert found.nodes[1].cores == (0,)
    assert found.nodes[1].gpus == (0,)
    assert made(spec(4, total=3, exclusive=True), nodes(2, 2), 4).adjusted == []


def test_tasks_by_resource() -> None:
    assert made(spec(1, {"per-resource": {"type": "node", "count": 2}}), nodes(2, 2), 1).tasks == [[0, 1], [2, 3]]
    assert made(spec(1, {"per-resource": {"type": "core"}}), nodes(2, 1), 1).tasks == [[0, 1], [2]]
    for bad in ({"type": "socket"}, {"type": "core", "count": 0}, 3):
        with pytest.raises(ValueError, match="invalid per-resource"):
            made(spec(1, {"per-resource": bad}), nodes(2), 1)


def test_task_maps_by_option(tmp_path: Path) -> None:
    def tasks(scheme: str, value: str | None = None) -> list[list[int]]:
        option = {"scheme": scheme} | ({"value": value} if value is not None else {})
        return made(spec(4, {"taskmap": option}), nodes(2, 2), 4).tasks

    assert tasks("block") == [[0, 1], [2, 3]]
    assert tasks("cyclic") == [[0, 2], [1, 3]]
    assert tasks("manual", "[[1,1,2,1],[0,1,2,1]]") == [[2, 3], [0, 1]]
    hostfile = tmp_path / "hosts"
    hostfile.write_text("test[1,0]\n\n")
    assert tasks("hostfile", str(hostfile)) == [[1, 3], [0, 2]]
    hostfile.write_text("other\n")
    for scheme, value, text in (
        ("block", "2", "block taskmap does not accept a value (got 2)"),
        ("bogus", None, "failed to map tasks with scheme=bogus"),
        ("hostfile", "/nosuch", "failed to open hostfile: /nosuch: No such file or directory"),
        (
            "hostfile",
            str(hostfile),
            f"failed to map tasks with hostfile:{hostfile}: host other not found in job nodelist",
        ),
    ):
        with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
            tasks(scheme, value)


def test_nodes_of_r_are_in_the_order_of_ranks() -> None:
    groups = [
        RankGroup("2", allocation.Children("0-1")),
        RankGroup("0-1", allocation.Children("3", "0")),
    ]
    found = allocation.nodes(Execution(groups, ["a[0-1]", "b"]))
    assert found == [Node(0, "a0", (3,), (0,)), Node(1, "a1", (3,), (0,)), Node(2, "b", (0, 1), ())]
    assert allocation.nodes(Execution(groups[:1]))[0].host == "rank2"
