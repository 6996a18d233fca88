"""The environment that `flux` makes for its sub-commands (spec 03, 2.3).

Pure: an environment in, the variables to set out. Colon-separated lists lose their duplicates, the first stays.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from flux.conf_builtin import conf_builtin_get


def unique(*parts: str | None, separator: str = ":") -> str:
    """The parts of several lists as one list, each part once."""
    words = [word for part in parts if part for word in part.split(separator) if word]
    return separator.join(dict.fromkeys(words))


def driver_environment(environ: Mapping[str, str], front_end: str | None) -> dict[str, str]:
    """What to set for sub-commands.

    Args:
        environ: the environment as the user has it.
        front_end: the path of the running `flux` command.
    """
    get = environ.get
    result = {
        "FLUX_EXEC_PATH": unique(get("FLUX_EXEC_PATH_PREPEND"), conf_builtin_get("exec_path"), get("FLUX_EXEC_PATH")),
        "FLUX_CONNECTOR_PATH": unique(
            get("FLUX_CONNECTOR_PATH_PREPEND"), conf_builtin_get("connector_path"), get("FLUX_CONNECTOR_PATH")
        ),
        "FLUX_MODULE_PATH": unique(
            get("FLUX_MODULE_PATH_PREPEND"), conf_builtin_get("module_path"), get("FLUX_MODULE_PATH")
        ),
        "MANPATH": unique(conf_builtin_get("man_path"), get("MANPATH")),
    }
    if not get("MANPATH"):
        result["MANPATH"] += ":"  # an empty entry: the system's own pages
    for name, where in (("LUA_PATH", "lua_path_add"), ("LUA_CPATH", "lua_cpath_add")):
        mine = unique(get(f"FLUX_{name}_PREPEND"), conf_builtin_get(where), get(name), separator=";")
        result[name] = f"{mine};;"  # the same for Lua
    if get("FLUX_PYTHONPATH_PREPEND"):
        result["PYTHONPATH"] = unique(get("FLUX_PYTHONPATH_PREPEND"), get("PYTHONPATH"))
    for name in ("FLUX_RC_EXTRA", "FLUX_SHELL_RC_PATH"):
        if name in environ:
            result[name] = unique(environ[name])
    path = search_path(get("PATH", os.defpath), front_end)
    if path != get("PATH"):
        result["PATH"] = path
    return result


def search_path(path: str, front_end: str | None) -> str:
    """PATH in which `flux` is `front_end`; unchanged if it is already.

    Its directory goes no further forward than it must: a virtual environment's also holds a python.
    """
    if front_end is None:
        return path
    directories = path.split(":") if path else []
    directory = os.path.dirname(front_end)
    for place, other in enumerate(directories):
        candidate = os.path.join(other or ".", "flux")
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            if os.path.samefile(candidate, front_end):
                return path
            return ":".join([*directories[:place], directory, *directories[place:]])
    return ":".join([*directories, directory])


def instance_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What to set for an instance besides, so that what it starts finds our `flux` package: PYTHONPATH."""
    return {"PYTHONPATH": unique(conf_builtin_get("python_path"), environ.get("PYTHONPATH"))}


def front_end() -> str | None:
    """The path of the `flux` command that this process is, or would be; None without one (`python -m fluxlet`)."""
    for path in (sys.argv[0], os.path.join(os.path.dirname(sys.executable), "flux")):
        if os.path.basename(path) == "flux" and os.path.isfile(path) and os.access(path, os.X_OK):
            return os.path.abspath(path)
    return None
