"""Task maps: which task runs on which node (RFC 34; spec 07, 5.2).

A map is a list of blocks [first node, number of nodes, tasks a node, repetitions]. Task ids count up along it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

Map = list[list[int]]

_TRIPLET = re.compile(r"\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)")
_VECTOR = re.compile(r"\(\s*vector\s*((?:,\s*\(\s*\d+\s*,\s*\d+\s*,\s*\d+\s*\)\s*)*)\)")


def from_runs(runs: Sequence[tuple[int, int]]) -> Map:
    """The map of consecutive tasks: (node, how many) in the order of their ids."""
    blocks: Map = []
    for node, tasks in runs:
        if not tasks:
            continue
        last = blocks[-1] if blocks else None
        if last is not None and last[2] == tasks and last[0] + last[1] == node:
            last[1] += 1
        elif last is not None and last[1] == 1 and last[0] == node:
            last[2] += tasks
        else:
            blocks.append([node, 1, tasks, 1])
    merged: Map = []
    for block in blocks:
        if merged and merged[-1][:3] == block[:3]:
            merged[-1][3] += 1
        else:
            merged.append(block)
    return merged


def from_nodes(order: Sequence[int]) -> Map:
    """The map of tasks by the node that each of them runs on."""
    runs: list[tuple[int, int]] = []
    for node in order:
        if runs and runs[-1][0] == node:
            runs[-1] = (node, runs[-1][1] + 1)
        else:
            runs.append((node, 1))
    return from_runs(runs)


def node_of_tasks(blocks: Map) -> list[int]:
    """The node of each task, in the order of their ids."""
    order: list[int] = []
    for first, nnodes, tasks, repeat in blocks:
        once = [node for node in range(first, first + nnodes) for _ in range(tasks)]
        order += once * repeat
    return order


def tasks_of_nodes(blocks: Map, nnodes: int) -> list[list[int]]:
    """The task ids of each of `nnodes` nodes, ascending."""
    found: list[list[int]] = [[] for _ in range(nnodes)]
    for task, node in enumerate(node_of_tasks(blocks)):
        found[node].append(task)
    return found


def decode(value: str) -> Map:
    """The map in text of RFC 34: JSON (an object or its array), or PMI's ``(vector,...)``. Raises ValueError."""
    if value.lstrip().startswith("("):
        match = _VECTOR.fullmatch(value.strip())
        if match is None:
            raise ValueError(f"invalid taskmap: {value}")
        return [[int(first), int(count), int(tasks), 1] for first, count, tasks in _TRIPLET.findall(match[1])]
    try:
        parsed: Any = json.loads(value)
    except ValueError as exc:
        raise ValueError(f"invalid taskmap: {exc}") from None
    if isinstance(parsed, dict):
        if parsed.get("version") != 1:
            raise ValueError("invalid taskmap: version must be 1")
        parsed = parsed.get("map")
    return checked(parsed)


def checked(blocks: Any) -> Map:
    """`blocks` if they are a map, or ValueError."""
    if not isinstance(blocks, list) or not all(
        isinstance(block, list)
        and len(block) == 4
        and all(type(number) is int for number in block)
        and block[0] >= 0
        and min(block[1:]) >= 1
        for block in blocks
    ):
        raise ValueError("invalid taskmap: blocks are [first node, nodes, tasks a node, repeat]")
    return blocks


def pmi_text(blocks: Map) -> str:
    """The map as PMI_process_mapping has it."""
    triplets = "".join(f",({first},{count},{tasks})" for first, count, tasks, repeat in blocks for _ in range(repeat))
    return f"(vector{triplets})"


# The schemes that a job may ask for: `counts` are the tasks that each node is to get.


def cyclic(counts: Sequence[int], value: str | None) -> Map:
    """Tasks go round the nodes, `value` (1) of them at a time. Raises ValueError for a bad stride."""
    text = value or "1"
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"invalid cyclic stride: {value}")
    stride = int(text)
    left = list(counts)
    order: list[int] = []
    while any(left):
        for node, number in enumerate(left):
            take = min(stride, number)
            order += [node] * take
            left[node] -= take
    return from_nodes(order)


def manual(counts: Sequence[int], value: str | None) -> Map:
    """The map that is given: for all nodes, with as many tasks as the job has. Raises ValueError."""
    blocks = decode(value or "")
    order = node_of_tasks(blocks)
    nnodes = max(order, default=-1) + 1
    if nnodes != len(counts):
        raise ValueError(f"invalid taskmap: got {nnodes} nodes, expected {len(counts)}")
    if len(order) != sum(counts):
        raise ValueError(f"invalid taskmap: got {len(order)} total tasks, expected {sum(counts)}")
    return blocks


def by_hosts(ntasks: int, listed: Sequence[str], names: Sequence[str]) -> Map:
    """Task i runs on the i-th of the `listed` hosts, used over again; `names` are the nodes'. Raises ValueError.

    Of several nodes with one name, the tasks for it go round.
    """
    if not listed:
        raise ValueError("hostfile is empty")
    places: dict[str, list[int]] = {}
    for node, name in enumerate(names):
        places.setdefault(name, []).append(node)
    used = dict.fromkeys(places, 0)
    order = []
    for task in range(ntasks):
        host = listed[task % len(listed)]
        if host not in places:
            raise ValueError(f"host {host} not found in job nodelist")
        order.append(places[host][used[host] % len(places[host])])
        used[host] += 1
    return from_nodes(order)
