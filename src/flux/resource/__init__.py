"""Resources: sets of them, what an instance has, and their state (spec 07, section 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flux.core.lazy import loader

# Those that are called like their modules: whoever imports such a module first must not hide its class here.
from flux.resource.ResourceCount import ResourceCount
from flux.resource.ResourcePool import ResourcePool
from flux.resource.ResourceSet import ResourceSet
from flux.resource.ResourceSetImplementation import ResourceSetImplementation
from flux.resource.Rv1Pool import Rv1Pool
from flux.resource.Rv1Set import Rv1Set

if TYPE_CHECKING:
    from flux.resource.journal import ResourceJournalConsumer as ResourceJournalConsumer
    from flux.resource.list import SchedResourceList as SchedResourceList
    from flux.resource.list import resource_list as resource_list
    from flux.resource.ResourcePoolImplementation import InfeasibleRequest as InfeasibleRequest
    from flux.resource.ResourcePoolImplementation import InsufficientResources as InsufficientResources
    from flux.resource.status import ResourceStatus as ResourceStatus
    from flux.resource.status import resource_status as resource_status

#: Where the other names of this package are; they load when they are first used.
_PLACES: dict[str, str] = {
    "InfeasibleRequest": "flux.resource.ResourcePoolImplementation",
    "InsufficientResources": "flux.resource.ResourcePoolImplementation",
    "ResourceJournalConsumer": "flux.resource.journal",
    "ResourceStatus": "flux.resource.status",
    "SchedResourceList": "flux.resource.list",
    "resource_list": "flux.resource.list",
    "resource_status": "flux.resource.status",
}

__all__ = [
    "ResourceCount",
    "ResourcePool",
    "ResourceSet",
    "ResourceSetImplementation",
    "Rv1Pool",
    "Rv1Set",
    *_PLACES,
]

__getattr__ = loader(globals(), _PLACES)
