"""Nested dicts whose values are named by paths: ``a.b.c`` (spec 02, 13.4).

A key is always split at its dots; what is kept under a key that has dots itself is not reached.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any


def get_treedict(in_dict: Mapping[str, Any], key: str, default: Any = None) -> Any:
    """The value at the path `key`, or `default` if there is none; a path through a scalar leads nowhere."""
    node: Any = in_dict
    for name in key.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return default
        node = node[name]
    return node


def set_treedict(in_dict: MutableMapping[str, Any], key: str, val: Any) -> None:
    """Sets the value at the path `key`, making the dicts on the way. A scalar on the way is a TypeError."""
    *path, last = key.split(".")
    node = in_dict
    for name in path:
        node = node.setdefault(name, {})
        if not isinstance(node, MutableMapping):
            raise TypeError(f"cannot set {key!r}: {name!r} is a {type(node).__name__}, not a mapping")
    node[last] = val


def del_treedict(in_dict: MutableMapping[str, Any], key: str, remove_empty: bool = False) -> None:
    """Deletes the value at the path `key`, and with `remove_empty` the dicts on the way that are left empty.

    Raises KeyError with the first name on the path that is missing.
    """
    *path, last = key.split(".")
    nodes: list[MutableMapping[str, Any]] = [in_dict]
    for name in path:
        below = nodes[-1][name]
        if not isinstance(below, MutableMapping):
            raise KeyError(key)
        nodes.append(below)
    del nodes[-1][last]
    while remove_empty and path and not nodes.pop():
        del nodes[-1][path.pop()]


def dict_merge(src: dict[Any, Any], new: Mapping[Any, Any]) -> dict[Any, Any]:
    """Puts all of `new` into `src`, dicts into dicts, the rest in place of what was there; returns `src`.

    `src` gets copies of the dicts in `new`, so that what is merged into it later does not change `new`.
    """
    for key, value in new.items():
        if isinstance(value, dict):
            below = src.get(key)
            src[key] = dict_merge(below if isinstance(below, dict) else {}, value)
        else:
            src[key] = value
    return src
