"""What the subcommands of flux resource share: formats, states, queues."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from flux.core.handle import Flux
from flux.util import UtilConfig

_FORMATS: dict[str, dict[str, dict[str, str]]] = {
    "status": {
        "default": {
            "description": "Default flux-resource status format string",
            "format": "{state:>12} {color_up}{up:>2}{color_off} {nnodes:>6} {nodelist}",
        },
        "long": {
            "description": "Long flux-resource status format string",
            "format": "{state:>12} {color_up}{up:>2}{color_off} {nnodes:>6} +:{reason:<30.30} {nodelist}",
        },
    },
    "drain": {
        "default": {
            "description": "Default flux-resource drain format string",
            "format": "{timestamp!d:%b%d %R::<12} {state:<8.8} {reason:<30.30+} {nodelist}",
        },
        "long": {
            "description": "Long flux-resource drain format string",
            "format": "{timestamp!d:%b%d %R::<12} {state:<8.8} {ranks:<8.8+} +:{reason:<30.30} {nodelist}",
        },
    },
    "list": {
        "default": {
            "description": "Default flux-resource list format string",
            "format": (
                "{state:>10} ?+:{queue:<5} ?:{propertiesx:<10.10+} {nnodes:>6} +:{ncores:>6} ?+:{ngpus:>5} {nodelist}"
            ),
        },
        "rlist": {
            "description": "Format including resource list details",
            # The reference has ?:+ before ngpus, which prints the +.
            "format": (
                "{state:>10} ?+:{queue:<5} ?:{propertiesx:<10.10+} {nnodes:>6} +:{ncores:>6} ?+:{ngpus:>5} {rlist}"
            ),
        },
    },
}


class ResourceConfig(UtilConfig):
    """The configuration of a subcommand: built-in formats, and those of the user's files."""

    def __init__(self, subcommand: str) -> None:
        tables = {name: {"formats": dict(formats)} for name, formats in _FORMATS.items()}
        super().__init__("flux-resource", subcommand=subcommand, initial_dict=tables)

    def validate(self, path: str | os.PathLike[str], conf: Any) -> None:
        """As of UtilConfig."""
        for table, keys in conf.items():
            if table not in _FORMATS:
                raise ValueError(f"{path}: invalid key {table}")
            if not isinstance(keys, dict):
                raise ValueError(f"{path}: '{table}' must be a mapping")
            for key, value in keys.items():
                if key == "formats":
                    self.builtin_formats = _FORMATS[table]
                    self.validate_formats(path, value)
                elif table == "list" and key == "hidden-queues":
                    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                        raise ValueError(f"{path}: 'list.hidden-queues' must be an array of strings")
                else:
                    raise ValueError(f"{path}: invalid key {table}.{key}")

    @property
    def hidden_queues(self) -> set[str]:
        """Queues that are shown only if they are asked for."""
        return set(self.config.get("hidden-queues", ()))


def states_of(text: str | None, default: str, valid: Iterable[str]) -> list[str]:
    """The states that an option names, in order. Raises ValueError for one that is none."""
    states = [state for state in (default if text is None else text).split(",") if state]
    for state in states:
        if state not in valid:
            raise ValueError(f"Invalid resource state {state} specified")
    return states


class Queues:
    """The queues of an instance, and which of them a node is in.

    Args:
        config: the instance's configuration.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.table: dict[str, dict[str, Any]] = config.get("queues", {})

    @classmethod
    def ask(cls, args: Any, handle: Flux | None) -> Queues:
        """Of an instance; or of the file that a test names."""
        if args.config_file:
            with open(args.config_file, encoding="utf-8") as file:
                return cls(json.load(file))
        if handle is None:
            return cls({})
        return cls(handle.rpc("config.get").get())

    def requires(self, name: str) -> set[str]:
        """The properties that nodes of a queue have; a virtual queue has those of its parent."""
        queue = self.table[name]
        parent = queue.get("parent")
        if parent in self.table and "requires" not in queue:
            queue = self.table[parent]
        return set(queue.get("requires", ()))

    def is_virtual(self, name: str) -> bool:
        """True for a queue that is a view of another one."""
        return "parent" in self.table[name]

    def named(self, text: str | None) -> list[str] | None:
        """The queues that an option names; None if it was not given. Raises ValueError for one that is none."""
        if text is None:
            return None
        names = text.split(",")
        for name in names:
            if name not in self.table:
                raise ValueError(f"--queue: {name}: no such queue")
        return names

    def constraint(self, names: list[str]) -> dict[str, Any]:
        """Lets in the nodes of any of the queues."""
        return {"or": [{"properties": sorted(self.requires(name))} for name in names]}


def include_errors(error: ValueError) -> ValueError:
    """The error for an --include that will not do."""
    return ValueError(f"--include: {error}")
