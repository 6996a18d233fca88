"""Linked brokers whose modules `overlay` know the tree: for what several ranks have to say of each other."""

from __future__ import annotations

from linked import LinkedInstance

from fluxlet.broker.host import Module
from fluxlet.modules.overlay import Overlay
from fluxlet.overlay.topology import Custom


def overlay_of(instance: LinkedInstance, rank: int) -> Overlay:
    """The module of a rank."""
    module = instance.brokers[rank].modules["overlay"]
    assert isinstance(module, Module)
    assert isinstance(module.instance, Overlay)
    return module.instance


def grown(directory: str, *parents: int) -> LinkedInstance:
    """Brokers in a tree, all of them up, on hosts n0, n1 and so on; not started yet."""
    instance = LinkedInstance(directory, *parents)
    size = len(instance.brokers)
    for broker in instance.brokers:
        broker.attributes.set_internal("hostlist", f"n[0-{size - 1}]")
        overlay_of(instance, broker.rank).grow(Custom(size, "custom", instance.parents))
    for rank in range(size - 1, 0, -1):
        parent, child = overlay_of(instance, instance.parents[rank]), overlay_of(instance, rank)

        def tell(status: str, parent: Overlay = parent, rank: int = rank) -> None:
            parent.child_is(rank, status)

        child.status_changed = tell
        parent.child_is(rank, child.subtree.status)
    return instance
