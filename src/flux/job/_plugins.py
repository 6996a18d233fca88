"""Finding the plugins of validators and frobnicators: by name in a namespace, on a path, or as a file (15.12)."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from typing import Any

from flux.importer import import_path, import_plugins

#: Names of plugins (None: the command line does not say), options so far, and the rest of it.
Parsed = tuple[list[str] | None, argparse.Namespace, list[str]]


def add_option(parser: argparse.ArgumentParser) -> None:
    """Adds ``--plugins``, unless the parser has it."""
    if "--plugins" not in parser._option_string_actions:
        text = "comma separated list of plugins: names or paths"
        parser.add_argument("--plugins", "--plugin", action="append", default=None, metavar="PLUGINS", help=text)


def parse(argv: Sequence[str], parser: argparse.ArgumentParser) -> Parsed:
    """Which plugins a command line asks for (``--plugins=A,B``; None: it does not say), and what else it has."""
    add_option(parser)
    args, rest = parser.parse_known_args(list(argv))
    if args.plugins is None:
        return None, args, rest
    return [name for value in args.plugins for name in value.split(",") if name], args, rest


def find(names: Iterable[str], namespace: str, pluginpath: Iterable[str] | None, cls: str, kind: str) -> dict[str, Any]:
    """The classes `cls` of plugins, by name.

    Args:
        names: names in the namespace, or paths of files.
        namespace: dotted name of the package that plugins are in.
        pluginpath: directories where that package may be, too.
        cls: name of the class.
        kind: what errors call the plugins.

    Raises ValueError for a plugin that is not found.
    """
    modules: dict[str, Any] | None = None
    found = {}
    for name in names:
        path = _path(name, namespace, pluginpath or ())
        if path is not None:
            module: Any = import_path(path)
        else:
            if modules is None:
                modules = import_plugins(namespace)
            module = modules.get(name)
        if module is None or not hasattr(module, cls):
            raise ValueError(f"{kind} plugin '{name}' not found")
        found[name] = getattr(module, cls)
    return found


def _path(name: str, namespace: str, pluginpath: Iterable[str]) -> str | None:
    """The file of a plugin that is one, or is on the plugin path; None: it can only be in the namespace."""
    if os.sep in name or name.endswith(".py"):
        return name if os.path.exists(name) else None
    for directory in pluginpath:
        path = os.path.join(directory, *namespace.split("."), f"{name}.py")
        if os.path.exists(path):
            return path
    return None
