"""How a command's process ends."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn


def leave(code: int) -> NoReturn:
    """Ends the process. Python's own way out takes a fifth of the time of a short command, to free memory."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # closed: nobody can be told
            stream.flush()
    os._exit(code)
