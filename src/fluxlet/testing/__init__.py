"""For the tests of programs that use Flux: real instances, in a with statement or as pytest fixtures.

    from fluxlet.testing import Instance

    with Instance() as instance, instance.handle() as handle:
        assert handle.get_size() == 1

docs/testing.md says more. pytest loads this package in every run, for its plugin: so that costs nothing, the
names are imported when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fluxlet.testing.instance import Instance, InstanceError

__all__ = ["Instance", "InstanceError"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fluxlet.testing import instance

    return getattr(instance, name)
