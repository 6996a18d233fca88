"""Loading plugins: a file as a module, or all modules of a namespace package (spec 02, section 16).

Rule: sys.path is, after each call, what it was before, also when a plugin cannot be imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
from collections.abc import Iterable
from importlib.machinery import SourceFileLoader
from types import ModuleType


def import_path(file_path: str | os.PathLike[str]) -> ModuleType:
    """Loads a Python source file, of any suffix, as a module.

    The module is named by the file's base name without ``.py`` and is not entered in sys.modules: each call
    loads anew.

    Raises:
        FileNotFoundError: there is no such file.
        Exception: whatever the file's code raises.
    """
    path = os.fspath(file_path)
    name = os.path.basename(path).removesuffix(".py")
    loader = SourceFileLoader(name, path)
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None:
        raise ImportError(f"cannot load {path} as a Python module", name=name, path=path)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def import_plugins_pkg(ns_pkg: ModuleType) -> dict[str, ModuleType]:
    """Imports the modules directly in a (namespace) package.

    Returns:
        module by name, the name being relative to the package (``urgency`` for ``my.plugins.urgency``).

    Raises:
        ImportError: a module could not be imported, for whatever reason; its exception is the cause.
    """
    plugins = {}
    for _, name, _ in pkgutil.iter_modules(ns_pkg.__path__):
        try:
            plugins[name] = importlib.import_module(f"{ns_pkg.__name__}.{name}")
        except Exception as exc:
            raise ImportError(f"failed to import {name} plugin: {exc}") from exc
    return plugins


def import_plugins(pkg_name: str, pluginpath: Iterable[str] | None = None) -> dict[str, ModuleType]:
    """Imports the modules of the package `pkg_name`; ``{}`` if there is no such package.

    Args:
        pkg_name: dotted name of a (namespace) package.
        pluginpath: directories searched for the package before those of sys.path (but after its first entry,
            the program's own directory).

    Raises:
        ImportError: as import_plugins_pkg(), or the package itself cannot be imported.
    """
    added = [os.fspath(directory) for directory in pluginpath or ()]
    sys.path[1:1] = added
    try:
        # A directory that was looked at before the plugin was written is remembered without it.
        importlib.invalidate_caches()
        try:
            package = importlib.import_module(pkg_name)
        except ModuleNotFoundError as exc:
            # The package, or one it lies in, is missing: no plugins. Something that it imports: an error.
            if exc.name is not None and f"{pkg_name}.".startswith(f"{exc.name}."):
                return {}
            raise
        return import_plugins_pkg(package)
    finally:
        # Not by restoring a copy: a plugin may have added to sys.path for a reason.
        for directory in added:
            sys.path.remove(directory)
