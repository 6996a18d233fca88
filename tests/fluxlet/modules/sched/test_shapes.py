"""Jobspecs of any kind: each is understood, or refused with a sentence; none is the scheduler's end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flux.resource._pool import Pool
from flux.resource.Rv1Set import Node, Rv1Set
from fluxlet.modules.sched.shapes import Refused, Shapes


def shapes() -> Shapes:
    resources = Rv1Set()
    for rank in range(4):
        resources.nodes[rank] = Node(0b1111, 0b1, f"n{rank}")
    resources.properties = {"a": {0, 1}, "b": {1, 2}}
    pool = Pool({rank: (node.cores, node.gpus) for rank, node in resources.nodes.items()})
    pool.up = pool.ranks
    return Shapes(resources, pool)


def jobspec(constraints: Any = None, **slot: Any) -> bytes:
    core = {"type": "core", "count": 1}
    resources = [{"type": "slot", "count": 1, "label": "task", "with": [core], **slot}]
    system = {} if constraints is None else {"constraints": constraints}
    return json.dumps({"resources": resources, "attributes": {"system": system}}).encode()


@pytest.mark.parametrize(
    ("constraints", "ranks"),
    [
        (None, 0b1111),
        ({}, 0b1111),
        ({"properties": ["a"]}, 0b0011),
        ({"properties": ["a", "^b"]}, 0b0001),
        ({"hostlist": ["n[1-2]"]}, 0b0110),
        ({"ranks": ["0,3"]}, 0b1001),
        ({"and": []}, 0b1111),
        ({"or": []}, 0b1111),
        ({"or": [{"properties": ["a"]}, {"ranks": ["3"]}]}, 0b1011),
        ({"not": [{"properties": ["a"]}, {"properties": ["b"]}]}, 0b1101),
        ({"properties": ["a"], "ranks": ["1-3"]}, 0b0010),
        # Nobody is to wait while these are taken apart.
        ({"ranks": ["1-2147483647"]}, 0b1110),
        ({"hostlist": ["n[0-1000000]", "m[0-1000000]"]}, 0b1111),
    ],
)
def test_ranks_that_a_constraint_lets_in(constraints: Any, ranks: int) -> None:
    assert shapes().of(jobspec(constraints))[0].ranks == ranks


def test_equal_requests_share_a_shape() -> None:
    known = shapes()
    assert known.of(jobspec())[0] is known.of(jobspec())[0]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"resources": [{"type": "slot\xff", "count": 1}]}',
        b'{"resources": [{"type": "slot", "count": 1' + b"0" * 400 + b"}]}",
        b'{"resources": ' + b"[" * 20000 + b"]" * 20000 + b"}",
        b'{"attributes": {"system": {"duration": 1e999}}, "resources": [1]}',
        b'{"attributes": {"system": {"constraints": ' + b'{"and": [' * 500 + b"]}" * 500 + b"}}}",
        jobspec({"properties": [None]}, count=10**18),
        jobspec(count="1-1000000000:1:+:1"),
        b"nonsense",
        b"",
    ],
)
def test_oddities_are_refused(raw: bytes) -> None:
    with pytest.raises(Refused):
        shapes().of(raw)


WORDS = st.sampled_from(
    ["resources", "attributes", "system", "constraints", "type", "count", "with", "slot", "core", "node"]
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3), WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(WORDS, inner, max_size=4),
        st.fixed_dictionaries({"type": WORDS, "count": inner, "with": st.lists(inner, max_size=2)}),
        st.fixed_dictionaries({"and": st.lists(inner, max_size=2), "ranks": st.lists(inner, max_size=2)}),
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(resources=JSON, constraints=JSON, duration=JSON)
def test_whatever_comes_is_understood_or_refused(resources: Any, constraints: Any, duration: Any) -> None:
    system = {"constraints": constraints, "duration": duration}
    spec = {"resources": resources, "attributes": {"system": system}}
    try:
        shape, seconds = shapes().of(json.dumps(spec).encode("utf-8", "surrogatepass"))
    except Refused as exc:
        assert str(exc)  # noqa: PT017  # it is one of two outcomes
    else:
        assert seconds >= 0
        assert shape.need.slots > 0
