"""Which rank is on which node: RFC 34 taskmaps and PMI's process mapping (spec 04, 3.3). Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

_vector = re.compile(r"\(vector((?:,\(\d+,\d+,\d+\))*)\)").fullmatch
_block = re.compile(r"\((\d+),(\d+),(\d+)\)").findall


class Mapping:
    """Blocks of (first node, number of nodes, tasks per node, repetitions).

    Args:
        blocks: in order of the ranks.
    """

    def __init__(self, blocks: Sequence[Sequence[int]]) -> None:
        self.blocks = [list(block) for block in blocks]

    def __str__(self) -> str:
        return json.dumps(self.blocks, separators=(",", ":"))

    @property
    def size(self) -> int:
        """How many ranks it speaks of."""
        return sum(nodes * tasks * times for _, nodes, tasks, times in self.blocks)

    def node(self, rank: int) -> int:
        """The node of a rank; -1 for one that is not in it."""
        for first, nodes, tasks, times in self.blocks:
            count = nodes * tasks * times
            if rank < count:
                return first + rank // tasks % nodes
            rank -= count
        return -1

    @classmethod
    def parse_taskmap(cls, text: str, size: int) -> Mapping | None:
        """A taskmap: JSON, with or without the object around it. None for what is none, or too small."""
        try:
            value: Any = json.loads(text)
        except (ValueError, RecursionError):
            return None
        if isinstance(value, dict):
            value = value.get("map")
        if not isinstance(value, list):
            return None
        for block in value:
            if not isinstance(block, list) or len(block) != 4 or not all(type(n) is int and n >= 0 for n in block):
                return None
        mapping = cls(value)
        return mapping if mapping.size >= size else None

    @classmethod
    def parse_pmi(cls, text: str, size: int) -> Mapping | None:
        """PMI_process_mapping: (vector,(first,nodes,tasks),...), over again until it is enough. None if it is none."""
        found = _vector(text.replace(" ", ""))
        if found is None:
            return None
        once = [[int(word) for word in block] + [1] for block in _block(found[1])]
        per_round = sum(nodes * tasks for _, nodes, tasks, _ in once)
        if not per_round:
            return None
        rounds = -(-size // per_round)
        if len(once) == 1 and rounds > 1:
            first, nodes, tasks, _ = once[0]
            return cls([[first, nodes, tasks, rounds]])
        return cls(once * rounds)
