"""Resources: sets of them, what an instance has, and their state (spec 07, section 8)."""

from __future__ import annotations

from importlib import import_module

from flux.resource.ResourceSet import ResourceSet
from flux.resource.ResourceSetImplementation import ResourceSetImplementation
from flux.resource.Rv1Set import Rv1Set

#: Where the other names of this package are; they load when they are first used.
_PLACES: dict[str, str] = {}

__all__ = ["ResourceSet", "ResourceSetImplementation", "Rv1Set", *_PLACES]


def __getattr__(name: str) -> object:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(place), name)
    globals()[name] = value
    return value
