"""Jobs: submit, wait, watch, cancel, list them (spec 06, section 15; spec 08).

Names that are also those of submodules (`flux.job.JobID` is the class, not the module it is in) are imported at
once, for importing such a submodule would put it in their place. The others load when they are first used.
"""

from __future__ import annotations

from importlib import import_module

from flux.job.JobID import JobID, id_encode, id_parse
from flux.job.Jobspec import Jobspec, JobspecV1, validate_jobspec

#: Where the other names of this package are.
_PLACES = {
    "BatchConfig": "flux.job._utils",
    "EventLogEvent": "flux.eventlog",
}

__all__ = ["JobID", "Jobspec", "JobspecV1", "id_encode", "id_parse", "validate_jobspec", *_PLACES]


def __getattr__(name: str) -> object:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(place), name)
    globals()[name] = value
    return value
