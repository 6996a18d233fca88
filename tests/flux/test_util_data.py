"""flux.util's dicts, file references and trees, beyond the golden cases."""

from __future__ import annotations

import base64
import stat
from pathlib import Path
from typing import Any

import pytest

from flux.util import Fileref, Tree, del_treedict, dict_merge, get_treedict, set_treedict


@pytest.mark.parametrize(
    ("tree", "key", "value"),
    [
        ({"a": {"b": None}}, "a.b", None),  # there, though null
        ({"a": None}, "a.b", 7),
        ({"a": [1]}, "a.0", 7),
        ({"a": {"": 1}}, "a.", 1),
        ({"a": {"b": 0}}, "a.b", 0),
    ],
)
def test_value_at_a_path(tree: dict[str, Any], key: str, value: Any) -> None:
    assert get_treedict(tree, key, 7) == value


@pytest.mark.parametrize("key", ["a.b", "a.b.c"])
def test_setting_through_a_scalar_says_where(key: str) -> None:
    with pytest.raises(TypeError, match="'a' is a int, not a mapping"):
        set_treedict({"a": 1}, key, 2)


def test_deleting_removes_only_what_is_left_empty() -> None:
    tree: dict[str, Any] = {"a": {"b": {"c": 1}, "d": 2}}
    del_treedict(tree, "a.b.c", remove_empty=True)
    assert tree == {"a": {"d": 2}}
    del_treedict(tree, "a.d", remove_empty=True)
    assert tree == {}


@pytest.mark.parametrize("key", ["x", "a.x", "a.b.c"])
def test_deleting_what_is_not_there_is_a_key_error(key: str) -> None:
    tree = {"a": {"b": 1}}
    with pytest.raises(KeyError):
        del_treedict(tree, key, remove_empty=True)
    assert tree == {"a": {"b": 1}}


def test_merged_dict_shares_nothing_with_its_source() -> None:
    new = {"a": {"b": {"c": 1}}}
    merged: dict[str, Any] = dict_merge({}, new)
    dict_merge(merged, {"a": {"b": {"d": 2}}})
    assert merged == {"a": {"b": {"c": 1, "d": 2}}}
    assert new == {"a": {"b": {"c": 1}}}


@pytest.mark.parametrize(
    ("content", "encoding"),
    [("ƒ\n".encode(), "utf-8"), (b"", "utf-8"), (b"\xff\xfe", "base64"), (b"a\0b", "base64")],
)
def test_file_becomes_text_where_json_of_flux_can_carry_it(tmp_path: Path, content: bytes, encoding: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    path.chmod(0o640)
    ref = Fileref(path, perms=0o777)
    assert (stat.S_IMODE(ref["mode"]), stat.S_ISREG(ref["mode"])) == (0o640, True)
    assert (ref["size"], ref["encoding"]) == (len(content), encoding)
    data = ref["data"]
    assert (data.encode() if encoding == "utf-8" else base64.b64decode(data)) == content


def test_directory_is_no_file() -> None:
    with pytest.raises(IsADirectoryError):
        Fileref("/")


def printed(capsys: pytest.CaptureFixture[str], tree: Tree, **options: Any) -> list[str]:
    tree.render(**options)
    return capsys.readouterr().out.splitlines()


def test_only_equal_leaves_are_combined(capsys: pytest.CaptureFixture[str]) -> None:
    tree = Tree(".", combine_children=True)
    tree.append("x")
    tree.append("y").append("z")
    tree.append("x")
    tree.append("y")
    tree.append("x", prefix="p")
    tree.add("w", combine_children=False).append_tree(Tree("v")).increment()
    assert printed(capsys, tree) == [
        ".",
        "├── 2*[x]",
        "├── y",
        "│   └── z",
        "├── y",
        "p ├── x",
        "└── w",
        "    └── 2*[v]",
    ]


def test_child_may_grow_after_it_was_added(capsys: pytest.CaptureFixture[str]) -> None:
    tree = Tree(".", combine_children=True)
    first, second = tree.append("x"), tree.append("x")
    second.append("a")
    second.append("a")
    assert first is not second
    assert printed(capsys, tree, style="compact") == [".", "├─x", "└─x", "  └─2*[a]"]


@pytest.mark.parametrize(
    ("level", "skip_root", "lines"),
    [
        (0, False, ["r"]),
        (1, False, ["r", "`-- a"]),
        (2, False, ["r", "`-- a", "    `-- b"]),
        (0, True, []),
        (1, True, ["a"]),
        (2, True, ["a", "`-- b"]),
    ],
)
def test_level_limits_the_depth_below_the_root(
    capsys: pytest.CaptureFixture[str], level: int, skip_root: bool, lines: list[str]
) -> None:
    tree = Tree("r")
    tree.append("a").append("b").append("c")
    assert printed(capsys, tree, style="ascii", level=level, skip_root=skip_root) == lines


def test_unknown_terminal_is_132_wide(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.__stdout__", None)
    (line,) = printed(capsys, Tree("x" * 200))
    assert line == "x" * 131 + "+"
