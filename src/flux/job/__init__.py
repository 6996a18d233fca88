"""Jobs: submit, wait, watch, cancel, list them (spec 06, section 15; spec 08).

Names load with the submodule that has them when they are first used.
"""

from __future__ import annotations

from importlib import import_module

#: Where the names of this package are.
_PLACES = {
    "BatchConfig": "flux.job._utils",
    "Jobspec": "flux.job.Jobspec",
    "JobspecV1": "flux.job.Jobspec",
    "validate_jobspec": "flux.job.Jobspec",
    "JobID": "flux.job.JobID",
    "id_encode": "flux.job.JobID",
    "id_parse": "flux.job.JobID",
}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> object:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(place), name)
    globals()[name] = value  # a submodule of the same name is hidden behind it, as in the reference
    return value
