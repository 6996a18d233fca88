"""The environment that `flux` gives to what it runs (spec 03, 2.3 and 2.4)."""

from __future__ import annotations

import os
from collections.abc import Mapping

from flux.conf_builtin import conf_builtin_get

#: What the driver has set for every command, and `flux env` shows. PATH too, which the driver may have changed:
#: to set it to what it is does no harm.
EXPORTED = (
    "PATH",
    "FLUX_EXEC_PATH",
    "FLUX_CONNECTOR_PATH",
    "FLUX_MODULE_PATH",
    "LUA_PATH",
    "LUA_CPATH",
    "MANPATH",
    "FLUX_RC_EXTRA",
    "FLUX_SHELL_RC_PATH",
    "FLUX_URI",
)


def python_path(environ: Mapping[str, str]) -> str:
    """PYTHONPATH with which any Python finds this flux package: ``$FLUX_PYTHONPATH_PREPEND:<flux>:$PYTHONPATH``."""
    parts = [
        *environ.get("FLUX_PYTHONPATH_PREPEND", "").split(os.pathsep),
        conf_builtin_get("python_path"),
        *environ.get("PYTHONPATH", "").split(os.pathsep),
    ]
    return os.pathsep.join(dict.fromkeys(part for part in parts if part))
