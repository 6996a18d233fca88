"""Task maps: encoding, schemes, errors."""

from __future__ import annotations

import pytest

from fluxlet.shell import taskmap


@pytest.mark.parametrize(
    ("order", "blocks"),
    [
        ([0, 0], [[0, 1, 2, 1]]),
        ([0, 0, 1], [[0, 1, 2, 1], [1, 1, 1, 1]]),  # as recorded of `-N2 -n3`
        ([0, 1, 0, 1], [[0, 2, 1, 2]]),
        ([0, 0, 1, 1, 0, 0, 1, 1], [[0, 2, 2, 2]]),
        ([1, 0], [[1, 1, 1, 1], [0, 1, 1, 1]]),
        ([0, 1, 2, 3], [[0, 4, 1, 1]]),
        ([], []),
    ],
)
def test_a_map_is_made_and_read(order: list[int], blocks: taskmap.Map) -> None:
    assert taskmap.from_nodes(order) == blocks
    assert taskmap.node_of_tasks(blocks) == order


def test_the_forms_of_a_map() -> None:
    assert taskmap.decode('{"version":1,"map":[[0,1,2,1]]}') == [[0, 1, 2, 1]]
    assert taskmap.decode("[[0,1,2,1]]") == [[0, 1, 2, 1]]
    assert taskmap.decode("(vector,(0,2,1),(0,1,1))") == [[0, 2, 1, 1], [0, 1, 1, 1]]
    assert taskmap.pmi_text([[0, 1, 2, 1], [1, 1, 1, 1]]) == "(vector,(0,1,2),(1,1,1))"
    for bad in ("", "x", "[[0,1]]", '{"version":2,"map":[]}', "(vector,(0,1))", "[[0,0,1,1]]", "[[true,1,1,1]]"):
        with pytest.raises(ValueError, match="invalid taskmap"):
            taskmap.decode(bad)


def test_cyclic() -> None:
    assert taskmap.node_of_tasks(taskmap.cyclic([2, 2], None)) == [0, 1, 0, 1]
    assert taskmap.node_of_tasks(taskmap.cyclic([3, 1], "2")) == [0, 0, 1, 0]
    with pytest.raises(ValueError, match=r"^invalid cyclic stride: x$"):
        taskmap.cyclic([1], "x")


def test_manual() -> None:
    assert taskmap.manual([1, 1], "[[1,1,1,1],[0,1,1,1]]") == [[1, 1, 1, 1], [0, 1, 1, 1]]
    with pytest.raises(ValueError, match=r"^invalid taskmap: got 1 nodes, expected 2$"):
        taskmap.manual([1, 1], "[[0,1,2,1]]")
    with pytest.raises(ValueError, match=r"^invalid taskmap: got 4 total tasks, expected 2$"):
        taskmap.manual([1, 1], "[[0,2,2,1]]")


def test_hosts() -> None:
    assert taskmap.node_of_tasks(taskmap.by_hosts(3, ["b", "a"], ["a", "b"])) == [1, 0, 1]
    assert taskmap.node_of_tasks(taskmap.by_hosts(3, ["a"], ["a", "a"])) == [0, 1, 0]
    with pytest.raises(ValueError, match=r"^host c not found in job nodelist$"):
        taskmap.by_hosts(1, ["c"], ["a", "b"])
