"""The formats of ``flux jobs``: built-in ones, and those of the user's files (spec 08, 9.3 and 4.2)."""

from __future__ import annotations

import os
from typing import Any

from flux.util import UtilConfig

_START = "{id.f58:>12} ?:{queue:<8.8} +:{username:<8} {name:<10.10+} "
_END = "{ntasks:>6} {nnodes:>6h} {contextual_time!F:>8h} {contextual_info}"

FORMATS = {
    "default": {
        "description": "Default flux-jobs format string",
        "format": f"{_START}{{status_abbrev:>2.2}} {_END}",
    },
    "cute": {
        "description": "Cute flux-jobs format string (default with emojis)",
        "format": f"{_START}{{status_emoji:>5.5}} {_END}",
    },
    "long": {
        "description": "Extended flux-jobs format string",
        "format": (
            f"{_START}{{status:>9.9}} {{ntasks:>6}} {{nnodes:>6h}} {{t_submit!d:%b%d %R::>12}} "
            "{t_remaining!F:>12h} {contextual_time!F:>8h} {contextual_info}"
        ),
    },
    "deps": {
        "description": "Show job urgency, priority, and dependencies",
        "format": (
            "{id.f58:>12} ?:{queue:<8.8} {name:<10.10+} {urgency:<3} {priority:<12} {state:<8.8} {dependencies}"
        ),
    },
    "endreason": {
        "description": "Show why each job ended",
        "format": f"{_START}{{status_abbrev:>2.2}} {{t_inactive!d:%b%d %R::>12h}} {{inactive_reason}}",
    },
}


class JobsConfig(UtilConfig):
    """The configuration of the command."""

    builtin_formats = FORMATS

    def __init__(self, toolname: str = "flux-jobs") -> None:
        super().__init__("flux-jobs", toolname, initial_dict={"formats": dict(FORMATS)})

    def validate(self, path: str | os.PathLike[str], conf: Any) -> None:
        """As of UtilConfig."""
        for key, value in conf.items():
            if key != "formats":
                raise ValueError(f"{path}: invalid key {key}")
            self.validate_formats(path, value)
