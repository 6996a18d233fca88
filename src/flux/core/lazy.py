"""Names of a package that load when they are first used, those of its submodules among them.

Programs name submodules that they have not imported (`flux.resource.list.resource_list`), for the reference imports
them with their package. Here they load at that moment. `dir` has the names before that: programs look there for what
a release of Flux can do (radical.utils does, for `JournalConsumer`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def loader(namespace: dict[str, Any], places: Mapping[str, str]) -> Callable[[str], Any]:
    """The `__getattr__` of a package, which also gets a `__dir__`.

    Args:
        namespace: the package's `globals()`.
        places: the modules where names are that are not those of submodules.

    It raises AttributeError for a name that the package has not.
    """
    package = namespace["__name__"]

    def __getattr__(name: str) -> Any:
        place = places.get(name)
        if place is not None:
            value = namespace[name] = getattr(import_module(place), name)
            return value
        if not name.startswith("__"):
            full = f"{package}.{name}"
            try:
                return import_module(full)
            except ModuleNotFoundError as exc:
                if exc.name != full:
                    raise
        raise AttributeError(f"module '{package}' has no attribute '{name}'")

    namespace["__dir__"] = lambda: sorted({*namespace, *places})
    return __getattr__
