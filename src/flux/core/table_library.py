"""The functions about nothing in particular: errors, versions, configuration (spec 02, 9.2 and 9.4)."""

from __future__ import annotations

import errno
from typing import Any

from flux.constants import FLUX_CONF_AUTO, FLUX_CONF_INSTALLED, FLUX_CONF_INTREE
from flux.core.kinds import INT, OUT, TEXT, function
from flux.core.table_future import text_of
from flux.core.table_message import store
from flux.wrapper import local_error, strerror

#: The release of flux-core whose API this is.
_VERSION = (0, 88, 0)

_WHICH = {FLUX_CONF_INSTALLED: "installed", FLUX_CONF_INTREE: "intree", FLUX_CONF_AUTO: "auto"}


@function("flux_strerror", INT)
def _strerror(errnum: int) -> bytes:
    return strerror(errnum).encode()


@function("flux_core_version_string")
def _version_string() -> bytes:
    return ".".join(map(str, _VERSION)).encode()


@function("flux_core_version", OUT, OUT, OUT)
def _version(major: Any, minor: Any, patch: Any) -> int:
    for out, number in zip((major, minor, patch), _VERSION, strict=True):
        store(out, number)
    return _VERSION[0] << 16 | _VERSION[1] << 8 | _VERSION[2]


@function("flux_conf_builtin_get", TEXT, INT)
def _conf_builtin_get(name: bytes | None, which: int) -> bytes:
    from flux.conf_builtin import conf_builtin_get

    try:
        return conf_builtin_get(str(text_of(name)), _WHICH.get(which, "")).encode()
    except ValueError:
        raise local_error(errno.EINVAL) from None
