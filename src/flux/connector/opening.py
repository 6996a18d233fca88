"""From a URI to a connector: what `flux_open` does (spec 01, 2.3 and 2.4).

A URI that begins with `.` or `/` names an ancestor of the enclosing instance: `.` that instance, `..` its
parent, `/` the root of the hierarchy. Anything else is `SCHEME://PATH`.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from flux.connector.base import Connector

#: What to say to somebody who has no instance: the likeliest reason that the default socket is missing.
HINT = "no Flux instance was found: run this program under `flux start`, or set FLUX_URI to an instance's URI"

_DEFAULT_URI = "local:///run/flux/local"


def _local(path: str) -> Connector:
    from flux.connector.local import LocalConnector

    return LocalConnector(path)


def _fd(path: str) -> Connector:
    from flux.connector.fd import FdConnector

    return FdConnector(path)


def _loop(path: str) -> Connector:
    from flux.connector.loop import LoopConnector

    return LoopConnector(path)


def _ssh(path: str) -> Connector:
    host, slash, socket_path = path.partition("/")
    if slash and "FLUX_SSH" not in os.environ and os.path.exists(slash + socket_path):
        # `flux uri JOBID` prints such a URI for what runs on this very host, which need not let anybody in by ssh.
        import socket

        if host == socket.gethostname():
            return _local(slash + socket_path)
    from flux.connector.ssh import SshConnector

    return SshConnector(path)


_SCHEMES: dict[str, Callable[[str], Connector]] = {"local": _local, "fd": _fd, "loop": _loop, "ssh": _ssh}


def open_uri(uri: str | None, attr_get: Callable[[str, str], str]) -> Connector:
    """The connector for a URI.

    Args:
        uri: None for the environment's FLUX_URI, or else the system instance.
        attr_get: function of (uri, name) that gives an attribute of the instance at a URI, for ancestor paths.

    Raises OSError with errno and text as spec 01, 2.3 lists them.
    """
    implied = uri is None
    if uri is None:
        uri = os.environ.get("FLUX_URI", _DEFAULT_URI)
    elif uri.startswith((".", "/")):
        uri = _ancestor(uri, attr_get)
    scheme, _, path = uri.partition("://")
    factory = _SCHEMES.get(scheme)
    if factory is None:
        raise OSError(errno.ENOENT, f"Unable to find connector name '{scheme}'")
    try:
        return factory(path.rstrip(" \t"))
    except FileNotFoundError as exc:
        if implied and "FLUX_URI" not in os.environ:
            exc.add_note(HINT)
        raise


def _ancestor(path: str, attr_get: Callable[[str, str], str]) -> str:
    """The URI that an ancestor path stands for, seen from the enclosing instance."""
    here = os.environ.get("FLUX_URI", _DEFAULT_URI)
    elements = [element for element in path.split("/") if element not in ("", ".")]
    if path != "/" and path.startswith("/"):
        raise OSError(errno.EINVAL, f"{path}: invalid URI")
    for element in elements:
        if element != "..":
            raise OSError(errno.EINVAL, f"{path}: invalid URI path element '{element}'")
    level = int(attr_get(here, "instance-level"))
    target = 0 if path == "/" else max(0, level - len(elements))
    while level > target:
        here = attr_get(here, "parent-uri")
        level -= 1
    return here
