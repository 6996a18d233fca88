"""Which way a broker finds the others (spec 04, 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fluxlet.overlay.bootstrap.boot import BootError, Bootstrap, Single

#: In the order in which they are tried.
METHODS = ("config", "simple", "libpmi2", "libpmi", "slurm", "single")


def choose(
    attributes: Mapping[str, str | None], config: Mapping[str, Any], environ: Mapping[str, str], hostname: str
) -> Bootstrap:
    """The first method that works here, or the one that the user wants.

    Args:
        attributes: as the command line sets them.
        config: the configuration.
        environ: the broker's environment.
        hostname: of this broker.

    Raises BootError.
    """
    wanted = attributes.get("broker.boot-method")
    names = [wanted] if wanted else environ.get("FLUX_PMI_CLIENT_METHODS", "").split() or list(METHODS)
    for name in names:
        method, _, _ = name.partition(":")
        if method not in METHODS:
            raise BootError(f"bootstrap: plugin matching '{name}' not found")
        found = _try(method, config, environ, hostname)
        if found is not None:
            return found
    raise BootError(f"bootstrap: no method works here of: {' '.join(names)}")


def _try(method: str, config: Mapping[str, Any], environ: Mapping[str, str], hostname: str) -> Bootstrap | None:
    """A method, if it works here. Its code is imported only then. Raises BootError."""
    if method == "simple" and {"PMI_FD", "PMI_RANK", "PMI_SIZE"} <= environ.keys():
        from fluxlet.overlay.bootstrap.pmi import PmiBootstrap

        return PmiBootstrap.from_environment(environ)
    if method == "config" and "bootstrap" in config:
        from fluxlet.overlay.bootstrap.config import ConfigBootstrap

        return ConfigBootstrap.from_config(config, hostname)
    if method == "slurm" and "SLURM_STEP_ID" in environ:
        from fluxlet.overlay.bootstrap.pmi import PmiBootstrap
        from fluxlet.overlay.bootstrap.slurm import client

        found = client(environ)
        return None if found is None else PmiBootstrap(found, "slurm")
    return Single() if method == "single" else None
