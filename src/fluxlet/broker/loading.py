"""Which module a name or path stands for, and how it is run (spec 03, 13.4).

- The name of a built-in module: in this process. The names are those of the table in `builtins`.
- Another name: the first of NAME.so*, NAME.py in the directories of FLUX_MODULE_PATH.
- A path: a Python file is a process of its own, run by `flux module-python-exec`; or by the loader that the user
  names. The loader `inproc` runs the file's BrokerModule in this process: its RPCs take a tenth of the time, and it
  shares the broker's fate, and thread (`fluxlet.broker.host`).

Shared objects are modules for the reference's broker only.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from fluxlet.broker.builtins import LISTED, ON_DEMAND, SLEEPING, shown_path

if TYPE_CHECKING:
    from flux.brokermod import BrokerModule

#: The program that runs a Python file as a module.
PYTHON_LOADER = "module-python-exec"
#: What stands for no program: the broker itself.
IN_PROCESS = "inproc"

_NOT_FOUND = "module not found in search path"
_shared_object = re.compile(r"\.so(\.[0-9]+)*$").search


class Plan(NamedTuple):
    """How a module is to be run.

    Args:
        path: as `module.list` shows it: what the module can be loaded by again.
        builtin: one of the broker's own.
        factory: makes its object, called with (handle, broker, *args); None: it is a process.
        sleeping: that is soon enough when somebody asks it for something.
        argv: the command of that.
        label: what messages call the command.
    """

    path: str
    builtin: bool = False
    factory: Callable[..., BrokerModule] | None = None
    sleeping: bool = False
    argv: tuple[str, ...] = ()
    label: str = ""


def default_name(path: str) -> str:
    """The name of a module that is loaded without one."""
    name = path.rpartition("/")[2]
    suffix = _shared_object(name)
    return name[: suffix.start()] if suffix else name.removesuffix(".py")


def plan(path: str, loader: str | None, as_process: bool, search: str) -> Plan:
    """How the module `path` is run.

    Args:
        path: a name, or a path with a slash.
        loader: a program to run it; None: by the kind of file.
        as_process: the user wants a process.
        search: directories, separated by colons.

    Raises OSError ENOENT or EINVAL with the text for the user.
    """
    if "/" not in path:
        if loader is not None:
            raise OSError(errno.EINVAL, "module loader may only be specified with module path")
        if path in LISTED or path in ON_DEMAND:
            if as_process:
                raise OSError(errno.EINVAL, "built-in modules cannot execute in a separate process")
            if path in SLEEPING:
                return Plan(shown_path(path), True, lambda *args: _builtin(path)(*args), sleeping=True)
            return Plan(shown_path(path), True, _builtin(path))
        path = _find(path, search)
    if loader is not None and loader != IN_PROCESS:
        return Plan(path, argv=(loader, path), label=os.path.basename(loader))
    if path.endswith(".py"):
        if loader == IN_PROCESS:
            if as_process:
                raise OSError(errno.EINVAL, "a module with the loader inproc cannot execute in a separate process")
            return Plan(path, factory=_class_of(path))
        argv = (sys.executable, "-P", "-m", "fluxlet", PYTHON_LOADER, path)
        return Plan(path, argv=argv, label=PYTHON_LOADER)
    if _shared_object(path):
        raise OSError(errno.ENOENT, _NOT_FOUND)
    raise OSError(errno.ENOENT, "could not determine loader from path suffix")


def _find(name: str, search: str) -> str:
    for directory in search.split(":"):
        path = os.path.join(directory, f"{name}.py")
        if directory and os.path.isfile(path):
            return os.path.abspath(path)
    raise OSError(errno.ENOENT, _NOT_FOUND)


def _builtin(name: str) -> Callable[..., BrokerModule]:
    module, _, cls = (LISTED | ON_DEMAND)[name].partition(":")
    factory: Callable[..., BrokerModule] = getattr(import_module(module), cls)
    return factory


def _class_of(path: str) -> Callable[..., BrokerModule]:
    """The BrokerModule that a file defines. Raises OSError(EINVAL); and what the file raises."""
    from flux.brokermod import module_class

    try:
        cls = module_class(import_file(path))
    except ValueError as exc:
        raise OSError(errno.EINVAL, f"{os.path.basename(path)}: {exc}") from None

    def make(handle: Any, broker: Any, *args: str) -> BrokerModule:
        return cls(handle, *args)

    return make


def import_file(path: str) -> ModuleType:
    """Runs a Python file as a module of its own; each time anew. Raises OSError, and what the file raises."""
    # A name that is nobody's: a file may be called json.py.
    name = f"_flux_module_{default_name(path)}"
    module = ModuleType(name)
    module.__file__ = path
    with open(path, "rb") as file:
        source = file.read()
    sys.modules[name] = module  # dataclasses and the like look there
    try:
        exec(compile(source, path, "exec"), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module
