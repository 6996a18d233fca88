"""Where this installation keeps its parts (spec 02, section 16; spec 03, 13.1 for the names).

The reference has these paths compiled in. Ours follow from where the `flux` package lies: everything is under
the instance package `fluxlet` beside it, which exists wherever an instance can run:

    <site>/flux/                 this package
    <site>/fluxlet/pythonpath    PYTHONPATH for other Pythons: holds `flux` and nothing else
    <site>/fluxlet/libexec/cmd   sub-commands as files (the built-in ones are Python modules and need none)

What Flux has and we have no files for (Lua, manual pages, C plugins) is answered with the place in the same
tree where it would be: callers put these into search paths, where a missing directory does no harm.
"""

from __future__ import annotations

import os


def _installed() -> dict[str, str]:
    site = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    home = os.path.join(site, "fluxlet")
    python_path = os.path.join(home, "pythonpath")
    return {
        # Of the machine, not of this installation: a system Flux would use these too.
        "confdir": "/etc/flux",
        "rundir": "/run/flux",
        "libexecdir": f"{home}/libexec",
        "datadir": f"{home}/share",
        "lua_cpath_add": f"{home}/lua/?.so",
        "lua_path_add": f"{home}/lua/?.lua",
        "python_path": python_path if os.path.isdir(python_path) else site,
        "python_wrapper": f"{home}/libexec/py-runner.py",
        "man_path": f"{home}/share/man",
        "exec_path": f"{home}/libexec/cmd",
        "connector_path": f"{home}/connectors",
        "module_path": f"{home}/lib/modules",
        "rc1_path": "flux modprobe rc1",
        "rc3_path": "flux modprobe rc3",
        "cmdhelp_pattern": f"{home}/share/help.d/*.json",
        "pmi_library_path": f"{home}/lib/libpmi.so",
        "shell_path": f"{home}/libexec/flux-shell",
        "shell_pluginpath": f"{home}/shell/plugins",
        "shell_initrc": f"{home}/shell/initrc.lua",
        "jobtap_pluginpath": f"{home}/jobtap-plugins",
        "upmi_pluginpath": f"{home}/upmi-plugins",
        "no_docs_path": f"{home}/share/.nodocs",
    }


# What a source tree has no own value for.
_INSTALLED_ONLY = frozenset({"rundir"})


def conf_builtin_get(name: str, which: str = "auto") -> str:
    """A built-in configuration value by name.

    Args:
        name: e.g. ``exec_path``; the names are those of RPC ``broker.conf-builtin``.
        which: ``auto``, ``installed`` or ``intree``. We have one installation, so they differ only in that
            ``intree`` has no ``rundir``.

    Raises:
        ValueError: unknown `name` or `which`.
    """
    if which not in ("auto", "installed", "intree"):
        raise ValueError("which must be one of auto, installed, or intree")
    values = _installed()
    if name not in values or (which == "intree" and name in _INSTALLED_ONLY):
        raise ValueError(f"No builtin config value for '{name}'")
    return values[name]
