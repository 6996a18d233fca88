"""The name under which the calling thread shows in ps and top (spec 02, section 16).

A title is decoration: a process must not fail for want of one, so nothing here raises.
"""

from __future__ import annotations

import ctypes
import platform

_PR_SET_NAME = 15


def set_proctitle(name: str) -> None:
    """Sets the calling thread's name, of which Linux keeps the first 15 bytes. Elsewhere: nothing."""
    if platform.system() != "Linux":
        return
    try:
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode("utf-8", "surrogateescape"), 0, 0, 0)
    except (OSError, AttributeError, UnicodeError):
        # No C library that can be opened, one without prctl, or a name that has no encoding.
        return
